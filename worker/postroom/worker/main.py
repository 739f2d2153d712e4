"""Who is told what became of a profile's letters: the wiring of its herald.

A running worker: its parts, started together and drained in order.

`postroom worker`: one profile's letters, from its topic to its relay, until SIGTERM.

In: settings from the environment. Out: exit status 0 after an orderly drain, 2 with one clear line when it
cannot start, 1 when a part fails (its platform starts it again; nothing is lost by that). In a cluster it
waits for what is not there yet, and ends with 0 when its connections Secret has changed.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from postroom.adapters.isolated_render import IsolatedRenderProcess
from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.adapters.ledger.sql_ledger import LedgerClock
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.consumer import MAX_UNCOMMITTED, BatchConsumer, BatchHandler
from postroom.delivery.context import DeliveryContext
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.pipeline import deliver
from postroom.delivery.poison import PoisonFilter
from postroom.delivery.router import RelayRouter
from postroom.delivery.settings import WorkerSettings
from postroom.delivery.settle import record_dead_letters
from postroom.delivery.shared_state import RecipientRateLimiter
from postroom.http.server import web_server
from postroom.letter.catalog import TemplateCatalog
from postroom.letter.event import Record
from postroom.letter.problems import Code
from postroom.letter.profile import SmtpProfileSpec
from postroom.letter.status_events import ledger_states
from postroom.policy.notifications import notification_rule
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import Partition
from postroom.ports.ledger import Ledger, State
from postroom.ports.notifications import TOPIC, NotificationOutbox
from postroom.ports.world import Recovery
from postroom.startup import listen, run_program, stop_signal
from postroom.worker import isolated_render, maintenance
from postroom.worker.callbacks import CallbackContext
from postroom.worker.config import WorkerConfig, announce, read_config
from postroom.worker.maintenance import DueLetters
from postroom.worker.resources import PendingResources, Resources, open_local
from postroom.worker.secrets import SecretWatcher
from postroom.worker.status import WorkerStatus
from postroom.worker.status_server import StatusServer, status_pages

log = structlog.get_logger("postroom.worker")


def wanted_transitions(spec: SmtpProfileSpec) -> Mapping[str, Collection[str]]:
    """Each destination, and the states that it wants to hear of."""
    wanted = {TOPIC: ledger_states(spec.kafka.status_events)} if spec.kafka.status_events else {}
    return wanted | {one.name: ledger_states(one.events) for one in spec.callbacks}


async def configure_notifications(config: WorkerConfig, outbox: NotificationOutbox) -> None:
    """Put a notice into the outbox for everybody who wants one, and drop those that nobody wants any more."""
    wanted = wanted_transitions(config.profile.spec)
    if wanted:
        outbox.announce(notification_rule(wanted))
    if gone := await outbox.abandon(list(wanted)):
        log.warning("notices dropped: the profile names their destination no more", count=gone)


LOGGED_FIELDS = 5
"""So many templates are named in a log line; a profile may have thousands."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker is made of."""

    config: WorkerConfig
    secrets: SecretWatcher
    resources: Resources
    templates: FolderTemplates
    recovery: Recovery
    router: RelayRouter
    rehearsal: IsolatedRenderProcess

    @property
    def ledger(self) -> Ledger:
        """The open ledger."""
        return self.resources.ledger


async def assemble(config: WorkerConfig, secrets: SecretWatcher, resources: Resources) -> WorkerParts:
    """Take up what was left in the ledger, read the templates; from now on the ledger's time is used."""
    config = replace(config, clock=LedgerClock(config.clock, resources.ledger))
    await configure_notifications(config, resources.outbox)
    resend = config.policy.retry.on_in_doubt == "Resend"
    recovery = await resources.ledger.recover(config.clock.now(), resend)
    log.info("ledger open", clean=recovery.clean, recalled=recovery.recalled, in_doubt=recovery.in_doubt)
    templates = FolderTemplates(config.settings.bundles)
    await asyncio.to_thread(templates.refresh)
    rehearsal = IsolatedRenderProcess(
        isolated_render.__name__, [str(config.settings.profile), str(config.settings.bundles)]
    )
    return WorkerParts(
        config, secrets, resources, templates, recovery, open_router(config, resources.ledger), rehearsal
    )


def open_router(config: WorkerConfig, ledger: Ledger) -> RelayRouter:
    """Where the profile's letters leave."""
    ways = RelayRouter(config.exit.target, config.exit.fallback, ledger, config.clock)
    if config.exit.recipient_rate:
        ways.recipient_limits = RecipientRateLimiter(
            config.policy.profile, config.exit.recipient_rate, ledger
        )
    return ways


