"""Dead letters: records that go to the dead-letter topic with what was wrong, from the ledger's outbox."""

from dataclasses import dataclass
from datetime import datetime

from postroom.letter.event import Record
from postroom.letter.problems import Problem


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record for the dead-letter topic; `id` is stable, so a second publication is recognizable."""

    id: str
    record: Record
    problems: tuple[Problem, ...]
    at: datetime
    attempts: int = 0
    """How often it was tried to send it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A dead letter in the outbox, not yet acknowledged by the broker."""

    row: int
    dead_letter: DeadLetter
