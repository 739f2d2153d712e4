"""Values of the pipeline: Outcome (result of an attempt), Step (what follows), Progress (of a batch).

Outcome and Step are closed unions and matched exhaustively. An unknown result is a value too (`InDoubt`).
"""

from dataclasses import dataclass, field
from datetime import datetime

from postroom.letter.event import Record
from postroom.letter.problems import Problem
from postroom.ports.ledger import Claimed, State
from postroom.ports.relay import Lost, Reply


@dataclass(frozen=True, slots=True)
class Accepted:
    """The relay replied 2xx to the end of data: it is responsible for the letter now (RFC 5321 §6.1)."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """The relay replied with a temporary failure, which counts against `maxAttempts` unless `of_relay`."""

    problem: Problem
    reply: Reply
    of_relay: bool = False
    """Whether the reply concerns the relay (closing, full, throttling) and not the letter."""


@dataclass(frozen=True, slots=True)
class RelayUnreachable:
    """No reply to this letter, whose end of data was not sent: a retry is safe and not counted."""

    problem: Problem
    lost: Lost


@dataclass(frozen=True, slots=True)
class RelayRefused:
    """The relay replied with a permanent failure."""

    problem: Problem
    reply: Reply


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The end of data was sent and no reply arrived: the relay may or may not have the letter."""

    problem: Problem
    counted: bool = False
    """Whether the row counts this doubt already, because it was found at claim time."""


@dataclass(frozen=True, slots=True)
class Unrenderable:
    """The event cannot be rendered with its template, and a retry will not change that."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NoTemplate:
    """No template serves this event type yet (it may be applied later), or it is suspended."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class KeyUnavailable:
    """A key that the profile requires (DKIM, return paths) is missing or invalid."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The event must not be sent before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Expired:
    """The letter has expired and is not sent."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The recipient is on the suppression list."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NotAttempted:
    """The letter was not given to a relay (open circuit, rate); it is due again in `seconds`."""

    problem: Problem
    seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """The content was not sent, and this worker gives up the claim; the next claim may send it."""


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
    """The letter ends in a final state; `dead_letter` also sends its record to the dead-letter topic."""

    state: State
    problem: Problem | None = None
    dead_letter: bool = False


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Keep the event in the ledger and retry at `at`."""

    at: datetime
    problem: Problem | None
    state: State = State.DEFERRED


@dataclass(frozen=True, slots=True)
class Park:
    """Park the letter in doubt until a person decides."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Release:
    """Release the claim; the record's offset stays open."""


Step = Finish | TryAgain | Park | Release


@dataclass(frozen=True, slots=True)
class Settled:
    """A letter whose attempt is in the ledger, with its outcome and the step that follows."""

    claimed: Claimed
    outcome: Outcome
    step: Step


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that is not a letter of its own; it goes to the dead-letter topic."""

    record: Record
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class Progress:
    """The result of a group of a batch; the caller counts, logs and finishes offsets with it."""

    settled: list[Settled] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)
    """Records of letters that are in the ledger already, and tombstones: finished."""
    held: list[Record] = field(default_factory=list)
    """Records whose letters another worker or batch holds: retried later; their offsets stay open."""
    taken_in_doubt: int = 0

    def finished(self) -> list[Record]:
        """Return the records whose offsets are finished."""
        done = [entry.record for entry in self.malformed]
        done += self.duplicates
        done += [
            entry.claimed.letter.record
            for entry in self.settled
            if entry.claimed.from_topic and not isinstance(entry.step, Release)
        ]
        return done