class Worker:
    """Runs once."""

    def __init__(self, parts: WorkerParts) -> None:
        config, resources = parts.config, parts.resources
        self._config, self._resources, self._secrets = config, resources, parts.secrets
        self._templates = parts.templates
        self._router = parts.router
        dispatch = Dispatch(parts.router, resources.ledger, config.clock, config.exit.room, parts.router)
        self._post = DeliveryContext(config.policy, resources.ledger, parts.templates, dispatch, config.clock)
        self._caution = PoisonFilter(
            resources.ledger, parts.rehearsal, 0 if parts.recovery.clean else MAX_UNCOMMITTED
        )
        self._events = KafkaConsumer(resources.kafka, config.topic, resources.member)
        carrier = BatchHandler(self._carry, self._report, self._withdraw, config.settings.grace)
        self._reception = BatchConsumer(self._events, carrier)
        suspended = config.profile.spec.suspend
        self._backlog = (
            BacklogMonitor(resources.kafka, config.topic, resources.member.group) if suspended else None
        )
        self.watch = WorkerStatus(parts, self._events, self._reception, self._backlog)
        self._count_in_doubt(parts.recovery.in_doubt)
        self._deferred = DueLetters(self._post, self._report)
        self._live: Mapping[str, str] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set or a part ends, then drain; what a part failed with is raised."""
        await self._post.dispatch.open()
        parts = [asyncio.create_task(part) for part in self._parts()]
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait({*parts, waiting}, return_when=asyncio.FIRST_COMPLETED)
        self.watch.draining = True
        log.info("draining", grace=self._config.settings.grace)
        await self._drain()
        for part in (*parts, waiting):
            part.cancel()
        await asyncio.gather(*parts, waiting, return_exceptions=True)
        for part in done - {waiting}:
            part.result()

    def _parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        context = self._post
        parts = [
            self._redeliver(),
            self._router.watch(),
            maintenance.run_outbox(
                partial(maintenance.publish_dead_letters, context.ledger, self._resources.dead_letters)
            ),
            *self._configure_notifications(),
            maintenance.run_pruning(context.ledger, context.clock, context.policy, self._count_undecided),
            self._templates.watch(self._log_template_changes),
            self._secrets.watch(self._router.retry),
            self._reception.run(),
        ]
        if self._resources.shared:
            parts.append(maintenance.run_lease_recovery(context, self._count_in_doubt))
        return [*parts, self._backlog.watch() if self._backlog else self._receive()]

    def _configure_notifications(self) -> Iterator[Coroutine[Any, Any, None]]:
        if courier := self._resources.courier:
            publish = partial(
                maintenance.publish_notifications, self._resources.outbox, courier, self._post.clock
            )
            yield maintenance.run_outbox(publish)
        world = CallbackContext(self._resources.outbox, self._post.clock, self.watch.metrics.callbacks)
        for callback in self._config.callbacks:
            yield callback.run(world)

    @property
    def left_untried(self) -> bool:
        """Whether the next life has to be as careful as this one was to be."""
        return self._caution.gave_up

    async def _redeliver(self) -> None:
        await self._templates.ready.wait()
        await self._deferred.run()

    async def _receive(self) -> None:
        await self._templates.ready.wait()
        await self._events.start(self._reception)
        await self._events.ended

    async def _drain(self) -> None:
        """Bring what is under way to a decision, settle, commit, leave the group.

        Dead letters that are not out by now stay in the outbox: the next life publishes them.
        """
        self._deferred.stop()
        self._caution.stop()
        draining = asyncio.create_task(self._reception.drain())
        await self._post.dispatch.drain(self._config.settings.grace)
        offsets = await draining
        await self._deferred.settled()
        await self._router.leave()
        if not self._backlog:
            await self._events.stop(offsets)

    async def _carry(self, records: Sequence[Record]) -> AsyncIterator[Progress]:
        if self._caution.applies_to(records):
            records, poisonous = await self._caution.filter(records)
            yield await record_dead_letters(poisonous, self._post)
        async for progress in deliver(records, self._post):
            yield progress

    def _report(self, progress: Progress) -> None:
        self.watch.reporter.take(progress)

    def _count_in_doubt(self, count: int) -> None:
        self.watch.metrics.in_doubt("worker_died", count)

    def _count_undecided(self, count: int) -> None:
        self.watch.metrics.letters(State.FAILED, Code.UNDECIDED, count)

    def _withdraw(self, partitions: Collection[Partition]) -> None:
        gone = set(partitions)
        self._post.dispatch.withdraw(
            lambda one: one.from_topic and (one.letter.record.topic, one.letter.record.partition) in gone
        )

    def _log_template_changes(self, catalog: TemplateCatalog) -> None:
        live = {one.name: one.revision for one in catalog.templates.values()}
        log.info("templates live", **template_changes(self._live, live))
        self._live = live


def template_changes(before: Mapping[str, str], live: Mapping[str, str]) -> dict[str, Any]:
    """What a log line says of the templates' revisions, by name: how many, and the first of what changed."""
    changed = sorted(f"{name}@{revision}" for name, revision in live.items() if before.get(name) != revision)
    gone = sorted(before.keys() - live.keys())
    counts = {"templates": len(live), "changed": len(changed), "gone": len(gone)}
    return {**counts, "among_them": [*changed, *gone][:LOGGED_FIELDS]}


def main() -> None:
    """Run the worker; the process ends when it does."""
    run_program("worker", WorkerSettings, work)


async def work(settings: WorkerSettings) -> None:
    """Show the pages, open what is needed, serve until a signal or a failure, drain."""
    stopping = stop_signal()
    config = read_config(settings)
    announce(config)
    secrets = SecretWatcher(config)
    waiting = PendingResources(config, secrets)
    board = StatusServer(waiting)
    with listen(settings.http, "POSTROOM_HTTP") as listening:
        server = web_server(status_pages(board), settings.http)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            if resources := await _open(config, waiting, stopping):
                worker = Worker(await assemble(config, secrets, resources))
                board.shown = worker.watch
                await worker.run(stopping)
                await resources.ledger.close(in_order=not worker.left_untried)
        finally:
            server.should_exit = True
            await serving
    log.info("worker closed")


async def _open(config: WorkerConfig, waiting: PendingResources, stopping: asyncio.Event) -> Resources | None:
    """What the worker works with; None when it was told to end before that was there."""
    settings = config.settings
    if settings.connections is None:
        assert settings.bootstrap_servers  # a rule of the settings
        assert settings.ledger
        return await open_local(config, settings.bootstrap_servers, settings.ledger)
    opening = asyncio.create_task(waiting.open())
    told = asyncio.create_task(stopping.wait())
    await asyncio.wait({opening, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if opening.done():
        return opening.result()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return None
