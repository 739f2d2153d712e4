"""The work queue: keys in, each at most once at a time out; what failed comes back later and later.

Level-triggered: a key says that something about it may have changed, not what. A key that is added while it
waits is one key; one that is added while it is worked on comes once more. First come, first served, after
a moment in which a burst becomes one; but what somebody waits for goes before what is only looked at again,
so that an edit need not wait for a whole cluster after a restart. Everything happens on one event loop.

The loop: keys off the queue, each reconciled, what came of it logged and counted, failures queued again.

A few at a time. Whatever a reconcile raises is that key's: it comes back later and later, and its neighbours
go on. Only the loss of the Lease ends the loop.
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
"""A burst of events about one key becomes one reconcile."""
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 60.0

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys that wait, keys in work, keys that come back at their time."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._ready: dict[K, float] = {}
        """Since when each key waits, in order."""
        self._urgent: dict[K, None] = {}
        """The keys that go first, in order; some may not be due yet."""
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._takers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def oldest_age(self) -> float:
        """Seconds that the oldest waiting key has waited."""
        since = next(iter(self._ready.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in work; retries that are to come do not count."""
        return not (self._ready or self._working)

    def add(self, key: K, after: float = SETTLE_SECONDS, *, first: bool = False) -> None:
        """Say that a key wants work; the earliest time counts. `first`: before those that were not."""
        loop = asyncio.get_running_loop()
        if first:
            self._urgent.setdefault(key)
        timer = self._timers.get(key)
        if key in self._ready or (timer and timer.when() <= loop.time() + after):
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(after, self._due, key)

    async def get(self) -> K:
        """The key that waited longest, of the urgent ones if any; in work until `done` or `failed`."""
        while not self._ready:
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                self._hand_on(taker)
                raise
        key = next((each for each in self._urgent if each in self._ready), next(iter(self._ready)))
        self._urgent.pop(key, None)
        del self._ready[key]
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The key's work is done."""
        self._failures.pop(key, None)
        self._release(key)

    def failed(self, key: K, at_least: float = 0.0) -> float:
        """The key's work failed; it comes back. Returns after how many seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** (min(failures, 16) - 1))
        wait = max(at_least, wait * (0.5 + self._chance() / 2))
        self._release(key)
        self.add(key, wait)
        return wait

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

    def _hand_on(self, taker: "asyncio.Future[None]") -> None:
        """A taker that was woken and cancelled at once passes the word on."""
        if taker.done() and not taker.cancelled():
            self._wake()


log = structlog.get_logger("postroom.operator")

Reconcile = Callable[[ReconcileKey], Awaitable[ReconcileResult]]


class ReconcileLoop:
    """Works the queue off."""

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

    async def run(self, at_a_time: int) -> None:
        """Work for ever; raises LeaseLost."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_a_time):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            began = self._monotonic()
            outcome = await self._take_one(key)
            self._metrics.count_reconcile(key.kind, outcome, self._monotonic() - began)

    async def _take_one(self, key: ReconcileKey) -> str:
        try:
            done = await self._reconcile(key)
        except LeaseLost:
            raise
        except NamespaceTerminating:
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
