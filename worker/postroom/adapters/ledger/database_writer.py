"""The one writer of a ledger's database: transactions in groups, repeated until the database takes them.

In: pieces of work, each a function of an open connection. Out: the result, once the commit is durable. When
the database refuses for a reason that passes (disk full, server gone), the group is repeated until it
succeeds; `health` holds the reason, and no caller continues in the meantime. Any other error is a bug and is
raised to every caller of the group.

An error at the commit itself does not tell whether the commit took effect. The database is asked, and a group
that is committed is not executed again.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.group_commit import GroupCommit, Job
from postroom.ports.world import LedgerHealth

RETRY_SECONDS = 1.0
MAX_GROUP = 64
"""Pieces of work in one transaction; each is a batch itself."""

log = structlog.get_logger("postroom.ledger")

T = TypeVar("T")


class ErrorAction(Enum):
    """What the writer does after a database error."""

    WAIT = "wait"
    """Wait, then repeat the group: the disk is full or the server is away."""
    RETRY = "retry"
    """Repeat the group at once: two transactions blocked each other."""
    FAIL = "fail"
    """Raise the error to the callers: it is a bug."""


class CommitDatabase(Protocol):
    """What differs between SQLite and PostgreSQL for the writer."""

    def transaction_id(self, connection: Connection) -> str:
        """Called first in every transaction; returns the id by which `is_committed` finds it, or nothing."""
        ...

    def is_committed(self, transaction: str) -> bool:
        """Whether a transaction whose commit raised an error took effect. Raises as any access does."""
        ...

    def error_action(self, error: DBAPIError) -> ErrorAction:
        """What the writer does after this error."""
        ...


class DatabaseWriter:
    """Runs work in groups, each group in one transaction."""

    def __init__(self, engine: Engine, database: CommitDatabase, health: LedgerHealth) -> None:
        self._engine = engine
        self._database = database
        self._health = health
        self._closing = threading.Event()
        self._group: GroupCommit[Connection] = GroupCommit(self._commit, name="ledger", max_group=MAX_GROUP)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` inside the next group; returns when its commit is durable."""
        return await self._group.run(work)

    async def finish(self, last: Callable[[Connection], Any]) -> None:
        """Do what is queued and then `last`, and end the thread; each group gets one attempt from now on."""
        self._closing.set()
        try:
            await self._group.run(last)
        finally:
            await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """End the thread after the queued work; blocks until it has ended."""
        self._group.close()

    def _commit(self, jobs: Sequence[Job[Connection]]) -> None:
        uncertain = ""
        while True:
            try:
                if not (uncertain and self._database.is_committed(uncertain)):
                    uncertain = ""
                    for transaction in self._perform(jobs):
                        uncertain = transaction  # an error after this line is one of the commit
            except DBAPIError as error:
                action = self._database.error_action(error)
                if action is ErrorAction.FAIL or (action is ErrorAction.WAIT and not self._wait(error)):
                    raise
                continue
            return self._note_success()

    def _perform(self, jobs: Sequence[Job[Connection]]) -> Iterator[str]:
        """Execute the group; yields the transaction's id when only its commit is left."""
        with self._engine.connect() as connection, connection.begin():
            transaction = self._database.transaction_id(connection)
            for job in jobs:
                job.result = job.work(connection)
            yield transaction

    def _wait(self, error: DBAPIError) -> bool:
        """Note the error and wait; False when the writer is closing, so that there is no further attempt."""
        reason = " ".join(str(error.orig).split())
        if self._health.ok:
            log.error("ledger write failed; sending stops until it succeeds", reason=reason)
        self._health.ok, self._health.reason = False, reason
        return not self._closing.wait(RETRY_SECONDS)

    def _note_success(self) -> None:
        if not self._health.ok:
            log.warning("ledger writes succeed again")
        self._health.ok, self._health.reason = True, ""
        self._health.commits += 1
