"""What can become of one attempt (Outcome), what follows from it (Step), and what a batch tells its caller.

All are values, exhaustively matched; ignorance has a name of its own (`InDoubt`).
"""

from dataclasses import dataclass, field
from datetime import datetime

from postroom.letter.event import Record
from postroom.letter.problems import Problem
from postroom.ports.ledger import Claimed, State
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
    of_relay: bool = False
    """True: it spoke of itself (closing, full, throttling), not of the letter: no attempt is used up."""


@dataclass(frozen=True, slots=True)
class RelayUnreachable:
    """No answer about this letter, and its dot never left: safe to try again, not an attempt."""

    problem: Problem
    lost: Lost


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """The relay answered: never."""

    problem: Problem
    reply: Reply


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The dot left and no answer came: the relay may or may not have the letter."""

    problem: Problem
    counted: bool = False
    """True: the doubt is on the row already, since it was found there."""


@dataclass(frozen=True, slots=True)
class Unrenderable:
    """The event and its template make no letter, and no retry will change that."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NoTemplate:
    """Nothing live serves this event type yet (or it is suspended); apply-then-publish races are normal."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class KeyUnavailable:
    """The profile asks for signatures (DKIM, return paths) and a key is not there, or is no key."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The event asks not to be sent before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Expired:
    """Its time is over: a stale code is not sent."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Its recipient is on the suppression list."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NotAttempted:
    """It was not handed to a relay, for a reason that is none of its own: it comes again in `seconds`."""

    problem: Problem
    seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """The content never left; whoever claims the letter next may send it."""


Outcome = (
    Accepted
    | Deferred
    | RelayUnreachable
    | RelayRefused
    | InDoubt
    | Unrenderable
    | NoTemplate
    | KeyUnavailable
    | Scheduled
    | Expired
    | Suppressed
    | NotAttempted
    | Released
)


@dataclass(frozen=True, slots=True)
class Finish:
    """The letter's way ends here; `bury` sends its record to the dead-letter topic too."""

    state: State
    problem: Problem | None = None
    dead_letter: bool = False


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Keep the event in the ledger and come back at `at`."""

    at: datetime
    problem: Problem | None
    state: State = State.DEFERRED


@dataclass(frozen=True, slots=True)
class Park:
    """Park the letter in doubt until a person decides."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of the claim; the record's offset stays open."""


Step = Finish | TryAgain | Park | Release


@dataclass(frozen=True, slots=True)
class Settled:
    """A letter whose attempt is on record: what it came to and what follows."""

    claimed: Claimed
    outcome: Outcome
    step: Step


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that never became a letter of its own; it goes to the dead-letter topic."""

    record: Record
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Progress:
    """What a group of a batch came to, for the caller to count, log and move the watermark by."""

    settled: list[Settled] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)
    """Duplicates of letters that are safe already, and tombstones: nothing to do."""
    held: list[Record] = field(default_factory=list)
    """In somebody's hands: ask again later; the offsets stay open."""
    taken_in_doubt: int = 0

    def finished(self) -> list[Record]:
        """The records whose offsets are done."""
        done = [one.record for one in self.malformed]
        done += self.duplicates
        done += [
            one.claimed.letter.record
            for one in self.settled
            if one.claimed.from_topic and not isinstance(one.step, Release)
        ]
        return done
