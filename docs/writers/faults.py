"""The page of the faults: what must hold under each, which tests show it, and the figures of a run."""

import json
import sys
from pathlib import Path

from writers.tables import Words, table

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # the table is the tests' own

from tests.faults.table import FAULTS  # noqa: E402

FIGURES = ROOT / "docs" / "reference" / "faults.json"
HEAD = """# Faults

Postroom is tested against these faults, with real Apache Kafka, real PostgreSQL, workers in processes of
their own and a relay that records every letter. After each, the ids that were produced are joined with the
ledger and with the relay's copies: lost, doubled, and doubled without a doubt on record (unmarked).

`make test-faults` runs all at their whole size and goes on where it was interrupted; CI runs them short. The
figures are of several runs on a machine with two cores that others used as well, at the size that they name.
"""


def faults(_: Words) -> str:
    """Every fault with its proofs, then the figures."""
    shown = [(str(one.number), one.what, one.holds, _proofs(one.proofs)) for one in FAULTS]
    figures: dict[str, dict[str, str]] = json.loads(FIGURES.read_text())
    said = [(number, text) for number, tests in figures.items() for text in tests.values()]
    return "\n".join(
        [
            HEAD,
            table(("", "Fault", "What must hold", "Tests"), shown),
            "## Figures\n",
            table(("", "What was seen"), said),
        ]
    )


def _proofs(proofs: tuple[str, ...]) -> str:
    return ", ".join(f"`{proof.partition('::')[2]}`" for proof in proofs)
