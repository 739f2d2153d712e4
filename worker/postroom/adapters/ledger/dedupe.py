"""Deduplication: finds the row of an identity, by hash, in buckets of the day on which it was first seen.

A letter is known for exactly as long as its row exists, whatever any clock says: every bucket that holds an
identity is searched, and there are about as many as the dedupe window has days. In: letters to look up,
claims to add, rows to delete. Out: the existing row. A matching hash is compared with the whole identity; an
identity whose row is gone is a free slot.

Only one bucket at a time takes new identities, so that two claims of one identity collide in its primary
key. A file has one writer, and its bucket is the current day. Workers that share a database share a calendar:
the current bucket is a row of the database, independent of the workers' clocks. Every transaction of a ledger
holds the calendar's advisory lock in shared mode; the day is advanced under the exclusive lock, when no such
transaction is open. The lock costs no write.
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
# a letter and its identity are inserted and deleted in the same transactions: this finds only leftovers
_DELETE_LEFTOVERS = delete(identity).where(
    identity.c.bucket == bindparam("bucket"),
    identity.c.hash.in_(bindparam("hashes", expanding=True)),
    ~select(letter.c.row).where(letter.c.row == identity.c.row).exists(),
)


class DedupeBuckets(Protocol):
    """The buckets that are searched, and the one that takes new identities."""

    known: set[int]
    """Every bucket that may hold an identity; additional ones are harmless."""

    def current(self, connection: Connection, at: float) -> int:
        """The bucket that takes identities in this transaction; adds it to `known`."""
        ...


class FileBuckets:
    """The buckets of a file, which has one writer: the bucket of the current day takes identities."""

    def __init__(self, known: set[int]) -> None:
        self.known = known

    def current(self, connection: Connection, at: float) -> int:
        """The bucket of the day of `at`."""
        today = bucket_of(at)
        self.known.add(today)
        return today


@dataclass(frozen=True, slots=True)
class KnownLetter:
    """An existing row: in the table already, or claimed by the same call."""

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
        """Whether its person was erased, so that only a digest of the identity is left."""
        return is_pseudonym(self.identity.recipient)

    def is_of(self, wanted: Identity) -> bool:
        """Whether it is the row of this identity."""
        return self.identity == wanted or (self.erased and self.identity.recipient == pseudonym(wanted))


class IdentityLookup:
    """The known letters by slot: the hash of the identity, or the next number if another identity has it.

    Following slots are read only when they are needed; two equal hashes are extremely rare.
    """

    def __init__(self, connection: Connection, buckets: Iterable[int], hashes: Sequence[int]) -> None:
        self._connection = connection
        self._buckets = sorted(buckets)
        self._slots: dict[int, list[KnownLetter]] = {}
        self._read(hashes)

    def find(self, wanted: Identity) -> tuple[KnownLetter | None, int]:
        """The row of this identity and its slot, or None and the slot to use."""
        slot = wanted.hash64()
        while found := self._at(slot):
            for known in found:
                if known.is_of(wanted):
                    return known, slot
            slot = (slot + 1) % HASH_SPACE
        return None, slot

    def add(self, slot: int, known: KnownLetter) -> None:
        """Let the following letters of this call find a new claim."""
        self._slots[slot].append(known)

    def replace(self, slot: int, old: KnownLetter, new: KnownLetter) -> None:
        """Let the following letters of this call find a row as the call has changed it."""
        self._slots[slot] = [new if known is old else known for known in self._slots[slot]]

    def _at(self, slot: int) -> list[KnownLetter]:
        if slot not in self._slots:
            self._read([slot])
        return self._slots[slot]

    def _read(self, hashes: Sequence[int]) -> None:
        self._slots |= {hash_: [] for hash_ in hashes}
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
    """The bucket of a time."""
    return int(at // BUCKET_SECONDS)


def all_buckets(connection: Connection) -> set[int]:
    """Every bucket that holds an identity: one lookup in the primary key for each."""
    found: set[int] = set()
    last: int | None = -(1 << 31)
    while (last := connection.execute(_NEXT_BUCKET, {"after": last}).scalar()) is not None:
        found.add(last)
    return found


def insert_identities(connection: Connection, bucket: int, rows: Mapping[int, int]) -> Collection[int]:
    """Insert identities (row by slot) into a bucket; returns the slots that now belong to these rows.

    A slot that another worker's claim took meanwhile stays with that claim. Leftovers in these slots are
    deleted, so that the next call can insert.
    """
    slots = sorted(rows)  # in one order for all workers, so that they cannot deadlock
    done = connection.execute(
        _INSERT, [{"bucket": bucket, "hash": slot, "row": rows[slot]} for slot in slots]
    )
    if done.rowcount == len(slots):
        return slots
    stored = connection.execute(_SELECT_STORED, {"bucket": bucket, "hashes": slots})
    ours = {identity_.hash for identity_ in stored if identity_.row == rows[identity_.hash]}
    connection.execute(
        _DELETE_LEFTOVERS, {"bucket": bucket, "hashes": [slot for slot in slots if slot not in ours]}
    )
    return ours


def delete_identities(
    connection: Connection, buckets: Iterable[int], deleted: Sequence[tuple[int, Identity]]
) -> None:
    """Delete the identities of rows that are deleted, in these buckets."""
    hashes = [identity_.hash64() for _, identity_ in deleted]
    rows = [row for row, _ in deleted]
    connection.execute(_DELETE, {"buckets": sorted(buckets), "hashes": hashes, "rows": rows})


def compact_buckets(connection: Connection, before: int, today: int, limit: int) -> None:
    """Empty the buckets before the dedupe window, up to `limit` identities a call, so that few are searched.

    Identities of letters that wait or ended late move to today's bucket; those without a row are deleted.
    """
    entries = connection.execute(
        select(identity, letter.c.row.label("existing_row"))
        .join(letter, letter.c.row == identity.c.row, isouter=True)
        .where(identity.c.bucket < before)
        .limit(limit)
    ).all()
    if not entries:
        return
    connection.execute(
        delete(identity).where(
            tuple_(identity.c.bucket, identity.c.hash).in_([(entry.bucket, entry.hash) for entry in entries])
        )
    )
    if moved := {entry.hash: entry.row for entry in entries if entry.existing_row is not None}:
        insert_identities(connection, today, moved)


_CURRENT_DAY = cast(func.floor(database_time() / BUCKET_SECONDS), Integer)
_BUCKET = select(calendar.c.bucket)
_DAY_IS_OVER = select(calendar.c.bucket < _CURRENT_DAY)
_ADVANCE_DAY = update(calendar).where(calendar.c.bucket < _CURRENT_DAY).values(bucket=_CURRENT_DAY)
# claims queue behind this lock, and must not wait for a worker whose connection was cut
_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '2s'")
_LOCK_EXCLUSIVE = text("SELECT pg_advisory_xact_lock(:key)")


class SharedBuckets:
    """The buckets of a shared database: the calendar names the bucket that takes identities."""

    def __init__(self) -> None:
        self.known: set[int] = set()
        self._last: int | None = None

    def current(self, connection: Connection, at: float) -> int:
        """The bucket of the calendar; `at` is not used, since it is a worker's clock."""
        bucket: int = connection.execute(_BUCKET).scalar_one()
        if bucket != self._last:
            # other workers may have used buckets that this worker has not read yet
            self.known = all_buckets(connection) | {bucket}
            self._last = bucket
        return bucket


def is_day_over(connection: Connection) -> bool:
    """Whether a new day has begun by the database's clock."""
    return bool(connection.execute(_DAY_IS_OVER).scalar_one())


def advance_day(connection: Connection, key: int) -> None:
    """Advance the calendar to the current day; raises when the lock is not granted in time."""
    connection.execute(_LOCK_TIMEOUT)
    connection.execute(_LOCK_EXCLUSIVE, {"key": key})
    connection.execute(_ADVANCE_DAY)
