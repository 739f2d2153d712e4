"""`postroom worker`: process the letters of one profile, from its topic to its relay, until SIGTERM.

`work` opens the resources, `assemble` recovers the ledger and loads the templates, `Worker.run` starts all
parts as tasks and drains them in order at the end.

Input: settings from the environment. Exit status 0 after an orderly drain, also when the connections
Secret has changed; 2 with one log line if it cannot start; 1 if a part fails. The platform restarts it, and
no letter is lost.
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
from postroom.delivery.settle import record_dead_letters
from postroom.delivery.shared_state import RecipientRateLimiter
from postroom.http.server import web_server
from postroom.letter.catalog import TemplateCatalog
from postroom.letter.event import Record
from postroom.letter.problems import Code
from postroom.policy.notifications import notification_rule
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import Partition
from postroom.ports.ledger import Ledger, State
from postroom.ports.notifications import NotificationOutbox
from postroom.ports.world import Recovery
from postroom.startup import listen, run_program, stop_signal
from postroom.worker import isolated_render, maintenance
from postroom.worker.callbacks import CallbackContext
from postroom.worker.config import WorkerConfig, announce, read_config
from postroom.worker.maintenance import DueLetters
from postroom.worker.profile_config import wanted_transitions
from postroom.worker.resources import PendingResources, Resources, open_local
from postroom.worker.secrets import SecretWatcher
from postroom.worker.settings import WorkerSettings
from postroom.worker.status import StatusServer, WorkerStatus, status_pages

log = structlog.get_logger("postroom.worker")


async def configure_notifications(config: WorkerConfig, outbox: NotificationOutbox) -> None:
    """Announce the notification rule to the outbox, and drop notifications of removed destinations."""
    wanted = wanted_transitions(config.profile.spec)
    if wanted:
        outbox.announce(notification_rule(wanted))
    if gone := await outbox.abandon(list(wanted)):
        log.warning("notifications dropped: the profile no longer names their destination", count=gone)


LOGGED_FIELDS = 5
"""The number of templates that a log line names; a profile may have thousands."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of a worker."""

    config: WorkerConfig
    secrets: SecretWatcher
    resources: Resources
    templates: FolderTemplates
    recovery: Recovery
    router: RelayRouter
    renderer: IsolatedRenderProcess

    @property
    def ledger(self) -> Ledger:
        """The open ledger."""
        return self.resources.ledger


async def assemble(config: WorkerConfig, secrets: SecretWatcher, resources: Resources) -> WorkerParts:
    """Recover the ledger, load the templates and build the parts, which use the ledger's time."""
    config = replace(config, clock=LedgerClock(config.clock, resources.ledger))
    await configure_notifications(config, resources.outbox)
    resend = config.policy.retry.on_in_doubt == "Resend"
    recovery = await resources.ledger.recover(config.clock.now(), resend)
    log.info("ledger open", clean=recovery.clean, recalled=recovery.recalled, in_doubt=recovery.in_doubt)
    templates = FolderTemplates(config.settings.bundles)
    await asyncio.to_thread(templates.refresh)
    renderer = IsolatedRenderProcess(
        isolated_render.__name__, [str(config.settings.profile), str(config.settings.bundles)]
    )
    return WorkerParts(
        config, secrets, resources, templates, recovery, open_router(config, resources.ledger), renderer
    )


def open_router(config: WorkerConfig, ledger: Ledger) -> RelayRouter:
    """Build the router of the profile's relay and its fallback."""
    router = RelayRouter(config.relay_selection.target, config.relay_selection.fallback, ledger, config.clock)
    if config.relay_selection.recipient_rate:
        router.recipient_limits = RecipientRateLimiter(
            config.policy.profile, config.relay_selection.recipient_rate, ledger
        )
    return router


