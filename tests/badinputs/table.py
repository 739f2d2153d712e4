"""All bad inputs, and the answers that were kept: the docs' page is made of the two.

`make golden` writes the answers anew where code in this process gives them; the API server's are written by
the `apiserver` layer with `--golden`.
"""

import json
from pathlib import Path

from tests.badinputs import events, manifests, requests, senders
from tests.badinputs.row import Answers

ANSWERS = Path(__file__).parents[2] / "docs" / "reference" / "bad-inputs.json"
ROWS = (*manifests.ROWS, *events.ROWS, *requests.ROWS, *senders.ROWS)


def kept() -> dict[str, Answers]:
    """The answers on record, by the row's name."""
    found: dict[str, Answers] = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    return found


def keep(name: str, answers: Answers) -> None:
    """Put a row's answers on record, beside those that others gave to it."""
    found = kept()
    found[name] = dict(sorted((found.get(name, {}) | answers).items()))
    ordered = {row.name: found[row.name] for row in ROWS if row.name in found}
    ANSWERS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
