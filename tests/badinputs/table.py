"""All bad inputs and their recorded answers, from which the docs' page is made.

`make golden` records the answers of code in this process; the layer `apiserver` with `--golden` records those
of the API server.
"""

import json
from pathlib import Path

from tests.badinputs import events, manifests, requests, senders
from tests.badinputs.row import Answers

ANSWERS = Path(__file__).parents[2] / "docs" / "reference" / "bad-inputs.json"
ROWS = (*manifests.ROWS, *events.ROWS, *requests.ROWS, *senders.ROWS)


def kept() -> dict[str, Answers]:
    """The recorded answers by the row's name."""
    found: dict[str, Answers] = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    return found


def keep(name: str, answers: Answers) -> None:
    """Record a row's answers beside those of other components."""
    found = kept()
    found[name] = dict(sorted((found.get(name, {}) | answers).items()))
    ordered = {row.name: found[row.name] for row in ROWS if row.name in found}
    ANSWERS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
