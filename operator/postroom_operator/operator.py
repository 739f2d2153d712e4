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
from postroom_operator.apply import Applier, ReconcileResult
from postroom_operator.context import ReconcileContext
from postroom_operator.guard import enforce, guard_key
from postroom_operator.handlers import ObjectWatcher
from postroom_operator.health import OperatorHealth
from postroom_operator.kafka import TopicManager
from postroom_operator.kubernetes import ApiCredentials, without_managed_fields
from postroom_operator.metrics import OperatorMetrics
from postroom_operator.models import API_VERSION, Cluster, Manifest, ObjectReadiness, Ref, ref_of, version_of
from postroom_operator.observe import Observer
from postroom_operator.reconcile import reconcile
from postroom_operator.resync import Resync
from postroom_operator.settings import OperatorSettings, SettingsAdapter
from postroom_operator.status.conditions import object_readiness
from postroom_operator.store import ObjectStore, ReconcileKey, is_urgent
from postroom_operator.validation import ValidatedObject, Validator
from postroom_operator.workers import Group, WorkerPoller
from postroom_operator.workqueue import ReconcileLoop, WorkQueue

Work = Callable[[ReconcileKey, ReconcileContext], Awaitable[ReconcileResult]]


@dataclass(frozen=True, slots=True)
class RunContext:
    """Who we are to the API server, and who watches us."""

    credentials: ApiCredentials
    metrics: OperatorMetrics
    health: OperatorHealth


class Operator:
    """One operator at work."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock
        wiring = SettingsAdapter(settings)
        self.store = ObjectStore()
        self.queue: WorkQueue[ReconcileKey] = WorkQueue(clock.random)
        self._guard: WorkQueue[ReconcileKey] = WorkQueue(clock.random)
        """Of its own: on the other a key waits while its templates are proved, and for its neighbours."""
        self._validator = Validator(settings.provers, self._proved_late)
        self._topics = TopicManager(wiring.connect, settings.replication, self._topics_moved)
        self._workers = WorkerPoller(self.store.pods, self._workers_spoke)
        self._resync = Resync(cluster, self.store, settings.namespaces, self._wake)
        self._context = ReconcileContext(
            store=self.store,
            cluster=cluster,
            applier=Applier(cluster, self.store, settings.holder, clock.now),
            observer=Observer(self.store),
            validator=self._validator,
            topics=self._topics,
            workers=self._workers,
            defaults=wiring.defaults,
            keda=lambda: self._resync.addons.keda,
            now=clock.now,
        )

    def readiness(self) -> Iterator[ObjectReadiness]:
        """Of every template, layout and profile that was seen: none before this operator leads."""
        return map(object_readiness, self.store.custom_resources())

    async def run(self, watched: RunContext) -> None:
        """Work until cancelled; raises what the first part to fail raised."""
        async with self._validator:
            await self._lead(watched)

    async def _lead(self, watched: RunContext) -> None:
        await self._resync.initial()
        synced = partial(self._synced, watched)
        synced()
        told, keda = self._settings, self._resync.addons.keda
        watches = ObjectWatcher(watched.credentials, told.namespaces, told.watch_seconds, keda=keda)
        await run_until_first_ends(
            self._loop(self.queue, reconcile, watched).run(told.reconcilers),
            self._loop(self._guard, enforce, watched).run(1),
            self._resync.run(told.resync_seconds, synced),
            self._resync.poll_namespaces(),
            self._workers.run(),
            self._topics.run(),
            watches.run(self._seen, self._gone),
        )

    def _loop(self, queue: WorkQueue[ReconcileKey], work: Work, watched: RunContext) -> ReconcileLoop:
        return ReconcileLoop(
            queue, lambda key: work(key, self._context), watched.metrics, self._clock.monotonic
        )

    def _synced(self, watched: RunContext) -> None:
        watched.health.synced_at = self._clock.monotonic()
        watched.metrics.record_resync(self._clock.now().timestamp())

    def _wake(self, keys: Iterable[ReconcileKey], first: Container[ReconcileKey] = ()) -> None:
        for key in sorted(keys):
            self.queue.add(key, first=key in first)
            if key.kind == "SmtpProfile":
                self._guard.add(guard_key(key))

    def _seen(self, manifest: Manifest) -> None:
        woken = self.store.put(without_managed_fields(manifest))
        self._wake(woken, woken if is_urgent(manifest) else ())

    def _gone(self, manifest: Manifest) -> None:
        ref = ref_of(manifest)
        self._validator.forget((ref.kind, ref.namespace, ref.name))
        woken = self.store.drop(ref, version_of(manifest))
        self._wake(woken, woken if ref.api_version == API_VERSION else ())

    def _proved_late(self, owner: ValidatedObject) -> None:
        kind, namespace, name = owner
        self._wake(self.store.keys_of(Ref(API_VERSION, kind, namespace, name)))

    def _topics_moved(self, owner: Hashable) -> None:
        assert isinstance(owner, ReconcileKey)
        self._wake([owner])

    def _workers_spoke(self, group: Group) -> None:
        self._wake(self.store.keys_of_workers(*group))


async def run_until_first_ends(*works: Coroutine[Any, Any, None]) -> None:
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
