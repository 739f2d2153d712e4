"""The ledger: one durable row a letter, and who may send it.

A claim makes the row or meets an existing one; the fence turns a claim into `dotting` before the final
dot may leave; a settlement ends an attempt. Every call takes a batch, and an adapter commits whatever is
waiting together: never one fsync a letter. A call returns only when what it did is durable.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from postroom.letter.event import Event, Record
from postroom.letter.identity import Identity
from postroom.letter.problems import Problem
from postroom.ports.accord import Change
from postroom.ports.deadletter import DeadLetter, Waiting
from postroom.ports.health import Health, Recovery, Unreachable
from postroom.ports.relay import Envelope, Stage
from postroom.ports.state import FINAL, KEEPS_EVENT, REOPENS, REPLAYS_KEPT, State
from postroom.ports.suppression import Reason, Suppression

__all__ = [
    "FINAL",
    "KEEPS_EVENT",
    "REOPENS",
    "REPLAYS_KEPT",
    "Attempt",
    "Claimed",
    "DeadLetter",
    "Existing",
    "Health",
    "Ledger",
    "Letter",
    "Recalled",
    "Recovery",
    "Settlement",
    "Spent",
    "State",
    "Unreachable",
    "Waiting",
]


@dataclass(slots=True, eq=False)
class Letter:
    """One event on its way: who it is, where it came from, and (once rendered) what travels.

    Compared by identity of the object: two records of one event are two Letters and one row.
    """

    identity: Identity
    digest: bytes
    record: Record
    event: Event
    envelope: Envelope | None = None
    content: bytes = b""
    template: str = ""
    revision: str = ""
    message_id: str = ""
    category: str = "Transactional"
    """The template's category, once rendered: what a suppression holds back depends on it."""
    expires: datetime | None = None
    replay: str = ""
    """The id of the replay that the record is; empty for all that are none."""


@dataclass(slots=True, eq=False)
class Claimed:
    """A letter that this process may send: the only thing `send` takes. It is a relay's Parcel."""

    letter: Letter
    row: int
    received: datetime
    answers: int = 0
    """Attempts that the relay answered with a word about the letter; they count towards retry.maxAttempts."""
    tries: int = 0
    """All attempts, answered or not; they set the backoff."""
    doubts: int = 0
    found_dotting: bool = False
    """Taken over from a process that died between the dot and its settlement."""
    from_topic: bool = True
    """False: recalled from the ledger, so no offset waits for it."""
    generation: int = 0
    """Whose claim it is: the worker that made it, in the life it had then. 0 is nobody's."""
    via: str = ""
    """The profile whose relay it was handed to; empty: its own. Set where it is handed over."""
    barred: Collection[Reason] = ()
    """Why its recipient was on the suppression list when it was claimed."""

    @property
    def envelope(self) -> Envelope:
        """The SMTP envelope; only a rendered letter is handed to a relay."""
        assert self.letter.envelope is not None
        return self.letter.envelope

    @property
    def content(self) -> bytes:
        """The message as the relay port wants it."""
        return self.letter.content


@dataclass(frozen=True, slots=True)
class Existing:
    """The row that a claim met: the identity is known already. Facts for the claimer to decide on."""

    letter: Letter
    row: int
    state: State
    generation: int
    living: bool
    """Whether its holder is alive: this process, or another whose lease runs."""
    same_payload: bool
    received: datetime
    answers: int
    tries: int
    doubts: int


@dataclass(frozen=True, slots=True)
class Spent:
    """A replay whose id was used before, and whose letter is forgotten by now: nothing is to be done."""

    letter: Letter


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a letter, for its history; `code` is the SMTP code, 0 where no reply came."""

    result: str
    stage: Stage | None = None
    code: int = 0
    text: str = ""
    relay: str = ""
    """The profile whose relay it went through; empty: its own."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended: the row's next state, and what goes to the outbox in the same commit."""

    claimed: Claimed
    state: State
    problem: Problem | None = None
    due: datetime | None = None
    attempt: Attempt | None = None
    answers: int = 0
    tries: int = 0
    doubts: int = 0
    dead_letter: DeadLetter | None = None
    suppress: Suppression | None = None
    """An entry for the suppression list that the answer gives cause for."""

    @property
    def keeps_event(self) -> bool:
        """Whether the row must carry the event, since no offset will bring it back."""
        return self.state in KEEPS_EVENT


