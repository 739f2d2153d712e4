"""The delivery ledger: one durable row for each letter, and which worker may send it.

A claim inserts a row or returns the existing one. The fence moves claimed rows to `sending`, durably, before
the last byte of their content may leave. A settlement ends an attempt and moves the row to its next state.
Every call takes a batch, and an adapter commits the calls that are queued together: there is never one fsync
for each letter. A call returns only when its effect is durable.

This module also holds what is kept beside the letters: dead letters (the outbox), the suppression list, the
state that all workers of a ledger share, and the result of an erasure. `LedgerAdministration` and the reports
about letters (`ports.bounces`) open the same database from other processes.

While the database refuses writes, calls wait; `health` holds the reason. While a server is away, opening a
ledger raises `ports.health.Unreachable`.
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
from postroom.ports.relay import Envelope, Stage
from postroom.ports.world import LedgerHealth, Recovery

# --- the states of a letter ------------------------------------------------------------------------


class State(StrEnum):
    """The state of a letter's row.

    A worker owns a row in `claimed` and `sending`. `deferred`, `scheduled` and `in_doubt` wait and hold the
    event in the row. The other states are final: the row stays until the dedupe window has passed, so that a
    second event with the same identity is recognized.
    """

    CLAIMED = "claimed"
    """A worker owns the letter, and its content has not left.

    The pipeline moves it on: the fence to SENDING, a settlement to any state that needs no sending. A claim
    that was released keeps this state without an owner. When its worker dies, the record comes again from the
    topic and the claim is taken over (`take_over`); a letter that was recalled from the ledger becomes
    DEFERRED again (`recover`); a claim whose record is refused when it comes again ends as FAILED or
    RENDER_FAILED (`add_dead_letters`).
    """

    SENDING = "sending"
    """The end of the data may have been sent, and the relay's reply is not on record yet.

    The settlement of the attempt moves it on. When its worker dies, the outcome is unknown: `take_over`
    claims it again with one more doubt, `recover` makes it DEFERRED or IN_DOUBT by the profile's `onInDoubt`,
    and a report that arrived meanwhile moves it to the state that the report proves.
    """

    ACCEPTED = "accepted"
    """The relay replied 250 to the end of the data and is responsible for the letter (RFC 5321 §6.1).

    Final for the worker. The bounce intake moves it to DELIVERED or BOUNCED when a report proves that.
    """

    DEFERRED = "deferred"
    """The letter waits for its next attempt, at `due`.

    The retry queue claims it again (`claim_due`). A report moves it to ACCEPTED, DELIVERED or BOUNCED, since
    the relay had it; an erasure moves it to SUPPRESSED.
    """

    FAILED = "failed"
    """The letter was given up: refused for good, or tried as often or as long as the profile allows.

    Final; a dead letter holds the reason. A replay claims it again.
    """

    IN_DOUBT = "in_doubt"
    """The end of the data may have been sent, no reply came, and the letter is not sent again by itself.

    The reply of the attempt moves it on if it still arrives (`settle`); so does a report. Without either,
    maintenance ends it as FAILED after the profile's `parkedFor` (`expire_in_doubt`), with a dead letter
    that a person can replay.
    """

    SCHEDULED = "scheduled"
    """The event must not be sent before `due`. The retry queue claims it then (`claim_due`)."""

    SUPPRESSED = "suppressed"
    """The letter was not sent: its recipient is on the suppression list, or was erased. Final."""

    EXPIRED = "expired"
    """The letter was not sent: the event's time had passed. Final; a replay claims it again."""

    CAPTURED = "captured"
    """The sandbox took the letter, and no recipient got it.

    Final for the worker. The bounce intake moves it to BOUNCED when a report says so.
    """

    RENDER_FAILED = "render_failed"
    """The event and its template make no letter. Final; a replay claims it again."""

    DELIVERED = "delivered"
    """A report proves that the letter reached its mailbox.

    Final for the worker. The bounce intake moves it to BOUNCED when a later report proves that.
    """

    BOUNCED = "bounced"
    """A report proves that the relay could not deliver the letter that it had accepted. Final."""


KEEPS_EVENT_STATES = frozenset({State.DEFERRED, State.SCHEDULED, State.IN_DOUBT})
"""States in which the row holds the event, because no Kafka offset would bring it back."""
REOPENABLE = frozenset({State.FAILED, State.RENDER_FAILED, State.EXPIRED})
"""States in which a letter certainly reached no mailbox: only these can be claimed again by a replay."""
FINAL_STATES = frozenset(State) - KEEPS_EVENT_STATES - {State.CLAIMED, State.SENDING}
"""States without a pending step; only letters in these states are ever pruned."""
REPLAY_RETENTION = timedelta(days=366)
"""How long the id of a replay is remembered; an older dead letter is not replayed."""

