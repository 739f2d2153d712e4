"""One operator and its parts: watches feed the store, the store wakes keys, loops reconcile them.

Wiring only; nothing here decides. `run` lists the cluster once and then runs all parts concurrently until it
is cancelled or a part fails.
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
    """What the process gives to the operator that leads: credentials, metrics, health."""

    credentials: ApiCredentials
    metrics: OperatorMetrics
    health: OperatorHealth


class Operator:
    """One operator. It reconciles nothing before `run`."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock
        adapter = SettingsAdapter(settings)
        self.store = ObjectStore()
        self.queue: WorkQueue[ReconcileKey] = WorkQueue(clock.random)
        self._guard: WorkQueue[ReconcileKey] = WorkQueue(clock.random)
        """A queue of its own: on the other a key waits for the validation of templates and for other keys."""
        self._validator = Validator(settings.validators, self._validated_late)
        self._topics = TopicManager(adapter.connect, settings.replication, self._topics_changed)
        self._workers = WorkerPoller(self.store.pods, self._workers_changed)
        self._resync = Resync(cluster, self.store, settings.namespaces, self._wake)
        self._context = ReconcileContext(
            store=self.store,
            cluster=cluster,
            applier=Applier(cluster, self.store, settings.holder, clock.now),
            observer=Observer(self.store),
            validator=self._validator,
            topics=self._topics,
            workers=self._workers,
            defaults=adapter.defaults,
            keda=lambda: self._resync.addons.keda,
            now=clock.now,
        )

    def readiness(self) -> Iterator[ObjectReadiness]:
        """The readiness of every template, layout and profile; none before this operator leads."""
        return map(object_readiness, self.store.custom_resources())

    async def run(self, run_context: RunContext) -> None:
        """Run until cancelled; raises the exception of the first part that fails."""
        async with self._validator:
            await self._lead(run_context)

    async def _lead(self, run_context: RunContext) -> None:
        await self._resync.initial()
        synced = partial(self._synced, run_context)
        synced()
        settings = self._settings
        watcher = ObjectWatcher(
            run_context.credentials,
            settings.namespaces,
            settings.watch_seconds,
            keda=self._resync.addons.keda,
        )
        await run_until_first_ends(
            self._loop(self.queue, reconcile, run_context).run(settings.reconcilers),
            self._loop(self._guard, enforce, run_context).run(1),
            self._resync.run(settings.resync_seconds, synced),
            self._resync.poll_namespaces(),
            self._workers.run(),
            self._topics.run(),
            watcher.run(self._seen, self._gone),
        )

    def _loop(self, queue: WorkQueue[ReconcileKey], work: Work, run_context: RunContext) -> ReconcileLoop:
        return ReconcileLoop(
            queue, lambda key: work(key, self._context), run_context.metrics, self._clock.monotonic
        )

    def _synced(self, run_context: RunContext) -> None:
        run_context.health.synced_at = self._clock.monotonic()
        run_context.metrics.record_resync(self._clock.now().timestamp())

    def _wake(self, keys: Iterable[ReconcileKey], urgent: Container[ReconcileKey] = ()) -> None:
        for key in sorted(keys):
            self.queue.add(key, urgent=key in urgent)
            if key.kind == "SmtpProfile":
                self._guard.add(guard_key(key))

    def _seen(self, manifest: Manifest) -> None:
        keys = self.store.put(without_managed_fields(manifest))
        self._wake(keys, keys if is_urgent(manifest) else ())

    def _gone(self, manifest: Manifest) -> None:
        ref = ref_of(manifest)
        self._validator.forget((ref.kind, ref.namespace, ref.name))
        keys = self.store.drop(ref, version_of(manifest))
        self._wake(keys, keys if ref.api_version == API_VERSION else ())

    def _validated_late(self, validated: ValidatedObject) -> None:
        kind, namespace, name = validated
        self._wake(self.store.keys_of(Ref(API_VERSION, kind, namespace, name)))

    def _topics_changed(self, owner: Hashable) -> None:
        assert isinstance(owner, ReconcileKey)
        self._wake([owner])

    def _workers_changed(self, group: Group) -> None:
        self._wake(self.store.keys_of_workers(*group))


async def run_until_first_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Run concurrently until the first ends; then cancel the others and raise the exception of the first."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