@dataclass(frozen=True, slots=True)
class Recalled:
    """A row whose time has come, claimed again: its stored record and its history so far."""

    row: int
    identity: Identity
    event_type: str
    record: Record
    received: datetime
    answers: int
    tries: int
    doubts: int
    generation: int
    barred: Collection[Reason] = ()


class Ledger(Protocol):
    """The delivery ledger of one profile. Durable when a call returns."""

    health: Health

    @property
    def lease_until(self) -> float:
        """Monotonic seconds until which this worker's claims are surely its own, whatever happens.

        `math.inf` where a lock replaces the lease. Read it before the fence is asked: a lease that was lost
        in between must not lend its time to letters of the life before.
        """
        ...

    def now(self, wall: datetime) -> datetime:
        """The time that all workers of this ledger go by; `wall` is what this machine's clock says.

        Retries, expiry and the dedupe window are counted in it, so that no worker's clock matters.
        """
        ...

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """Take up what dead workers left: retries in hand become due, `dotting` becomes doubt.

        At the start, and again from time to time: workers that share a ledger die at any moment.
        """
        ...

    async def claim(self, letters: Sequence[Letter], now: datetime) -> Sequence[Claimed | Existing | Spent]:
        """One answer for each letter, in order: a fresh claim, or the row that was there before.

        A replay opens a letter again that ended without reaching anybody, as a claim with no attempts behind
        it, if its id was never used before; one whose id was used meets what is there, and makes nothing.
        """
        ...

    async def take_over(self, rows: Sequence[Existing], now: datetime) -> Sequence[Claimed | None]:
        """Claim existing rows, each on condition that its holder is dead and nobody changed it since.

        None where that is not so (any more).

        A row in `dotting` comes back with one more doubt, and the doubt is on record as an attempt.
        """
        ...

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """Mark as `dotting` those that are still this process's; returns them.

        A claim of an earlier life of this process is none of its own any more.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], now: datetime) -> None:
        """End attempts. A row that somebody else owns by now keeps its state; the attempt is kept."""
        ...

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """Give back letters whose content never left: the next claim takes them."""
        ...

    async def bury(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Put records that become no letters into the outbox.

        What a dead process had in hand of such a record ends with it: a claim fails, `dotting` is in doubt.
        """
        ...

    async def due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """Claim up to `limit` deferred or scheduled letters whose time has come."""
        ...

    async def waiting(self, limit: int) -> Sequence[Waiting]:
        """The oldest dead letters of the outbox."""
        ...

    async def published(self, waiting: Sequence[Waiting]) -> None:
        """Clear dead letters that the broker acknowledged."""
        ...

    async def suspect(self, records: Sequence[Record]) -> Sequence[int]:
        """Mark records before they are tried carefully; returns the counts found (0: not marked before)."""
        ...

    async def accuse(self, record: Record) -> int:
        """Count a try at one marked record on its own, before it is made; returns how many these are."""
        ...

    async def absolve(self, records: Sequence[Record]) -> None:
        """Forget the careful attempts at records that proved harmless."""
        ...

    async def agree(self, subjects: Sequence[str], change: Change) -> Sequence[str]:
        """Change what the workers of this ledger agree on; returns the texts as they are then, in order."""
        ...

    async def prune(self, before: datetime, limit: int) -> int:
        """Forget up to `limit` letters that ended before then; how many went.

        Letters that wait or are in doubt stay, however old. A letter is known until it is forgotten.
        """
        ...

    async def retire(self, before: datetime, why: Problem, at: datetime) -> int:
        """End some of the letters that are in doubt since before then, since nobody decided; how many.

        Each fails for this reason, and its event leaves the row as a dead letter, in the same commit.
        0: none is left.
        """
        ...

    async def close(self, *, in_order: bool = True) -> None:
        """Finish what waits, mark the process as ended in order or not, let go of the lock."""
        ...
