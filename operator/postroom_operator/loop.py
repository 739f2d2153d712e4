"""The loop: keys off the queue, each reconciled, what came of it logged and counted, failures queued again.

A few at a time. Whatever a reconcile raises is that key's: it comes back later and later, and its neighbours
go on. Only the loss of the Lease ends the loop.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from postroom_operator.apply import Done
from postroom_operator.cluster import ClusterError, Ending
from postroom_operator.lease import LeaseLost
from postroom_operator.metrics import Metrics
from postroom_operator.queue import WorkQueue
from postroom_operator.store import Key

log = structlog.get_logger("postroom.operator")

Reconcile = Callable[[Key], Awaitable[Done]]


class Loop:
    """Works the queue off."""

    def __init__(
        self, queue: WorkQueue[Key], reconcile: Reconcile, metrics: Metrics, monotonic: Callable[[], float]
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._monotonic = monotonic

    async def run(self, at_a_time: int) -> None:
        """Work for ever; raises LeaseLost."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_a_time):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            began = self._monotonic()
            outcome = await self._take_one(key)
            self._metrics.reconciled(key.kind, outcome, self._monotonic() - began)

    async def _take_one(self, key: Key) -> str:
        try:
            done = await self._reconcile(key)
        except LeaseLost:
            raise
        except Ending:
            self._queue.done(key)
            return "ending"
        except ClusterError as error:
            wait = self._queue.failed(key, error.retry_after or 0.0)
            log.warning("to be tried again", key=str(key), problem=error.message, seconds=round(wait, 1))
            return "later"
        except Exception:
            wait = self._queue.failed(key)
            log.exception("a mistake of Postroom's; to be tried again", key=str(key), seconds=round(wait, 1))
            return "failed"
        self._queue.done(key)
        if done.written or done.refused:
            log.info("reconciled", key=str(key), written=done.written, refused=[*done.refused])
        return "refused" if done.refused else "done"
