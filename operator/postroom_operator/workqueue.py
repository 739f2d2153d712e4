"""The work queue and the loop that reconciles its keys.

Level-triggered: a key says that something about it may have changed, not what. A key that is added while it
waits stays one key; a key that is added while it is being worked on is queued again. Keys are served in order
of arrival, after a short delay that turns a burst of events into one reconcile; urgent keys go first, so that
an edit does not wait for a whole cluster after a restart. A failed key comes back with exponential backoff,
and other keys are not delayed. Only the loss of the Lease ends the loop. Everything runs on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from postroom_operator.apply import ReconcileResult
from postroom_operator.lease import LeaseLost
from postroom_operator.metrics import OperatorMetrics
from postroom_operator.models import ClusterError, NamespaceTerminating
from postroom_operator.store import ReconcileKey

SETTLE_SECONDS = 0.05
"""Within this time the events about one key become one reconcile."""
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 60.0

K = TypeVar("K", bound=Hashable)
Reconcile = Callable[[ReconcileKey], Awaitable[ReconcileResult]]

log = structlog.get_logger("postroom.operator")


class WorkQueue(Generic[K]):
    """Keys that are ready, keys in work, and keys that come back at a later time."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """`chance` returns a random number from 0 to 1."""
        self._chance = chance
        self._ready: dict[K, float] = {}
        """The time since which each key has been ready, in order."""
        self._urgent: dict[K, None] = {}
        """The keys that go first, in order; some may not be ready yet."""
        self._working: set[K] = set()
        self._again: set[K] = set()
        """Keys in work that were added again."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._takers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def oldest_age(self) -> float:
        """Seconds for which the oldest ready key has waited."""
        since = next(iter(self._ready.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def idle(self) -> bool:
        """Whether no key is ready or in work; scheduled retries do not count."""
        return not (self._ready or self._working)

    def add(self, key: K, after: float = SETTLE_SECONDS, *, urgent: bool = False) -> None:
        """Queue a key after a delay in seconds; the earliest time counts. Urgent keys go before the
        others.
        """
        loop = asyncio.get_running_loop()
        if urgent:
            self._urgent.setdefault(key)
        timer = self._timers.get(key)
        if key in self._ready or (timer and timer.when() <= loop.time() + after):
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(after, self._due, key)

    async def get(self) -> K:
        """The next key, urgent keys first. The caller ends its work with `done` or `failed`."""
        while not self._ready:
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                self._pass_on(taker)
                raise
        key = next((urgent for urgent in self._urgent if urgent in self._ready), next(iter(self._ready)))
        self._urgent.pop(key, None)
        del self._ready[key]
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """End the work on a key successfully."""
        self._failures.pop(key, None)
        self._release(key)

    def failed(self, key: K, at_least: float = 0.0) -> float:
        """End the work on a key and queue it again; returns the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** (min(failures, 16) - 1))
        delay = max(at_least, delay * (0.5 + self._chance() / 2))
        self._release(key)
        self.add(key, delay)
        return delay

    def _release(self, key: K) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        if key in self._working:
            self._again.add(key)
            return
        self._ready.setdefault(key, asyncio.get_running_loop().time())
        self._wake()

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _pass_on(self, taker: "asyncio.Future[None]") -> None:
        """Wake another taker in place of one that was woken and cancelled at once."""
        if taker.done() and not taker.cancelled():
            self._wake()


class ReconcileLoop:
    """Takes keys off the queue, reconciles them, and logs and counts the results."""

    def __init__(
        self,
        queue: WorkQueue[ReconcileKey],
        reconcile: Reconcile,
        metrics: OperatorMetrics,
        monotonic: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._metrics = metrics
        self._monotonic = monotonic

    async def run(self, concurrency: int) -> None:
        """Reconcile keys until cancelled, `concurrency` at a time; raises LeaseLost."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            began = self._monotonic()
            outcome = await self._reconcile_key(key)
            self._metrics.count_reconcile(key.kind, outcome, self._monotonic() - began)

    async def _reconcile_key(self, key: ReconcileKey) -> str:
        """Reconcile a key and return the outcome, as the metric counts it."""
        try:
            result = await self._reconcile(key)
        except LeaseLost:
            raise
        except NamespaceTerminating:
            self._queue.done(key)
            return "namespace_terminating"
        except ClusterError as error:
            delay = self._queue.failed(key, error.retry_after or 0.0)
            log.warning(
                "reconcile failed; will retry", key=str(key), problem=error.message, seconds=round(delay, 1)
            )
            return "retry"
        except Exception:
            delay = self._queue.failed(key)
            log.exception("internal error; will retry", key=str(key), seconds=round(delay, 1))
            return "failed"
        self._queue.done(key)
        if result.written or result.refused:
            log.info("reconciled", key=str(key), written=result.written, refused=[*result.refused])
        return "refused" if result.refused else "done"
