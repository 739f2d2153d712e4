"""The ledger port on one SQLite file.

One writing process a file, held by flock (the lock dies with its holder, so it replaces the lease); WAL,
synchronous FULL, local disk. A second process on the same file is refused at start. More workers need
PostgreSQL.
"""

import fcntl
import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import structlog
from sqlalchemy import URL, Engine, create_engine, event, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import StaticPool

from postroom.adapters.ledger import claims, deadletters, identities, pruning, settlements, strays
from postroom.adapters.ledger.claims import Holder
from postroom.adapters.ledger.commit import GroupCommit
from postroom.adapters.ledger.rows import RowKeys, stamp
from postroom.adapters.ledger.schema import VERSION, metadata, worker
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem, Rejected
from postroom.ports.ledger import (
    Claimed,
    DeadLetter,
    Existing,
    Health,
    Letter,
    Recalled,
    Recovery,
    Settlement,
    Waiting,
)

CACHE_KIB = 16_384
CHECKPOINT_PAGES = 4_000
"""16 MiB of log between checkpoints: each is a second sync, so they are kept rare."""

log = structlog.get_logger("postroom.ledger")


class SqliteLedger:
    """Implements ports.ledger.Ledger; open it with `await SqliteLedger.open(path, window)`."""

    def __init__(self, lock: IO[str], engine: Engine, holder: Holder, clean: bool) -> None:
        self.health = Health()
        self._lock = lock
        self._engine = engine
        self._holder = holder
        self._clean = clean
        self._writer = GroupCommit(engine, self.health)

    @classmethod
    async def open(cls, path: Path, window: float, now: datetime) -> "SqliteLedger":
        """Open or create the file, become its one writer; raises Rejected when that can't be.

        `window` is dedupe.window in seconds.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(_lock(path))
            engine = _engine(path)
            undo.callback(engine.dispose)
            try:
                with engine.begin() as connection:
                    _prepare(connection, path)
                    clean, generation = _enlist(connection, now)
                    known, in_hand = identities.buckets(connection), strays.strays(connection)
                    holder = Holder(generation, RowKeys(generation), window, known, in_hand)
            except DatabaseError as error:
                raise _unusable(path, error.orig or error) from None
            undo.pop_all()
        return cls(lock, engine, holder, clean)

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        """See the port."""
        recalled, in_doubt = await self._writer.run(
            lambda c: settlements.recover(c, self._holder, now, resend)
        )
        return Recovery(self._clean, recalled, in_doubt)

    async def claim(self, letters: Sequence[Letter], now: datetime) -> Sequence[Claimed | Existing]:
        """See the port."""
        self.health.rows += len(letters)
        return await self._writer.run(lambda c: claims.claim(c, letters, self._holder, now))

    async def take_over(self, rows: Sequence[Existing], now: datetime) -> Sequence[Claimed | None]:
        """See the port."""
        return await self._writer.run(lambda c: claims.take_over(c, rows, self._holder, now))

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        """See the port."""
        self.health.rows += len(claimed)
        return await self._writer.run(lambda c: claims.fence(c, claimed, self._holder, now))

    async def settle(self, batch: Sequence[Settlement], now: datetime) -> None:
        """See the port."""
        self.health.rows += len(batch)
        late = await self._writer.run(lambda c: settlements.settle(c, batch, self._holder, now))
        self.health.late_settlements += late

    async def release(self, claimed: Sequence[Claimed]) -> None:
        """See the port."""
        await self._writer.run(lambda c: settlements.release(c, claimed, self._holder))

    async def bury(self, dead_letters: Sequence[DeadLetter]) -> None:
        """See the port."""
        await self._writer.run(lambda c: settlements.bury(c, dead_letters, self._holder))

    async def due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        """See the port."""
        return await self._writer.run(lambda c: settlements.due(c, self._holder, now, limit))

    async def waiting(self, limit: int) -> Sequence[Waiting]:
        """See the port."""
        return await self._writer.run(lambda c: deadletters.waiting(c, limit))

    async def published(self, batch: Sequence[Waiting]) -> None:
        """See the port."""
        await self._writer.run(lambda c: deadletters.published(c, [one.row for one in batch]))

    async def suspect(self, records: Sequence[Record]) -> Sequence[int]:
        """See the port."""
        return await self._writer.run(lambda c: deadletters.mark(c, records))

    async def accuse(self, record: Record) -> int:
        """See the port."""
        return await self._writer.run(lambda c: deadletters.accuse(c, record))

    async def absolve(self, records: Sequence[Record]) -> None:
        """See the port."""
        await self._writer.run(lambda c: deadletters.absolve(c, records))

    async def prune(self, before: datetime, limit: int) -> int:
        """See the port."""
        return await self._writer.run(lambda c: pruning.prune(c, self._holder, before, limit))

    async def close(self) -> None:
        """See the port. Where the disk takes no writes it gives up; the next start finds an unclean end."""
        try:
            await self._writer.finish(self._sign_off)
        except OperationalError as error:
            log.error("ledger closed without its last writes", reason=str(error.orig))
        finally:
            self._engine.dispose()
            self._lock.close()

    def _sign_off(self, connection: Connection) -> None:
        ours = worker.c.generation == self._holder.generation
        connection.execute(update(worker).where(ours).values(ended_in_order=True))


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
                f"{path} is written by {holder} already; a SQLite ledger takes one worker. "
                "Stop that one, or give this one a file of its own",
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
        # an error that quotes the parameters would carry addresses into the log
        hide_parameters=True,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def tune(connection: Any, _record: Any) -> None:
        # FULL: a commit is on the disk when it returns, which is what the fence relies on
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
    metadata.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def _enlist(connection: Connection, now: datetime) -> tuple[bool, int]:
    """Take the next generation; says also whether the one before ended in order."""
    last = connection.execute(
        select(worker.c.ended_in_order).order_by(worker.c.generation.desc()).limit(1)
    ).scalar()
    clean = True if last is None else bool(last)
    made = connection.execute(
        insert(worker)
        .values(process=f"{os.uname().nodename}:{os.getpid()}", started_at=stamp(now))
        .returning(worker.c.generation)
    )
    return clean, made.scalar_one()
