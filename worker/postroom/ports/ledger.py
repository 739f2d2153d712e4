"""What a ledger row says of its letter, and which states mean what to whom.

Dead letters: records that go to the dead-letter topic with what was wrong, from the ledger's outbox.

The suppression list: addresses that a profile does not write to, and why.

An entry is known by the digest of its address, so that erasing a person leaves the entry in force.

What the workers of a ledger agree on: small texts under a name, changed by pure functions.

A circuit that is open for all of them, each one's share of a rate. The ledger keeps the texts and gives its
own time, so that no worker's clock matters; what a text means and how it changes is decided elsewhere.

The ledger: one durable row a letter, and who may send it.

A claim makes the row or meets an existing one; the fence turns a claim into `sending` before the final
dot may leave; a settlement ends an attempt. Every call takes a batch, and an adapter commits whatever is
waiting together: never one fsync a letter. A call returns only when what it did is durable.

What a person does to a ledger beside its workers: erase somebody, keep the suppression list.

Short transactions, each durable when the call returns; the workers go on meanwhile.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol

from postroom.letter.event import Event, Record
from postroom.letter.identity import Identity
from postroom.letter.problems import Problem
from postroom.ports.health import Health, Recovery
from postroom.ports.relay import Envelope, Stage


class State(StrEnum):
    """What a ledger row says of its letter."""

    CLAIMED = "claimed"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    SCHEDULED = "scheduled"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CAPTURED = "captured"
    RENDER_FAILED = "render_failed"
    DELIVERED = "delivered"
    BOUNCED = "bounced"


KEEPS_EVENT_STATES = frozenset({State.DEFERRED, State.SCHEDULED, State.IN_DOUBT})
REOPENABLE = frozenset({State.FAILED, State.RENDER_FAILED, State.EXPIRED})
"""States in which a letter surely never reached anybody: what a replay may open again."""
REPLAY_RETENTION = timedelta(days=366)
"""How long the id of a replay is remembered; a dead letter that is older is not replayed."""
FINAL_STATES = frozenset(State) - KEEPS_EVENT_STATES - {State.CLAIMED, State.SENDING}
"""States that nothing is waiting to happen in; only such letters are ever forgotten."""


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
class PendingDeadLetter:
    """A dead letter in the outbox, not yet acknowledged by the broker."""

    row: int
    dead_letter: DeadLetter


class SuppressionReason(StrEnum):
    """Why an address is on the list."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry; an address may have one for each reason."""

    profile: str
    address: str | None
    """None: the person was erased, the digest is left."""
    reason: SuppressionReason
    at: datetime
    note: str = ""
    """What gave cause: a relay's words, a person's. May hold the address."""


def address_hash(address: str) -> str:
    """The digest that an address is known by, however its letters are written."""
    return blake2b(address.lower().encode(), digest_size=16, person=b"suppression").hexdigest()


DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class LedgerTime:
    """When an accord is looked at, and by whom."""

    now: float
    """Seconds since 1970 by the ledger's clock, the same for all workers."""
    worker_epoch: int
    """The worker_epoch of the worker that asks."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """A text, and for how many seconds after this change it must be kept."""

    text: str
    keep_seconds: float = DAY_SECONDS


Update = Callable[[str, str, LedgerTime], SharedState]
"""Subject, the text as it is (empty where there is none), the moment → what it is from now on.

Pure: it may be asked more than once, and only the last answer counts.
"""


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
    replies: int = 0
    """Attempts that the relay answered with a word about the letter; they count towards retry.maxAttempts."""
    attempts: int = 0
    """All attempts, answered or not; they set the backoff."""
    in_doubt_count: int = 0
    was_sending: bool = False
    """Taken over from a process that died between the dot and its settlement."""
    from_topic: bool = True
    """False: recalled from the ledger, so no offset waits for it."""
    worker_epoch: int = 0
    """Whose claim it is: the worker that made it, in the life it had then. 0 is nobody's."""
    via: str = ""
    """The profile whose relay it was handed to; empty: its own. Set where it is handed over."""
    suppressions: Collection[SuppressionReason] = ()
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
class ExistingRow:
    """The row that a claim met: the identity is known already. Facts for the claimer to decide on."""

    letter: Letter
    row: int
    state: State
    worker_epoch: int
    owner_alive: bool
    """Whether its holder is alive: this process, or another whose lease runs."""
    same_payload: bool
    received: datetime
    replies: int
    attempts: int
    in_doubt_count: int


@dataclass(frozen=True, slots=True)
class ReplayConsumed:
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
    replies: int = 0
    attempts: int = 0
    in_doubt_count: int = 0
    dead_letter: DeadLetter | None = None
    suppress: Suppression | None = None
    """An entry for the suppression list that the answer gives cause for."""

    @property
    def keeps_event(self) -> bool:
        """Whether the row must carry the event, since no offset will bring it back."""
        return self.state in KEEPS_EVENT_STATES


