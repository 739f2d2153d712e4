"""Group commit: one thread runs queued work in groups, and each group is one transaction.

In: pieces of work, each a function of an open connection. Out: the result of each, once the commit of its
group is durable. While a commit runs, the next group gathers: the higher the load, the more work shares one
fsync. The transaction itself belongs to the caller, who passes a `commit` function; this module owns the
queue, the thread and the futures. Used by the delivery ledger (`adapters.ledger.database_writer`) and by the
sandbox's store.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

C = TypeVar("C")
T = TypeVar("T")

IDLE_AFTER_SECONDS = 0.05
"""How long the queue must be empty before idle work starts."""
IDLE_AGAIN_SECONDS = 60.0
"""How long to wait until idle work is tried again after it reported that nothing is left."""


@dataclass(slots=True, eq=False)
class Job(Generic[C]):
    """One piece of work; `commit` sets `result`, or `error` where this job alone was rolled back."""

    work: Callable[[C], Any]
    future: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None = None
    """The event loop that `future` belongs to; None for a future of a thread."""
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Pass the outcome to the caller, unless the caller was cancelled meanwhile."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class GroupCommit(Generic[C]):
    """The queue and the thread of one database's writer.

    `commit(jobs)` runs the work of all jobs in one transaction and returns when it is durable. If it raises,
    every job of the group fails with that error. `idle`, where given, is called in the same thread while the
    queue is empty, until it returns False, and then once a minute; it must not raise.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Job[C]]], None],
        *,
        name: str,
        max_group: int,
        idle: Callable[[], bool] | None = None,
    ) -> None:
        self._commit = commit
        self._max_group = max_group
        self._idle = idle
        self._jobs: queue.SimpleQueue[Job[C] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[C], T]) -> "Future[T]":
        """Queue work from any thread; the future is done when the commit of its group is durable."""
        future: Future[T] = Future()
        self._jobs.put(Job(work, future))
        return future

    async def run(self, work: Callable[[C], T]) -> T:
        """Queue work from an event loop and wait until the commit of its group is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(Job(work, future, loop))
        return await future

    def close(self) -> None:
        """Finish the work that is queued and end the thread; blocks until both are done."""
        self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        idle_is_left = self._idle is not None
        while True:
            try:
                first = self._jobs.get(timeout=self._seconds_until_idle(idle_is_left))
            except queue.Empty:
                idle_is_left = self._idle is not None and self._idle()
                continue
            jobs, is_last = self._gather(first)
            if jobs:
                self._finish(jobs)
                idle_is_left = True
            if is_last:
                return

    def _seconds_until_idle(self, idle_is_left: bool) -> float | None:
        if self._idle is None:
            return None
        return IDLE_AFTER_SECONDS if idle_is_left else IDLE_AGAIN_SECONDS

    def _gather(self, first: Job[C] | None) -> tuple[list[Job[C]], bool]:
        """The jobs that are queued now, up to the group's size; True when the end was queued after them."""
        jobs: list[Job[C]] = []
        job = first
        while job is not None:
            jobs.append(job)
            if len(jobs) >= self._max_group:
                return jobs, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _finish(self, jobs: list[Job[C]]) -> None:
        try:
            self._commit(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller of the group gets it
            for job in jobs:
                job.error = error
        # one wake-up for a group and event loop, not one for each job
        by_loop: dict[asyncio.AbstractEventLoop, list[Job[C]]] = {}
        for job in jobs:
            if job.loop is None:
                job.resolve()
            else:
                by_loop.setdefault(job.loop, []).append(job)
        for loop, waiting in by_loop.items():
            loop.call_soon_threadsafe(_resolve, waiting)


def _resolve(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.resolve()
