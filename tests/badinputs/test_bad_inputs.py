"""Every bad input gets the answer of the reference, word for word."""

import pytest

from tests.badinputs.manifests import SERVER
from tests.badinputs.row import BadInput
from tests.badinputs.table import ROWS, keep, kept
from tests.known_tests import is_there


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_bad_input_is_answered_as_the_reference_says(row: BadInput, rewrite: bool) -> None:
    answers = row.run()
    assert all(answers.values())
    if rewrite:
        keep(row.name, answers)
    assert {
        component: lines for component, lines in kept()[row.name].items() if component != SERVER
    } == answers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_an_answer_and_existing_tests_or_a_reason(row: BadInput) -> None:
    assert any(kept()[row.name].values()) != bool(row.note)
    for name in row.tests:
        assert is_there(name), name


def test_every_answer_is_of_a_row() -> None:
    assert list(kept()) == [row.name for row in ROWS]