# --- dead letters ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record for the dead-letter topic with its problems; the stable `id` makes a second copy known."""

    id: str
    record: Record
    problems: tuple[Problem, ...]
    at: datetime
    attempts: int = 0
    """How many attempts to send the letter were made."""


@dataclass(frozen=True, slots=True)
class PendingDeadLetter:
    """A dead letter in the outbox that the broker has not acknowledged."""

    row: int
    dead_letter: DeadLetter


# --- the suppression list --------------------------------------------------------------------------


class SuppressionReason(StrEnum):
    """Why an address is on the suppression list."""

    HARD_BOUNCE = "hard_bounce"
    """A relay or a report stated that the address does not exist. The worker or the bounce intake adds it."""
    COMPLAINT = "complaint"
    """The recipient reported a letter as spam. The bounce intake adds it."""
    UNSUBSCRIBE = "unsubscribe"
    """The recipient unsubscribed; holds back letters of the category Subscription."""
    MANUAL = "manual"
    """An operator added the address on the command line."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry of a profile's suppression list; an address has one entry for each reason.

    An entry is found by the digest of its address, so that it stays in force after the person was erased.
    """

    profile: str
    address: str | None
    """None: the person was erased, only the digest is left."""
    reason: SuppressionReason
    at: datetime
    note: str = ""
    """The reply, report or remark that caused the entry. It may contain the address."""


def address_hash(address: str) -> str:
    """The digest of an address, independent of upper and lower case."""
    return blake2b(address.lower().encode(), digest_size=16, person=b"suppression").hexdigest()


# --- the state that workers share ------------------------------------------------------------------

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class LedgerTime:
    """When a shared state is read, and by which worker."""

    now: float
    """Seconds since 1970 by the ledger's clock, the same for all workers."""
    worker_epoch: int
    """The epoch of the worker that reads it."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """A short text that all workers of a ledger share under a subject: a circuit, shares of a rate."""

    text: str
    keep_seconds: float = DAY_SECONDS
    """How long the text must be kept after this change."""


Update = Callable[[str, str, LedgerTime], SharedState]
"""Subject, the current text (empty where there is none) and the time → the new state.

Pure: the ledger may call it more than once, and only the last result counts.
"""

# --- letters, claims and settlements ---------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Letter:
    """One event on its way: its identity, its record and, once rendered, its content.

    Compared by object identity: two records of one event are two Letters and one row.
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
    """The template's category, once rendered; it decides which suppression reasons hold the letter back."""
    expires: datetime | None = None
    replay: str = ""
    """The id of the replay that this record is; empty for every other record."""


@dataclass(slots=True, eq=False)
class Claimed:
    """A letter that this process may send; `delivery.send` takes nothing else. A relay sends it as it is."""

    letter: Letter
    row: int
    received: datetime
    replies: int = 0
    """Attempts that ended with a reply about this letter; they count towards retry.maxAttempts."""
    attempts: int = 0
    """All attempts, with or without a reply; they set the backoff."""
    in_doubt_count: int = 0
    """Attempts whose outcome is unknown: a copy may have arrived."""
    was_sending: bool = False
    """The claim was taken over from a worker that died in `sending`."""
    from_topic: bool = True
    """False: recalled from the ledger, so that no offset waits for it."""
    worker_epoch: int = 0
    """The epoch of the worker that made the claim; 0: no owner."""
    via: str = ""
    """The profile whose relay the letter was given to; empty: its own. Set when it is given to the relay."""
    suppressions: Collection[SuppressionReason] = ()
    """Why the recipient was on the suppression list when the letter was claimed."""

    @property
    def envelope(self) -> Envelope:
        """The SMTP envelope; only a rendered letter is given to a relay."""
        assert self.letter.envelope is not None
        return self.letter.envelope

    @property
    def content(self) -> bytes:
        """The message as the relay sends it."""
        return self.letter.content


@dataclass(frozen=True, slots=True)
class ExistingRow:
    """The row of a letter whose identity is known already; the caller decides what follows."""

    letter: Letter
    row: int
    state: State
    worker_epoch: int
    owner_alive: bool
    """Whether the owner is this process, or another worker with a live lease."""
    same_payload: bool
    received: datetime
    replies: int
    attempts: int
    in_doubt_count: int


@dataclass(frozen=True, slots=True)
class ReplayConsumed:
    """A replay whose id was used before and whose letter has been pruned: nothing is left to do."""

    letter: Letter


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to send a letter, for its history; `code` is the SMTP code, 0 where no reply came."""

    result: str
    stage: Stage | None = None
    code: int = 0
    text: str = ""
    relay: str = ""
    """The profile whose relay was used; empty: its own."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an attempt: the row's next state, and what goes to the outbox in the same commit."""

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
    """An entry for the suppression list that follows from the relay's reply."""

    @property
    def keeps_event(self) -> bool:
        """Whether the row must hold the event, because no offset will bring it back."""
        return self.state in KEEPS_EVENT_STATES


