"""What can become of one attempt (Outcome), and what follows from it (Step).

Both are values, exhaustively matched; ignorance has a name of its own (`InDoubt`).
"""

from dataclasses import dataclass
from datetime import datetime

from postroom.letter.problems import Problem
from postroom.ports.ledger import State
from postroom.ports.relay import Lost, Reply


@dataclass(frozen=True, slots=True)
class Accepted:
    """The relay said 250 to the dot: it is responsible now (RFC 5321 §6.1)."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """The relay answered: not now. It counts as an attempt."""

    problem: Problem
    reply: Reply


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer about this letter, and its dot never left: safe to try again, not an attempt."""

    problem: Problem
    lost: Lost


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay answered: never."""

    problem: Problem
    reply: Reply


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The dot left and no answer came: the relay may or may not have the letter."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Unrenderable:
    """The event and its template make no letter, and no retry will change that."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NoTemplate:
    """Nothing live serves this event type yet (or it is suspended); apply-then-publish races are normal."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class TooEarly:
    """The event asks not to be sent before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Expired:
    """Its time is over: a stale code is not sent."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """The record has a sound event that must not be sent: a mismatch, or too old to deduplicate."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The content never left; whoever claims the letter next may send it."""


Outcome = (
    Accepted
    | Deferred
    | Unreachable
    | Refused
    | InDoubt
    | Unrenderable
    | NoTemplate
    | TooEarly
    | Expired
    | Unacceptable
    | HandedBack
)


@dataclass(frozen=True, slots=True)
class Finish:
    """The letter's way ends here; `bury` sends its record to the dead-letter topic too."""

    state: State
    problem: Problem | None = None
    bury: bool = False


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Keep the event in the ledger and come back at `at`."""

    at: datetime
    problem: Problem | None
    state: State = State.DEFERRED


@dataclass(frozen=True, slots=True)
class Hold:
    """Park the letter in doubt until a person decides."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let go of the claim; the record's offset stays open."""


Step = Finish | TryAgain | Hold | GiveBack
