"""A running worker: its parts, started together and drained in order."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.adapters.ledger.sql_ledger import LedgerClock
from postroom.adapters.rehearsal import Rehearsal
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.careful import Caution
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.journey import deliver
from postroom.delivery.outcome import Progress
from postroom.delivery.post import Post
from postroom.delivery.programs import heirs, outbox, prune, rehearse
from postroom.delivery.programs.callbacks import World
from postroom.delivery.programs.deferred import Deferred
from postroom.delivery.programs.job import Job
from postroom.delivery.programs.notify import tell_others
from postroom.delivery.programs.opening import Means
from postroom.delivery.programs.secrets import Secrets
from postroom.delivery.programs.watch import Watch
from postroom.delivery.receive import GAP, Carrier, Reception
from postroom.delivery.settle import bury
from postroom.delivery.shared_state import RecipientRateLimiter
from postroom.delivery.ways import Ways
from postroom.letter.catalog import TemplateCatalog
from postroom.letter.event import Record
from postroom.letter.problems import Code
from postroom.ports.health import Recovery
from postroom.ports.kafka import Partition
from postroom.ports.ledger import Ledger, State

log = structlog.get_logger("postroom.worker")
NAMED = 5
"""So many templates are named in a log line; a profile may have thousands."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of."""

    job: Job
    secrets: Secrets
    means: Means
    templates: FolderTemplates
    recovery: Recovery
    ways: Ways
    rehearsal: Rehearsal

    @property
    def ledger(self) -> Ledger:
        """The open ledger."""
        return self.means.ledger


async def assemble(job: Job, secrets: Secrets, means: Means) -> Parts:
    """Take up what was left in the ledger, read the templates; from now on the ledger's time is used."""
    job = replace(job, clock=LedgerClock(job.clock, means.ledger))
    await tell_others(job, means.outbox)
    resend = job.house.policy.on_in_doubt == "Resend"
    recovery = await means.ledger.recover(job.clock.now(), resend)
    log.info("ledger open", clean=recovery.clean, recalled=recovery.recalled, in_doubt=recovery.in_doubt)
    templates = FolderTemplates(job.settings.bundles)
    await asyncio.to_thread(templates.refresh)
    rehearsal = Rehearsal(rehearse.__name__, [str(job.settings.profile), str(job.settings.bundles)])
    return Parts(job, secrets, means, templates, recovery, ways_of(job, means.ledger), rehearsal)


def ways_of(job: Job, ledger: Ledger) -> Ways:
    """Where the profile's letters leave."""
    ways = Ways(job.exit.outlet, job.exit.fallback, ledger, job.clock)
    if job.exit.recipient_rate:
        ways.paces = RecipientRateLimiter(job.house.profile, job.exit.recipient_rate, ledger)
    return ways


class Worker:
    """Runs once."""

    def __init__(self, parts: Parts) -> None:
        job, means = parts.job, parts.means
        self._job, self._means, self._secrets = job, means, parts.secrets
        self._templates = parts.templates
        self._ways = parts.ways
        dispatch = Dispatch(parts.ways, means.ledger, job.clock, job.exit.room, parts.ways)
        self._post = Post(job.house, means.ledger, parts.templates, dispatch, job.clock)
        self._caution = Caution(means.ledger, parts.rehearsal, 0 if parts.recovery.clean else GAP)
        self._events = KafkaConsumer(means.kafka, job.topic, means.member)
        carrier = Carrier(self._carry, self._report, self._withdraw, job.settings.grace)
        self._reception = Reception(self._events, carrier)
        suspended = job.profile.spec.suspend
        self._backlog = BacklogMonitor(means.kafka, job.topic, means.member.group) if suspended else None
        self.watch = Watch(parts, self._events, self._reception, self._backlog)
        self._count_doubts(parts.recovery.in_doubt)
        self._deferred = Deferred(self._post, self._report)
        self._live: Mapping[str, str] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set or a part ends, then drain; what a part failed with is raised."""
        await self._post.dispatch.open()
        parts = [asyncio.create_task(part) for part in self._parts()]
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait({*parts, waiting}, return_when=asyncio.FIRST_COMPLETED)
        self.watch.draining = True
        log.info("draining", grace=self._job.settings.grace)
        await self._drain()
        for part in (*parts, waiting):
            part.cancel()
        await asyncio.gather(*parts, waiting, return_exceptions=True)
        for part in done - {waiting}:
            part.result()

    def _parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        post = self._post
        parts = [
            self._redeliver(),
            self._ways.watch(),
            outbox.run(partial(outbox.publish_dead_letters, post.ledger, self._means.dead_letters)),
            *self._tell_others(),
            prune.run(post.ledger, post.clock, post.house, self._count_undecided),
            self._templates.watch(self._tell_templates),
            self._secrets.watch(self._ways.retry),
            self._reception.run(),
        ]
        if self._means.shared:
            parts.append(heirs.run(post, self._count_doubts))
        return [*parts, self._backlog.watch() if self._backlog else self._receive()]

    def _tell_others(self) -> Iterator[Coroutine[Any, Any, None]]:
        if courier := self._means.courier:
            publish = partial(outbox.publish_notices, self._means.outbox, courier, self._post.clock)
            yield outbox.run(publish)
        world = World(self._means.outbox, self._post.clock, self.watch.metrics.callbacks)
        for callback in self._job.callbacks:
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
        await self._post.dispatch.drain(self._job.settings.grace)
        offsets = await draining
        await self._deferred.settled()
        await self._ways.leave()
        if not self._backlog:
            await self._events.stop(offsets)

    async def _carry(self, records: Sequence[Record]) -> AsyncIterator[Progress]:
        if self._caution.concerns(records):
            records, poisonous = await self._caution.sift(records)
            yield await bury(poisonous, self._post)
        async for progress in deliver(records, self._post):
            yield progress

    def _report(self, progress: Progress) -> None:
        self.watch.reporter.take(progress)

    def _count_doubts(self, count: int) -> None:
        self.watch.metrics.doubts("worker_died", count)

    def _count_undecided(self, count: int) -> None:
        self.watch.metrics.letters(State.FAILED, Code.UNDECIDED, count)

    def _withdraw(self, partitions: Collection[Partition]) -> None:
        gone = set(partitions)
        self._post.dispatch.withdraw(
            lambda one: one.from_topic and (one.letter.record.topic, one.letter.record.partition) in gone
        )

    def _tell_templates(self, catalog: TemplateCatalog) -> None:
        live = {one.name: one.revision for one in catalog.templates.values()}
        log.info("templates live", **news(self._live, live))
        self._live = live


def news(before: Mapping[str, str], live: Mapping[str, str]) -> dict[str, Any]:
    """What a log line says of the templates' revisions, by name: how many, and the first of what changed."""
    changed = sorted(f"{name}@{revision}" for name, revision in live.items() if before.get(name) != revision)
    gone = sorted(before.keys() - live.keys())
    counts = {"templates": len(live), "changed": len(changed), "gone": len(gone)}
    return {**counts, "among_them": [*changed, *gone][:NAMED]}