class Worker:
    """A running worker; `run` may be called once."""

    def __init__(self, parts: WorkerParts) -> None:
        config, resources = parts.config, parts.resources
        self._config, self._resources, self._secrets = config, resources, parts.secrets
        self._templates = parts.templates
        self._router = parts.router
        dispatch = Dispatch(
            parts.router, resources.ledger, config.clock, config.relay_selection.room, parts.router
        )
        self._context = DeliveryContext(
            config.policy, resources.ledger, parts.templates, dispatch, config.clock
        )
        self._poison_filter = PoisonFilter(
            resources.ledger, parts.renderer, 0 if parts.recovery.clean else MAX_UNCOMMITTED
        )
        self._events = KafkaConsumer(resources.kafka, config.topic, resources.member)
        handler = BatchHandler(self._process, self._report, self._withdraw, config.settings.grace)
        self._consumer = BatchConsumer(self._events, handler)
        suspended = config.profile.spec.suspend
        self._backlog = (
            BacklogMonitor(resources.kafka, config.topic, resources.member.group) if suspended else None
        )
        self.status = WorkerStatus(parts, self._events, self._consumer, self._backlog)
        self._count_in_doubt(parts.recovery.in_doubt)
        self._deferred = DueLetters(self._context, self._report)
        self._live: Mapping[str, str] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set or a part ends, then drain; raises the error of a failed part."""
        await self._context.dispatch.open()
        parts = [asyncio.create_task(part) for part in self._parts()]
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait({*parts, waiting}, return_when=asyncio.FIRST_COMPLETED)
        self.status.draining = True
        log.info("draining", grace=self._config.settings.grace)
        await self._drain()
        for part in (*parts, waiting):
            part.cancel()
        await asyncio.gather(*parts, waiting, return_exceptions=True)
        for part in done - {waiting}:
            part.result()

    def _parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        context = self._context
        parts = [
            self._retry_due(),
            self._router.watch(),
            maintenance.run_outbox(
                partial(maintenance.publish_dead_letters, context.ledger, self._resources.dead_letters)
            ),
            *self._configure_notifications(),
            maintenance.run_pruning(context.ledger, context.clock, context.policy, self._count_undecided),
            self._templates.watch(self._log_template_changes),
            self._secrets.watch(self._router.retry),
            self._consumer.run(),
        ]
        if self._resources.shared:
            parts.append(maintenance.run_lease_recovery(context, self._count_in_doubt))
        return [*parts, self._backlog.watch() if self._backlog else self._receive()]

    def _configure_notifications(self) -> Iterator[Coroutine[Any, Any, None]]:
        if publisher := self._resources.status_events:
            publish = partial(
                maintenance.publish_notifications, self._resources.outbox, publisher, self._context.clock
            )
            yield maintenance.run_outbox(publish)
        callback_context = CallbackContext(
            self._resources.outbox, self._context.clock, self.status.metrics.callbacks
        )
        for callback in self._config.callbacks:
            yield callback.run(callback_context)

    @property
    def left_untried(self) -> bool:
        """Whether records were not tried, so that the next start must filter poison records too."""
        return self._poison_filter.gave_up

    async def _retry_due(self) -> None:
        await self._templates.ready.wait()
        await self._deferred.run()

    async def _receive(self) -> None:
        await self._templates.ready.wait()
        await self._events.start(self._consumer)
        await self._events.ended

    async def _drain(self) -> None:
        """Finish letters in progress, settle, commit offsets and leave the group.

        Dead letters that are not published yet stay in the outbox for the next start.
        """
        self._deferred.stop()
        self._poison_filter.stop()
        draining = asyncio.create_task(self._consumer.drain())
        await self._context.dispatch.drain(self._config.settings.grace)
        offsets = await draining
        await self._deferred.settled()
        await self._router.leave()
        if not self._backlog:
            await self._events.stop(offsets)

    async def _process(self, records: Sequence[Record]) -> AsyncIterator[Progress]:
        if self._poison_filter.applies_to(records):
            records, poisonous = await self._poison_filter.filter(records)
            yield await record_dead_letters(poisonous, self._context)
        async for progress in deliver(records, self._context):
            yield progress

    def _report(self, progress: Progress) -> None:
        self.status.reporter.take(progress)

    def _count_in_doubt(self, count: int) -> None:
        self.status.metrics.in_doubt("worker_died", count)

    def _count_undecided(self, count: int) -> None:
        self.status.metrics.letters(State.FAILED, Code.UNDECIDED, count)

    def _withdraw(self, partitions: Collection[Partition]) -> None:
        gone = set(partitions)
        self._context.dispatch.withdraw(
            lambda claim: (
                claim.from_topic and (claim.letter.record.topic, claim.letter.record.partition) in gone
            )
        )

    def _log_template_changes(self, catalog: TemplateCatalog) -> None:
        live = {template.name: template.revision for template in catalog.templates.values()}
        log.info("templates live", **template_changes(self._live, live))
        self._live = live


def template_changes(before: Mapping[str, str], live: Mapping[str, str]) -> dict[str, Any]:
    """Summarize changed template revisions for a log line: counts, and the first changed names."""
    changed = sorted(f"{name}@{revision}" for name, revision in live.items() if before.get(name) != revision)
    gone = sorted(before.keys() - live.keys())
    counts = {"templates": len(live), "changed": len(changed), "gone": len(gone)}
    return {**counts, "names": [*changed, *gone][:LOGGED_FIELDS]}


def main() -> None:
    """Run the worker; the process ends when it does."""
    run_program("worker", WorkerSettings, work)


async def work(settings: WorkerSettings) -> None:
    """Serve the status pages, open the resources, run until a signal or a failure, drain."""
    stopping = stop_signal()
    config = read_config(settings)
    announce(config)
    secrets = SecretWatcher(config)
    waiting = PendingResources(config, secrets)
    status_server = StatusServer(waiting)
    with listen(settings.http, "POSTROOM_HTTP") as listening:
        server = web_server(status_pages(status_server), settings.http)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            if resources := await _open(config, waiting, stopping):
                worker = Worker(await assemble(config, secrets, resources))
                status_server.source = worker.status
                await worker.run(stopping)
                await resources.ledger.close(in_order=not worker.left_untried)
        finally:
            server.should_exit = True
            await serving
    log.info("worker closed")


async def _open(config: WorkerConfig, waiting: PendingResources, stopping: asyncio.Event) -> Resources | None:
    """Open the resources; None if the worker was stopped before they were available."""
    settings = config.settings
    if settings.connections is None:
        assert settings.bootstrap_servers  # a rule of the settings
        assert settings.ledger
        return await open_local(config, settings.bootstrap_servers, settings.ledger)
    opening = asyncio.create_task(waiting.open())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if opening.done():
        return opening.result()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return None