@dataclass(frozen=True, slots=True)
class Recalled:
    """A row whose time has come, claimed again: its stored record and its history so far."""

    row: int
    identity: Identity
    event_type: str
    record: Record
    received: datetime
    replies: int
    attempts: int
    in_doubt_count: int
    worker_epoch: int
    suppressions: Collection[SuppressionReason] = ()


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
        """Take up what dead workers left: retries in hand become due, `sending` becomes doubt.

        At the start, and again from time to time: workers that share a ledger die at any moment.
        """
        ...

    async def claim(
        self, letters: Sequence[Letter], now: datetime
    ) -> Sequence[Claimed | ExistingRow | ReplayConsumed]:
        """One answer for each letter, in order: a fresh claim, or the row that was there before.

        A replay opens a letter again that ended without reaching anybody, as a claim with no attempts behind
        it, if its id was never used before; one whose id was used meets what is there, and makes nothing.
        """
        ...

    async def take_over(self, rows: Sequence[ExistingRow], now: datetime) -> Sequence[Claimed | None]:
        """Claim existing rows, each on condition that its holder is dead and nobody changed it since.

        None where that is not so (any more).

        A row in `sending` comes back with one more doubt, and the doubt is on record as an attempt.
        """
        ...

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """Mark as `sending` those that are still this process's; returns them.

        A claim of an earlier life of this process is none of its own any more.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], now: datetime) -> None:
        """End attempts. A row that somebody else owns by now keeps its state; the attempt is kept."""
        ...

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """Give back letters whose content never left: the next claim takes them."""
        ...

    async def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Put records that become no letters into the outbox.

        What a dead process had in hand of such a record ends with it: a claim fails, `sending` is in doubt.
        """
        ...

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """Claim up to `limit` deferred or scheduled letters whose time has come."""
        ...

    async def pending_dead_letters(self, limit: int) -> Sequence[PendingDeadLetter]:
        """The oldest dead letters of the outbox."""
        ...

    async def delete_dead_letters(self, waiting: Sequence[PendingDeadLetter]) -> None:
        """Clear dead letters that the broker acknowledged."""
        ...

    async def mark_suspects(self, records: Sequence[Record]) -> Sequence[int]:
        """Mark records before they are tried carefully; returns the counts found (0: not marked before)."""
        ...

    async def count_suspect_attempt(self, record: Record) -> int:
        """Count a try at one marked record on its own, before it is made; returns how many these are."""
        ...

    async def clear_suspects(self, records: Sequence[Record]) -> None:
        """Forget the careful attempts at records that proved harmless."""
        ...

    async def update_shared(self, subjects: Sequence[str], change: Update) -> Sequence[str]:
        """Change what the workers of this ledger agree on; returns the texts as they are then, in order."""
        ...

    async def prune(self, before: datetime, limit: int) -> int:
        """Forget up to `limit` letters that ended before then; how many went.

        Letters that wait or are in doubt stay, however old. A letter is known until it is forgotten.
        """
        ...

    async def expire_in_doubt(self, before: datetime, why: Problem, at: datetime) -> int:
        """End some of the letters that are in doubt since before then, since nobody decided; how many.

        Each fails for this reason, and its event leaves the row as a dead letter, in the same commit.
        0: none is left.
        """
        ...

    async def close(self, *, in_order: bool = True) -> None:
        """Finish what waits, mark the process as ended in order or not, let go of the lock."""
        ...


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """What an erasure removed from one ledger, or would remove."""

    letters: int = 0
    """Rows that have no address, no names and no texts any more."""
    withdrawn: int = 0
    """Of these, letters that waited to be sent, and will not be."""
    attempts: int = 0
    """Relays' answers that were removed."""
    reports: int = 0
    """Reports about letters whose words were removed."""
    dead_letters: int = 0
    """Taken out of the outbox, before they were published."""
    notices: int = 0
    """Messages to others that were not delivered yet."""
    suppressions: int = 0
    """Entries of the suppression list: in force by their digest, without the address."""
    in_progress: int = field(default=0)
    """Letters in a worker's hand, left as they are: ask again in a moment."""

    def __add__(self, other: "ErasureResult") -> "ErasureResult":
        return ErasureResult(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class LedgerAdministration(Protocol):
    """One ledger, opened by the side of its workers."""

    def erase(self, address: str, now: datetime, dry_run: bool) -> ErasureResult:
        """Remove a person's data; the letters stay known by the digests of their identities."""
        ...

    def suppressions(self, profile: str = "", address: str = "") -> Sequence[Suppression]:
        """The list, oldest first; of one profile or one address where they are given."""
        ...

    def suppress(self, entries: Sequence[Suppression]) -> int:
        """Put entries on the list; how many are new."""
        ...

    def lift(self, profile: str, address: str, reason: SuppressionReason | None) -> int:
        """Take an address off a profile's list, for one reason or all; how many entries went."""
        ...

    def profiles(self) -> Sequence[str]:
        """The profiles whose letters or lists are in this ledger."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
