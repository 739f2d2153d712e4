"""The page of the faults: what must hold under each, its tests, and the figures of a run."""

import json
import sys
from pathlib import Path

from writers.tables import Words, table

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # the table belongs to the tests

from tests.faults.table import FAULTS  # noqa: E402

FIGURES = ROOT / "docs" / "reference" / "faults.json"
HEAD = """# Faults

Postroom is tested under these faults, with real Apache Kafka, real PostgreSQL, workers in processes of
their own and a relay that records every letter. After each fault, a test joins the ids that were produced
with the ledger and with the relay's copies. It counts lost letters, duplicated letters, and duplicated
letters without a recorded doubt (unmarked).

`make test-faults` runs all faults at full size and resumes after an interruption; CI runs a short version.
The figures come from several runs, at the size that each names, on a machine with two cores that had other
load.
"""


def faults(_: Words) -> str:
    """Every fault with its tests, then the figures."""
    rows = [(str(fault.number), fault.what, fault.holds, _tests(fault.proofs)) for fault in FAULTS]
    figures: dict[str, dict[str, str]] = json.loads(FIGURES.read_text())
    results = [(number, text) for number, tests in figures.items() for text in tests.values()]
    return "\n".join(
        [
            HEAD,
            table(("", "Fault", "What must hold", "Tests"), rows),
            "## Figures\n",
            table(("", "Result"), results),
        ]
    )


def _tests(tests: tuple[str, ...]) -> str:
    return ", ".join(f"`{test.partition('::')[2]}`" for test in tests)
