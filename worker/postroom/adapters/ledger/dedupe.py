"""Which letters are known: identities by hash, in buckets of the day they were first seen.

A letter is known for exactly as long as its row is there, whatever the clock says: every bucket that holds
an identity is looked at, and there are about as many as the window has days. In: letters to look up,
claims to add, rows to forget. Out: the row that was met. A hash that matches is compared with the whole
identity, never trusted; an identity whose row is gone is a free slot.

Only one bucket at a time takes new identities, so that two claims of one identity meet in its primary key.
On a file there is one writer; workers that share a database share a calendar.

The calendar that workers share: which bucket takes identities, for all of them at any moment.

Two claims of one identity must meet in one bucket's primary key, whatever their clocks say and even at
midnight. So the bucket is a row of the database. Every transaction of a ledger holds the calendar's lock in
common; the day is turned only by who holds it alone, when no such transaction is under way. The lock is an
advisory one: it costs no write.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Integer, bindparam, cast, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.rows import moment
from postroom.adapters.ledger.schema import calendar, database_time, identity, letter
from postroom.letter.identity import Identity, is_pseudonym, pseudonym
from postroom.ports.ledger import State

BUCKET_SECONDS = 86_400
HASH_SPACE = 1 << 63

_SELECT_KNOWN = (
    select(
        identity.c.hash,
        letter.c.row,
        letter.c.profile,
        letter.c.source,
        letter.c.event_id,
        letter.c.recipient,
        letter.c.digest,
        letter.c.state,
        letter.c.worker_epoch,
        letter.c.received_at,
        letter.c.replies,
        letter.c.attempts,
        letter.c.in_doubt_count,
    )
    .join(letter, letter.c.row == identity.c.row)
    .where(
        identity.c.bucket.in_(bindparam("buckets", expanding=True)),
        identity.c.hash.in_(bindparam("hashes", expanding=True)),
    )
)

_NEXT_BUCKET = (
    select(identity.c.bucket)
    .where(identity.c.bucket > bindparam("after"))
    .order_by(identity.c.bucket)
    .limit(1)
)

_DELETE = delete(identity).where(
    identity.c.bucket.in_(bindparam("buckets", expanding=True)),
    identity.c.hash.in_(bindparam("hashes", expanding=True)),
    identity.c.row.in_(bindparam("rows", expanding=True)),
)

_INSERT = insert(identity).on_conflict_do_nothing()

_SELECT_STORED = select(identity.c.hash, identity.c.row).where(
    identity.c.bucket == bindparam("bucket"), identity.c.hash.in_(bindparam("hashes", expanding=True))
)
# a letter and its identity come and go in one transaction each, so that this finds leftovers only
_DELETE_LEFTOVERS = delete(identity).where(
    identity.c.bucket == bindparam("bucket"),
    identity.c.hash.in_(bindparam("hashes", expanding=True)),
    ~select(letter.c.row).where(letter.c.row == identity.c.row).exists(),
)


class DedupeBuckets(Protocol):
    """Which buckets there are."""

    known: set[int]
    """Every bucket that may hold an identity; more do no harm."""

    def current(self, connection: Connection, at: float) -> int:
        """The bucket that takes identities in this transaction; it is among the known ones then."""
        ...


class FileBuckets:
    """The buckets of a file with one writer: today's takes the identities."""

    def __init__(self, known: set[int]) -> None:
        self.known = known

    def current(self, connection: Connection, at: float) -> int:
        """See the protocol."""
        today = bucket_of(at)
        self.known.add(today)
        return today


@dataclass(frozen=True, slots=True)
class KnownLetter:
    """A row that a letter may meet, in the table already or claimed by this very call."""

    identity: Identity
    digest: bytes
    row: int
    state: State
    worker_epoch: int
    received: datetime
    replies: int = 0
    attempts: int = 0
    in_doubt_count: int = 0

    @property
    def erased(self) -> bool:
        """Whether its person was erased: what is left of the identity is a digest."""
        return is_pseudonym(self.identity.recipient)

    def is_of(self, wanted: Identity) -> bool:
        """Whether it is the letter of this identity."""
        return self.identity == wanted or (self.erased and self.identity.recipient == pseudonym(wanted))


