"""Group commit: whatever waits goes into one transaction, on one thread.

In: pieces of work, each a function of an open connection. Out: its result, once the commit is durable.
While a commit runs, the next group gathers; so the more load, the more rows a commit. When the database
refuses (disk full, server gone), the group is tried again until it works, `health` says why, and nobody
goes on in the meantime; any other error is a bug and reaches every caller of the group.

An error at the commit itself says nothing of its outcome: the database is asked, and a group that landed is
not done twice.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.ports.health import Health

RETRY_SECONDS = 1.0
MAX_GROUP = 64
"""Pieces of work in one transaction; each is a batch itself."""

log = structlog.get_logger("postroom.ledger")

T = TypeVar("T")


class ErrorAction(Enum):
    """What mends an error of the database."""

    WAIT = "wait"
    """Waiting: a full disk, a server that is away."""
    RETRY = "retry"
    """Doing it again at once: two transactions were in each other's way."""
    FAIL = "fail"
    """It is a bug."""


class CommitDatabase(Protocol):
    """What the writer has to know of its database."""

    def transaction_id(self, connection: Connection) -> str:
        """Called at the head of every transaction; its answer names the transaction."""
        ...

    def is_committed(self, transaction: str) -> bool:
        """Whether a transaction whose commit failed took effect all the same. Raises like any access."""
        ...

    def error_action(self, error: DBAPIError) -> ErrorAction:
        """What mends this error."""
        ...


@dataclass(slots=True, eq=False)
class GroupJob:
    """One caller's work in a group."""

    work: Callable[[Connection], Any]
    future: "asyncio.Future[Any]"
    result: Any = None


class GroupCommit:
    """The one writer of a database."""

    def __init__(self, engine: Engine, database: CommitDatabase, health: Health) -> None:
        self._engine = engine
        self._database = database
        self._health = health
        self._jobs: queue.SimpleQueue[GroupJob | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ledger", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do `work` inside the next group; returns when its commit is durable."""
        job = GroupJob(work, self._loop.create_future())
        self._jobs.put(job)
        result: T = await job.future
        return result

    async def finish(self, last: Callable[[Connection], Any]) -> None:
        """Do what waits and then `last`, and end the thread; the disk gets one more chance, not another."""
        self._closing.set()
        job = GroupJob(last, self._loop.create_future())
        self._jobs.put(job)
        self._jobs.put(None)
        try:
            await job.future
        finally:
            await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        open_ = True
        while open_:
            group = self._gather()
            open_ = None not in group
            jobs = [job for job in group if job is not None]
            if jobs:
                self._commit(jobs)

    def _gather(self) -> list[GroupJob | None]:
        group = [self._jobs.get()]
        while len(group) < MAX_GROUP and group[-1] is not None:
            try:
                group.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        return group

    def _commit(self, jobs: list[GroupJob]) -> None:
        uncertain = ""
        while True:
            try:
                if not (uncertain and self._database.is_committed(uncertain)):
                    uncertain = ""
                    for transaction in self._perform(jobs):
                        uncertain = transaction  # an error after this one is the commit's
            except DBAPIError as error:
                action = self._database.error_action(error)
                if action is ErrorAction.FAIL or (action is ErrorAction.WAIT and not self._wait(error)):
                    return self._fail(jobs, error)
                continue
            except Exception as error:  # noqa: BLE001 - a bug: every caller must hear of it
                return self._fail(jobs, error)
            return self._succeed(jobs)

    def _perform(self, jobs: list[GroupJob]) -> Iterator[str]:
        """Do the group; yields the transaction's name when only its commit is left."""
        with self._engine.connect() as connection, connection.begin():
            transaction = self._database.transaction_id(connection)
            for job in jobs:
                job.result = job.work(connection)
            yield transaction

    def _wait(self, error: DBAPIError) -> bool:
        """Say what is wrong and let some time pass; False when there is none left."""
        self._report_failure(" ".join(str(error.orig).split()))
        return not self._closing.wait(RETRY_SECONDS)

    def _succeed(self, jobs: list[GroupJob]) -> None:
        if not self._health.ok:
            log.warning("ledger writes work again")
        self._health.ok, self._health.reason = True, ""
        self._health.commits += 1
        self._loop.call_soon_threadsafe(_resolve, jobs)

    def _report_failure(self, reason: str) -> None:
        if self._health.ok:
            log.error("ledger does not take writes; nothing is sent until it does", reason=reason)
        self._health.ok, self._health.reason = False, reason

    def _fail(self, jobs: list[GroupJob], error: Exception) -> None:
        self._loop.call_soon_threadsafe(_reject, jobs, error)


def _resolve(jobs: list[GroupJob]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_result(job.result)


def _reject(jobs: list[GroupJob], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(error)
