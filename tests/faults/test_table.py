"""The table of faults holds: all 31 are there, and every proof it names is a test."""

from pathlib import Path

import pytest

from tests.faults.results import ResultStore
from tests.faults.table import FAULTS, Fault
from tests.known_tests import is_there


def test_every_fault_is_in_the_table_once() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, 32))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.number))
def test_a_fault_has_proofs_and_they_are_there(fault: Fault) -> None:
    assert fault.proofs
    for proof in fault.proofs:
        assert is_there(proof), proof


def test_figures_are_kept_in_order_and_found_again(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "figures" / "run.json")
    assert not store.has(10, "test_b")
    for number, test in ((10, "test_b"), (2, "test_c"), (10, "test_a")):
        store.keep(number, test, "summary")
    assert store.has(10, "test_b")
    assert [(number, list(tests)) for number, tests in store.read().items()] == [
        ("2", ["test_c"]),
        ("10", ["test_a", "test_b"]),
    ]
