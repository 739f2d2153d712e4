"""The figures of fault tests, kept in a file: what was finished need not be run again.

POSTROOM_FAULTS names the file. Without it, as in CI, the figures are only printed.
POSTROOM_FAULTS_WHOLE=1 asks for the whole size of each test, which takes minutes; else each is short.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path


def at_full_size() -> bool:
    """Whether tests are asked for at their whole size."""
    return os.environ.get("POSTROOM_FAULTS_WHOLE") == "1"


@dataclass(frozen=True, slots=True)
class ResultStore:
    """Figures by fault and test: `{"7": {"test_name[param]": "…"}}`."""

    path: Path

    def read(self) -> dict[str, dict[str, str]]:
        """All that is there."""
        if not self.path.exists():
            return {}
        found: dict[str, dict[str, str]] = json.loads(self.path.read_text())
        return found

    def has(self, number: int, test: str) -> bool:
        """Whether this test was finished."""
        return test in self.read().get(str(number), {})

    def keep(self, number: int, test: str, figures: str) -> None:
        """Add one, in order of the faults."""
        found = self.read()
        found.setdefault(str(number), {})[test] = figures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ordered = {key: dict(sorted(found[key].items())) for key in sorted(found, key=int)}
        self.path.write_text(json.dumps(ordered, indent=1) + "\n")


@dataclass(slots=True)
class Fault:
    """One run of one test of a fault."""

    number: int
    test: str
    store: ResultStore | None
    whole: bool

    def size(self, short: int, whole: int) -> int:
        """How much of it this run does."""
        return whole if self.whole else short

    def record(self, summary: str) -> None:
        """Print and store the result line of the test; call it last, when all assertions have passed."""
        print(f"\nfault {self.number}: {summary}")
        if self.store:
            self.store.keep(self.number, self.test, summary)
