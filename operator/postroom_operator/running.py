"""The parts of one operator, put together: what is seen goes into the store, its keys through the loop.

Wiring only; nothing here decides. `run` lists the cluster once, and then everything goes on side by side
until it is cancelled or the first part fails.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from postroom.clock import SystemClock
from postroom_operator.adapters.access import Access
from postroom_operator.adapters.kafka import Topics
from postroom_operator.adapters.kubernetes import stripped
from postroom_operator.adapters.prover import Owner, Prover
from postroom_operator.adapters.workers import Group, Workers
from postroom_operator.apply import Done, Hand
from postroom_operator.cluster import API_VERSION, Cluster, Manifest, Ref, ref_of, version_of
from postroom_operator.facts import Readiness
from postroom_operator.guard import close, guard_key
from postroom_operator.handlers import Watches
from postroom_operator.loop import Loop
from postroom_operator.metrics import Metrics
from postroom_operator.observe import Observer
from postroom_operator.office import Office
from postroom_operator.page import Health
from postroom_operator.queue import WorkQueue
from postroom_operator.reconcile import reconcile
from postroom_operator.resync import Resync
from postroom_operator.settings import OperatorSettings
from postroom_operator.status import readiness
from postroom_operator.store import Key, Store, is_news
from postroom_operator.wiring import Wiring

Work = Callable[[Key, Office], Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class Watched:
    """Who we are to the API server, and who watches us."""

    access: Access
    metrics: Metrics
    health: Health


class Running:
    """One operator at work."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock
        wiring = Wiring(settings)
        self.store = Store()
        self.queue: WorkQueue[Key] = WorkQueue(clock.random)
        self._guard: WorkQueue[Key] = WorkQueue(clock.random)
        """Of its own: on the other a key waits while its templates are proved, and for its neighbours."""
        self._prover = Prover(settings.provers, self._proved_late)
        self._topics = Topics(wiring.connect, settings.replication, self._topics_moved)
        self._workers = Workers(self.store.pods, self._workers_spoke)
        self._resync = Resync(cluster, self.store, settings.namespaces, self._wake)
        self._office = Office(
            store=self.store,
            cluster=cluster,
            hand=Hand(cluster, self.store, settings.holder, clock.now),
            observer=Observer(self.store),
            prover=self._prover,
            topics=self._topics,
            workers=self._workers,
            fixed=wiring.fixed,
            keda=lambda: self._resync.addons.keda,
            now=clock.now,
        )

    def readiness(self) -> Iterator[Readiness]:
        """Of every template, layout and profile that was seen: none before this operator leads."""
        return map(readiness, self.store.own())

    async def run(self, watched: Watched) -> None:
        """Work until cancelled; raises what the first part to fail raised."""
        async with self._prover:
            await self._lead(watched)

    async def _lead(self, watched: Watched) -> None:
        await self._resync.first()
        synced = partial(self._synced, watched)
        synced()
        told, keda = self._settings, self._resync.addons.keda
        watches = Watches(watched.access, told.namespaces, told.watch_seconds, keda=keda)
        await first_of(
            self._loop(self.queue, reconcile, watched).run(told.reconcilers),
            self._loop(self._guard, close, watched).run(1),
            self._resync.run(told.resync_seconds, synced),
            self._resync.watch_guard(),
            self._workers.run(),
            self._topics.run(),
            watches.run(self._seen, self._gone),
        )

    def _loop(self, queue: WorkQueue[Key], work: Work, watched: Watched) -> Loop:
        return Loop(queue, lambda key: work(key, self._office), watched.metrics, self._clock.monotonic)

    def _synced(self, watched: Watched) -> None:
        watched.health.synced_at = self._clock.monotonic()
        watched.metrics.resynced(self._clock.now().timestamp())

    def _wake(self, keys: Iterable[Key], first: Container[Key] = ()) -> None:
        for key in sorted(keys):
            self.queue.add(key, first=key in first)
            if key.kind == "SmtpProfile":
                self._guard.add(guard_key(key))

    def _seen(self, manifest: Manifest) -> None:
        woken = self.store.put(stripped(manifest))
        self._wake(woken, woken if is_news(manifest) else ())

    def _gone(self, manifest: Manifest) -> None:
        ref = ref_of(manifest)
        self._prover.forget((ref.kind, ref.namespace, ref.name))
        woken = self.store.drop(ref, version_of(manifest))
        self._wake(woken, woken if ref.api_version == API_VERSION else ())

    def _proved_late(self, owner: Owner) -> None:
        kind, namespace, name = owner
        self._wake(self.store.concerned(Ref(API_VERSION, kind, namespace, name)))

    def _topics_moved(self, owner: Hashable) -> None:
        assert isinstance(owner, Key)
        self._wake([owner])

    def _workers_spoke(self, group: Group) -> None:
        self._wake(self.store.served_by(*group))


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run side by side until the first ends; end the others, and raise what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
