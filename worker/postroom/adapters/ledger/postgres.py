"""The ledger port on PostgreSQL, for workers that share a ledger.

Each worker has one writing thread with one session and commits in groups, as on SQLite; synchronous_commit
is on. Leases replace the lock: see leases. A server that can't be reached stops everything and is tried
again until it is back.
"""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from time import monotonic, sleep

from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger import server
from postroom.adapters.ledger.commit import Mending
from postroom.adapters.ledger.days import SharedBuckets
from postroom.adapters.ledger.heartbeat import Heartbeat
from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.leases import Member
from postroom.adapters.ledger.migrations import check
from postroom.adapters.ledger.rows import RowKeys, stamp
from postroom.adapters.ledger.sql import SqlLedger
from postroom.adapters.ledger.standstill import session_name
from postroom.adapters.ledger.strays import SoughtStrays
from postroom.ports.ledger import Recovery


class PostgresLedger(SqlLedger):
    """Implements ports.ledger.Ledger; open it with `await PostgresLedger.open(url, schema, …)`."""

    def __init__(self, engine: Engine, heart: Heartbeat, window: float, clean: bool) -> None:
        generation = heart.generation
        keys, whose = RowKeys(generation), heart.member
        holder = Holder(generation, keys, window, SharedBuckets(), SoughtStrays(), whose.profile, whose.kin)
        super().__init__(engine, SharedServer(engine, heart.calendar_key), holder, clean)
        self._heart = heart
        heart.start(self._begin_anew)

    @classmethod
    async def open(
        cls, url: str, schema: str, member: Member, window: float, now: datetime
    ) -> "PostgresLedger":
        """Join the workers of the ledger in `schema`.

        `member` says who holds the lease: no two living workers have the same, and one that is started
        again in the same place keeps it, so that it need not wait for its former lease to run out.
        `window` is dedupe.window in seconds. Raises Unreachable while the server is away, Rejected when the
        schema is not (rightly) migrated.
        """
        with ExitStack() as undo:
            engine = server.engine(url, schema, session_name(schema, member.process))
            undo.callback(engine.dispose)
            heart = Heartbeat(engine, member, schema)
            clean = await asyncio.to_thread(_join, engine, schema, heart, stamp(now))
            undo.pop_all()
        return cls(engine, heart, window, clean)

    @property
    def lease_until(self) -> float:
        """See the port."""
        return self._heart.until

    def now(self, wall: datetime) -> datetime:
        """See the port."""
        now = self._heart.now(wall)
        self.health.clock_ahead = (wall - now).total_seconds()
        return now

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """See the port."""
        if monotonic() < self._heart.quiet_until:
            return Recovery(self._clean, 0, 0)
        return await super().recover(now, resend)

    async def close(self, *, in_order: bool = True) -> None:
        """See the port."""
        await asyncio.to_thread(self._heart.stop)
        await super().close(in_order=in_order)

    def _begin_anew(self, generation: int) -> None:
        # one assignment: the writing thread reads it once for each piece of work
        self._holder = replace(self._holder, generation=generation, keys=RowKeys(generation))


def _join(engine: Engine, schema: str, heart: Heartbeat, started_at: float) -> bool:
    with server.reaching():
        with engine.begin() as connection:
            check(connection, schema)
        heart.see_the_day()
        with engine.begin() as connection:
            return heart.enlist(connection, started_at)


class SharedServer:
    """What the writer has to know of PostgreSQL."""

    _BEGUN = text("SELECT CAST(pg_current_xact_id() AS text), pg_advisory_xact_lock_shared(:key)")
    _STATUS = text("SELECT pg_xact_status(CAST(:transaction AS xid8))")
    INVALID = "22023"
    """The server has never heard of this transaction: it is not the one that was asked to commit it."""

    def __init__(self, engine: Engine, calendar_key: int) -> None:
        self._engine = engine
        self._key = {"key": calendar_key}

    def begun(self, connection: Connection) -> str:
        """Hold the calendar's lock, in common with everybody, and learn the transaction's number."""
        number: str = connection.execute(self._BEGUN, self._key).scalar_one()
        return number

    def landed(self, transaction: str) -> bool:
        """The server remembers what became of it; one that still commits it is waited for."""
        while (status := self._status(transaction)) == "in progress":
            sleep(0.1)
        return status == "committed"

    def _status(self, transaction: str) -> str | None:
        try:
            with self._engine.begin() as connection:
                found: str | None = connection.execute(
                    self._STATUS, {"transaction": transaction}
                ).scalar_one()
                return found
        except DBAPIError as error:
            if server.sqlstate(error) == self.INVALID:
                return None
            raise

    def mending(self, error: DBAPIError) -> Mending:
        """See commit.Database; a server that is primary no more is let go of, so that the next is found."""
        if server.sqlstate(error) in server.REFRESHED:
            return Mending.REPETITION
        if server.sqlstate(error) == server.READ_ONLY:
            self._engine.dispose()
        return Mending.TIME if server.passes(error) else Mending.NOTHING