class IdentityLookup:
    """The known letters by slot. A slot is a hash, or where a foreign identity has it, the next.

    The next slots are read when a letter comes to them, which two equal hashes make a matter of centuries.
    """

    def __init__(self, connection: Connection, buckets: Iterable[int], hashes: Sequence[int]) -> None:
        self._connection = connection
        self._buckets = sorted(buckets)
        self._slots: dict[int, list[KnownLetter]] = {}
        self._read(hashes)

    def find(self, wanted: Identity) -> tuple[KnownLetter | None, int]:
        """The row of this very identity, or None and the slot to use."""
        slot = wanted.hash64()
        while found := self._at(slot):
            for known in found:
                if known.is_of(wanted):
                    return known, slot
            slot = (slot + 1) % HASH_SPACE
        return None, slot

    def add(self, slot: int, known: KnownLetter) -> None:
        """Have the next letter meet a claim of this call."""
        self._slots[slot].append(known)

    def replace(self, slot: int, known: KnownLetter, now: KnownLetter) -> None:
        """Have the next letter meet a row as this call has changed it."""
        self._slots[slot] = [now if each is known else each for each in self._slots[slot]]

    def _at(self, slot: int) -> list[KnownLetter]:
        if slot not in self._slots:
            self._read([slot])
        return self._slots[slot]

    def _read(self, hashes: Sequence[int]) -> None:
        self._slots |= {each: [] for each in hashes}
        for row in self._connection.execute(_SELECT_KNOWN, {"buckets": self._buckets, "hashes": hashes}):
            known = KnownLetter(
                identity=Identity(row.profile, row.source, row.event_id, row.recipient),
                digest=bytes(row.digest),
                row=row.row,
                state=State(row.state),
                worker_epoch=row.worker_epoch,
                received=moment(row.received_at),
                replies=row.replies,
                attempts=row.attempts,
                in_doubt_count=row.in_doubt_count,
            )
            self._slots[row.hash].append(known)


def bucket_of(at: float) -> int:
    """The bucket of a moment."""
    return int(at // BUCKET_SECONDS)


def all_buckets(connection: Connection) -> set[int]:
    """Every bucket that holds an identity: one look at the primary key for each."""
    found: set[int] = set()
    last: int | None = -(1 << 31)
    while (last := connection.execute(_NEXT_BUCKET, {"after": last}).scalar()) is not None:
        found.add(last)
    return found


def insert_identities(connection: Connection, bucket: int, rows: Mapping[int, int]) -> Collection[int]:
    """Store identities, row by slot, in a bucket; returns the slots that are theirs.

    A slot that a claim of another worker took meanwhile is that one's; leftovers are cleared away, so that
    whoever asks again gets their place.
    """
    slots = sorted(rows)  # in one order, so that two workers never wait for each other
    done = connection.execute(
        _INSERT, [{"bucket": bucket, "hash": slot, "row": rows[slot]} for slot in slots]
    )
    if done.rowcount == len(slots):
        return slots
    there = connection.execute(_SELECT_STORED, {"bucket": bucket, "hashes": slots})
    ours = {each.hash for each in there if each.row == rows[each.hash]}
    connection.execute(
        _DELETE_LEFTOVERS, {"bucket": bucket, "hashes": [slot for slot in slots if slot not in ours]}
    )
    return ours


def delete_identities(
    connection: Connection, within: Iterable[int], gone: Sequence[tuple[int, Identity]]
) -> None:
    """Delete the identities of rows that are deleted, in these buckets."""
    hashes = [each.hash64() for _, each in gone]
    rows = [row for row, _ in gone]
    connection.execute(_DELETE, {"buckets": sorted(within), "hashes": hashes, "rows": rows})


def compact_buckets(connection: Connection, behind: int, today: int, limit: int) -> None:
    """Empty the buckets behind the window, up to `limit` identities a call, so that few are looked at.

    What is left there belongs to letters that wait or ended late, and moves to today's bucket; an identity
    whose row is gone goes.
    """
    left = connection.execute(
        select(identity, letter.c.row.label("living"))
        .join(letter, letter.c.row == identity.c.row, isouter=True)
        .where(identity.c.bucket < behind)
        .limit(limit)
    ).all()
    if not left:
        return
    connection.execute(
        delete(identity).where(
            tuple_(identity.c.bucket, identity.c.hash).in_([(each.bucket, each.hash) for each in left])
        )
    )
    if moved := {each.hash: each.row for each in left if each.living is not None}:
        insert_identities(connection, today, moved)


_CURRENT_DAY = cast(func.floor(database_time() / BUCKET_SECONDS), Integer)
_BUCKET = select(calendar.c.bucket)
_DAY_IS_OVER = select(calendar.c.bucket < _CURRENT_DAY)
_ADVANCE_DAY = update(calendar).where(calendar.c.bucket < _CURRENT_DAY).values(bucket=_CURRENT_DAY)
# a claim that waits for its turn behind this one must not wait for a worker that was cut off
_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '2s'")
_LOCK_EXCLUSIVE = text("SELECT pg_advisory_xact_lock(:key)")


class SharedBuckets:
    """Implements identities.Buckets for workers that share a database."""

    def __init__(self) -> None:
        self.known: set[int] = set()
        self._last: int | None = None

    def current(self, connection: Connection, at: float) -> int:
        """See the protocol. `at` does not matter: no worker's clock does."""
        bucket: int = connection.execute(_BUCKET).scalar_one()
        if bucket != self._last:
            # others put theirs where this worker was not looking yet; from now on all go into this one
            self.known = all_buckets(connection) | {bucket}
            self._last = bucket
        return bucket


def is_day_over(connection: Connection) -> bool:
    """Whether a new day has transaction_id by the database's clock."""
    return bool(connection.execute(_DAY_IS_OVER).scalar_one())


def advance_day(connection: Connection, key: int) -> None:
    """Begin the new day; raises as a lock that can't be had does, and is tried again a little later."""
    connection.execute(_LOCK_TIMEOUT)
    connection.execute(_LOCK_EXCLUSIVE, {"key": key})
    connection.execute(_ADVANCE_DAY)