@dataclass(frozen=True, slots=True)
class Recalled:
    """A waiting letter whose time has come, claimed again: its stored record and its history."""

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
    """The delivery ledger of one profile. The effect of a call is durable when it returns."""

    health: LedgerHealth

    @property
    def lease_until(self) -> float:
        """Monotonic seconds until which this worker certainly owns its claims.

        `math.inf` where a file lock replaces the lease. Read it before the fence is called: a lease that was
        lost and taken again in between must not extend to letters of the earlier epoch.
        """
        ...

    def now(self, wall: datetime) -> datetime:
        """The time by which all workers of this ledger count; `wall` is the clock of this machine.

        Retries, expiry and the dedupe window use it, so that a wrong clock of one machine has no effect.
        """
        ...

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """Release the recalled letters of dead workers: `claimed` becomes due, `sending` is in doubt.

        Called at the start and every few seconds: workers that share a ledger may die at any moment.
        """
        ...

    async def claim(
        self, letters: Sequence[Letter], now: datetime
    ) -> Sequence[Claimed | ExistingRow | ReplayConsumed]:
        """One result for each letter, in order: a new claim, or the row that exists already.

        A replay whose id was never used claims a letter again that is in one of REOPENABLE, with no attempts
        counted. A replay whose id was used returns the existing row and changes nothing.
        """
        ...

    async def take_over(self, rows: Sequence[ExistingRow], now: datetime) -> Sequence[Claimed | None]:
        """Claim existing rows whose owner is dead and that did not change since they were read.

        None for every other row. A row in `sending` is claimed with one more doubt, and the doubt is
        recorded as an attempt.
        """
        ...

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """Move to `sending` those that this process still owns, and return them.

        A claim of an earlier epoch of this process is not owned any more.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], now: datetime) -> None:
        """End attempts. A row that another worker owns by now keeps its state; the attempt is recorded."""
        ...

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """Give up claims of letters whose content never left; the next claim takes them."""
        ...

    async def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Put records that become no letters into the outbox.

        A row that a dead worker had made of such a record ends with it: `claimed` fails, `sending` is in
        doubt.
        """
        ...

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """Claim up to `limit` deferred or scheduled letters whose time has come."""
        ...

    async def pending_dead_letters(self, limit: int) -> Sequence[PendingDeadLetter]:
        """The oldest dead letters of the outbox."""
        ...

    async def delete_dead_letters(self, pending: Sequence[PendingDeadLetter]) -> None:
        """Delete dead letters that the broker acknowledged."""
        ...

    async def mark_suspects(self, records: Sequence[Record]) -> Sequence[int]:
        """Mark records before they are rendered in isolation; returns the counts found (0: no mark)."""
        ...

    async def count_suspect_attempt(self, record: Record) -> int:
        """Count an attempt at one marked record alone, before it is made; returns the attempts so far."""
        ...

    async def clear_suspects(self, records: Sequence[Record]) -> None:
        """Delete the marks of records that proved harmless."""
        ...

    async def update_shared(self, subjects: Sequence[str], change: Update) -> Sequence[str]:
        """Change the shared states of these subjects; returns the new texts, in order."""
        ...

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` letters that ended before then; returns how many.

        Letters that wait or are in doubt stay, however old they are.
        """
        ...

    async def expire_in_doubt(self, before: datetime, why: Problem, at: datetime) -> int:
        """Fail some of the letters that are in doubt since before then; returns how many, 0: none is left.

        Each fails with this problem, and its event becomes a dead letter in the same commit.
        """
        ...

    async def close(self, *, in_order: bool = True) -> None:
        """Finish the queued calls, record whether the process ended in order, and give up the lock."""
        ...


# --- administration --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """What the erasure of a person removed from one ledger, or would remove."""

    letters: int = 0
    """Rows that hold no address, no names and no texts any more."""
    withdrawn: int = 0
    """Of these, letters that waited to be sent and will not be sent."""
    attempts: int = 0
    """Attempts whose reply text was removed."""
    reports: int = 0
    """Reports whose text was removed."""
    dead_letters: int = 0
    """Dead letters that were deleted from the outbox before they were published."""
    notifications: int = 0
    """Notifications that were deleted before they were delivered."""
    suppressions: int = 0
    """Entries of the suppression list that keep only the digest; they stay in force."""
    in_progress: int = field(default=0)
    """Letters that a worker owns; they are unchanged, so the erasure must be repeated."""

    def __add__(self, other: "ErasureResult") -> "ErasureResult":
        return ErasureResult(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
