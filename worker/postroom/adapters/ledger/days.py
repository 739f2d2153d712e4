"""The calendar that workers share: which bucket takes identities, for all of them at any moment.

Two claims of one identity must meet in one bucket's primary key, whatever their clocks say and even at
midnight. So the bucket is a row of the database. Every transaction of a ledger holds the calendar's lock in
common; the day is turned only by who holds it alone, when no such transaction is under way. The lock is an
advisory one: it costs no write.
"""

from sqlalchemy import Integer, cast, func, select, text, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import identities
from postroom.adapters.ledger.identities import BUCKET_SECONDS
from postroom.adapters.ledger.leases import database_time
from postroom.adapters.ledger.schema import calendar

_TODAY = cast(func.floor(database_time() / BUCKET_SECONDS), Integer)
_BUCKET = select(calendar.c.bucket)
_BEHIND = select(calendar.c.bucket < _TODAY)
_TURN = update(calendar).where(calendar.c.bucket < _TODAY).values(bucket=_TODAY)
# a claim that waits for its turn behind this one must not wait for a worker that was cut off
_PATIENCE = text("SET LOCAL lock_timeout = '2s'")
_ALONE = text("SELECT pg_advisory_xact_lock(:key)")


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
            self.known = identities.buckets(connection) | {bucket}
            self._last = bucket
        return bucket


def is_behind(connection: Connection) -> bool:
    """Whether a new day has begun by the database's clock."""
    return bool(connection.execute(_BEHIND).scalar_one())


def turn(connection: Connection, key: int) -> None:
    """Begin the new day; raises as a lock that can't be had does, and is tried again a little later."""
    connection.execute(_PATIENCE)
    connection.execute(_ALONE, {"key": key})
    connection.execute(_TURN)
