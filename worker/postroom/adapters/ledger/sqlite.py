"""The ledger port on one SQLite file.

A file has one worker, which holds it by flock (the lock ends with its process, so that it replaces the
lease); WAL, synchronous FULL, local disk. A second process is refused at its start. Several workers need
PostgreSQL.
"""

import fcntl
import math
import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from postroom.adapters.ledger import dedupe, leases
from postroom.adapters.ledger.database_writer import ErrorAction
from postroom.adapters.ledger.dedupe import FileBuckets
from postroom.adapters.ledger.orphans import InMemoryOrphans
from postroom.adapters.ledger.rows import RowKeys, stamp
from postroom.adapters.ledger.schema import TABLES_OF_A_FILE, VERSION, metadata
from postroom.adapters.ledger.sql_ledger import SqlLedger
from postroom.adapters.ledger.writer import WriterIdentity
from postroom.letter.problems import Code, Problem, Rejected

CACHE_KIB = 16_384
CHECKPOINT_PAGES = 4_000
"""16 MiB of log between checkpoints: each one costs a second sync, so that they are rare."""


class SqliteLedger(SqlLedger):
    """Implements ports.ledger.Ledger; open it with `await SqliteLedger.open(path, window)`."""

    def __init__(self, lock: IO[str], engine: Engine, writer: WriterIdentity, clean: bool) -> None:
        super().__init__(engine, SqliteDatabase(), writer, clean)
        self._lock = lock

    @classmethod
    async def open(cls, path: Path, window: float, now: datetime) -> "SqliteLedger":
        """Open or create the file as its only worker; raises Rejected if that is impossible.

        `window` is dedupe.window in seconds.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(_lock(path))
            engine = _engine(path)
            undo.callback(engine.dispose)
            try:
                with engine.begin() as connection:
                    _prepare(connection, path)
                    process = f"{os.uname().nodename}:{os.getpid()}"
                    clean, worker_epoch = leases.register(connection, process, stamp(now))
                    buckets = FileBuckets(dedupe.all_buckets(connection))
                    in_hand = InMemoryOrphans(connection)
                    writer = WriterIdentity(worker_epoch, RowKeys(worker_epoch), window, buckets, in_hand)
            except DatabaseError as error:
                raise _unusable(path, error.orig or error) from None
            undo.pop_all()
        return cls(lock, engine, writer, clean)

    @property
    def lease_until(self) -> float:
        """Infinite: the lock is held for as long as the process lives."""
        return math.inf

    def now(self, wall: datetime) -> datetime:
        """The time of this machine: a file has one worker and no clock of its own."""
        return wall

    async def close(self, *, in_order: bool = True) -> None:
        """Close the writer, then release the lock."""
        try:
            await super().close(in_order=in_order)
        finally:
            self._lock.close()


class SqliteDatabase:
    """Transactions, commits and errors of SQLite, for the database writer."""

    def transaction_id(self, connection: Connection) -> str:
        """Empty: SQLite has no transaction ids."""
        return ""

    def is_committed(self, transaction: str) -> bool:
        """False: a commit that fails is rolled back."""
        return False

    def error_action(self, error: DBAPIError) -> ErrorAction:
        """Wait for errors of the disk and of locks, which pass."""
        return ErrorAction.WAIT if isinstance(error, OperationalError) else ErrorAction.FAIL


def _unusable(path: Path, error: BaseException) -> Rejected:
    return Rejected(
        Problem(
            Code.SETTING_INVALID,
            "POSTROOM_LEDGER",
            f"{path} cannot be used: {error}. Give a path on a local disk that this process may write to",
        )
    )


def _lock(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("a+")
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise Rejected(
            Problem(
                Code.LEDGER_IN_USE,
                "POSTROOM_LEDGER",
                f"{path} is used by {holder} already; a SQLite ledger has one worker. "
                "Stop that process, or give this worker a file of its own",
            )
        ) from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()
    return lock


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        # an error that quotes the parameters would put addresses into the log
        hide_parameters=True,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def tune(connection: Any, _record: Any) -> None:
        # FULL: a commit is on the disk when it returns, which the fence relies on
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"cache_size=-{CACHE_KIB}",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _prepare(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > VERSION:
        raise Rejected(
            Problem(
                Code.SETTING_INVALID,
                "POSTROOM_LEDGER",
                f"{path} has schema {found}, this Postroom knows up to {VERSION}; use the newer Postroom",
            )
        )
    if found == VERSION:
        return
    metadata.create_all(connection, tables=TABLES_OF_A_FILE)
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
