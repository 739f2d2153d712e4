"""The ledger port on PostgreSQL, for workers that share a ledger.

Each worker has one writer thread with one session and commits in groups, as on SQLite; `synchronous_commit`
is on. Leases replace the file lock (see leases). While the server is away, the writer repeats its group until
it succeeds, so that sending stops and no call is lost.
"""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from time import monotonic, sleep

from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger import postgres_server
from postroom.adapters.ledger.database_writer import ErrorAction
from postroom.adapters.ledger.dedupe import SharedBuckets
from postroom.adapters.ledger.leases import Heartbeat, LedgerMember, session_name
from postroom.adapters.ledger.migrations import check
from postroom.adapters.ledger.orphans import IndexedOrphans
from postroom.adapters.ledger.rows import RowKeys, stamp
from postroom.adapters.ledger.sql_ledger import SqlLedger
from postroom.adapters.ledger.writer import WriterIdentity
from postroom.ports.world import Recovery


class PostgresLedger(SqlLedger):
    """Implements ports.ledger.Ledger; open it with `await PostgresLedger.open(url, schema, …)`."""

    def __init__(self, engine: Engine, heartbeat: Heartbeat, window: float, clean: bool) -> None:
        worker_epoch = heartbeat.worker_epoch
        keys, member = RowKeys(worker_epoch), heartbeat.member
        writer = WriterIdentity(
            worker_epoch,
            keys,
            window,
            SharedBuckets(),
            IndexedOrphans(),
            member.profile,
            member.profile_workers,
        )
        super().__init__(engine, PostgresDatabase(engine, heartbeat.calendar_key), writer, clean)
        self._heartbeat = heartbeat
        heartbeat.start(self._change_epoch)

    @classmethod
    async def open(
        cls, url: str, schema: str, member: LedgerMember, window: float, now: datetime
    ) -> "PostgresLedger":
        """Join the workers of the ledger in `schema`.

        `member` names the owner of the lease: no two live workers have the same name, and a worker that is
        restarted in the same place keeps its name, so that it need not wait for its earlier lease to expire.
        `window` is dedupe.window in seconds. Raises Unreachable while the server is away, Rejected when the
        schema is not migrated.
        """
        with ExitStack() as undo:
            engine = postgres_server.ledger_engine(url, schema, session_name(schema, member.process))
            undo.callback(engine.dispose)
            heartbeat = Heartbeat(engine, member, schema)
            clean = await asyncio.to_thread(_join, engine, schema, heartbeat, stamp(now))
            undo.pop_all()
        return cls(engine, heartbeat, window, clean)

    @property
    def lease_until(self) -> float:
        """Monotonic seconds until which the lease is trusted."""
        return self._heartbeat.lease_until

    def now(self, wall: datetime) -> datetime:
        """The time of the database."""
        now = self._heartbeat.now(wall)
        self.health.clock_ahead = (wall - now).total_seconds()
        return now

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """Recover what dead workers had recalled, except in the grace time after an outage."""
        if monotonic() < self._heartbeat.grace_until:
            return Recovery(self._clean, 0, 0)
        return await super().recover(now, resend)

    async def close(self, *, in_order: bool = True) -> None:
        """End the heartbeat, then the writer."""
        await asyncio.to_thread(self._heartbeat.stop)
        await super().close(in_order=in_order)

    def _change_epoch(self, worker_epoch: int) -> None:
        # one assignment: the writer thread reads it once for each piece of work
        self._writer = replace(self._writer, worker_epoch=worker_epoch, row_keys=RowKeys(worker_epoch))


def _join(engine: Engine, schema: str, heartbeat: Heartbeat, started_at: float) -> bool:
    with postgres_server.unreachable_errors():
        with engine.begin() as connection:
            check(connection, schema)
        heartbeat.advance_calendar()
        with engine.begin() as connection:
            return heartbeat.register(connection, started_at)


class PostgresDatabase:
    """Transactions, commits and errors of PostgreSQL, for the database writer."""

    _BEGUN = text("SELECT CAST(pg_current_xact_id() AS text), pg_advisory_xact_lock_shared(:key)")
    _STATUS = text("SELECT pg_xact_status(CAST(:transaction AS xid8))")
    INVALID = "22023"
    """SQLSTATE for an unknown transaction id: this server is not the one that was asked to commit it."""

    def __init__(self, engine: Engine, calendar_key: int) -> None:
        self._engine = engine
        self._key = {"key": calendar_key}

    def transaction_id(self, connection: Connection) -> str:
        """Take the calendar's lock in shared mode and return the transaction's number."""
        number: str = connection.execute(self._BEGUN, self._key).scalar_one()
        return number

    def is_committed(self, transaction: str) -> bool:
        """Read the status that the server keeps; waits while the commit is in progress."""
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
            if postgres_server.sqlstate(error) == self.INVALID:
                return None
            raise

    def error_action(self, error: DBAPIError) -> ErrorAction:
        """The action after an error; the connections to a server that is no primary any more are closed."""
        if postgres_server.sqlstate(error) in postgres_server.RETRYABLE_STATES:
            return ErrorAction.RETRY
        if postgres_server.sqlstate(error) == postgres_server.READ_ONLY_STATE:
            self._engine.dispose()
        return ErrorAction.WAIT if postgres_server.is_transient(error) else ErrorAction.FAIL
