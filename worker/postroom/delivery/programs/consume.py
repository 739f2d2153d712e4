"""The worker: one profile's letters, from its topic to its relay, until SIGTERM.

In: settings from the environment. Out: exit status 0 after an orderly drain, 2 with one clear line when it
cannot start, 1 when a part fails (its platform starts it again; nothing is lost by that).
"""

import asyncio
import platform
import socket
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import structlog

from postroom.adapters.clock import SystemClock
from postroom.adapters.kafka import KafkaDeadLetters, KafkaEvents, Membership
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.adapters.rehearsal import Rehearsal
from postroom.adapters.templates import FolderTemplates
from postroom.delivery.careful import Caution
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.journey import deliver
from postroom.delivery.outcome import Progress
from postroom.delivery.post import Post
from postroom.delivery.programs import outbox, prune, rehearse
from postroom.delivery.programs.deferred import Deferred
from postroom.delivery.programs.relays import Exit, open_exit
from postroom.delivery.programs.report import Reporter
from postroom.delivery.programs.rules import house_of, read_profile, unheeded
from postroom.delivery.programs.status import Watch, status_pages
from postroom.delivery.receive import GAP, Carrier, Reception
from postroom.delivery.settings import WorkerSettings
from postroom.delivery.settle import bury
from postroom.letter.event import Record
from postroom.letter.profile import SmtpProfile, topic_of
from postroom.letter.render import Catalog
from postroom.ports.events import Partition
from postroom.ports.ledger import Recovery
from postroom.startup import begin, bind, stop_signal
from postroom.web import web_server

log = structlog.get_logger("postroom.worker")


def main() -> None:
    """Run the worker; the process ends when it does."""
    begin("worker", WorkerSettings, work)


async def work(settings: WorkerSettings) -> None:
    """Start every part, serve until a signal or a failure, drain."""
    stopping = stop_signal()
    profile = read_profile(settings.profile)
    clock = SystemClock()
    exit_ = open_exit(profile, settings)
    house = house_of(profile, exit_.accepted_as)
    announce(profile, exit_)
    ledger = await SqliteLedger.open(settings.ledger, house.window, clock.now())
    recovery = await ledger.recover(clock.now(), house.policy.on_in_doubt == "Resend")
    log.info("ledger open", clean=recovery.clean, recalled=recovery.recalled, in_doubt=recovery.in_doubt)
    templates = FolderTemplates(settings.bundles)
    await asyncio.to_thread(templates.refresh)
    post = Post(house, ledger, templates, Dispatch(exit_.relay, ledger, clock, exit_.room), clock)
    rehearsal = Rehearsal(rehearse.__name__, [str(settings.profile), str(settings.bundles)])
    caution = Caution(ledger, rehearsal, 0 if recovery.clean else GAP)
    with bind(settings.http, "POSTROOM_HTTP") as listening:
        worker = Worker(Parts(settings, profile, exit_, post, templates, caution, recovery))
        await worker.run(stopping, listening)
    await ledger.close()
    log.info("worker closed")


REVOKE_MARGIN_SECONDS = 15.0
"""What a revoke may take beyond the grace of the letters under way."""


def membership(topic: str, settings: WorkerSettings) -> Membership:
    """The worker's place in the group; the file lock sees to it that no two have the same."""
    home = f"{platform.node()}:{settings.ledger.resolve()}"
    place = blake2b(home.encode(), digest_size=8).hexdigest()
    return Membership(f"{topic}.workers", f"worker-{place}", settings.grace + REVOKE_MARGIN_SECONDS)


def announce(profile: SmtpProfile, exit_: Exit) -> None:
    """Say what this worker does, and what of its profile it does not act on."""
    log.info("profile", name=profile.metadata.name, mode=exit_.mode, topic=topic_of(profile))
    if exit_.guarded:
        log.warning(
            "mode SMTP is treated as Sandbox: delivery is not allowed here",
            setting="POSTROOM_DELIVERY_ALLOWED",
        )
    for field in unheeded(profile):
        log.warning("this release does not act on a field of the profile yet", field=field)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of."""

    settings: WorkerSettings
    profile: SmtpProfile
    exit: Exit
    post: Post
    templates: FolderTemplates
    caution: Caution
    recovery: Recovery


class Worker:
    """A running worker: its parts, started together and drained in order."""

    def __init__(self, parts: Parts) -> None:
        self._settings, self._post = parts.settings, parts.post
        self._templates, self._caution = parts.templates, parts.caution
        self._suspended = parts.profile.spec.suspend
        topic, bootstrap = topic_of(parts.profile), parts.settings.bootstrap_servers
        self._events = KafkaEvents(bootstrap, topic, membership(topic, parts.settings))
        self._dead_letters = KafkaDeadLetters(bootstrap)
        carrier = Carrier(self._carry, self._report, self._withdraw, parts.settings.grace)
        self._reception = Reception(self._events, carrier)
        self._watch = Watch(parts, self._events, self._reception)
        self._reporter = Reporter(self._watch.metrics, parts.post.clock)
        self._watch.reporter = self._reporter
        self._watch.metrics.doubts("worker_died", parts.recovery.in_doubt)
        self._deferred = Deferred(parts.post, self._report)

    async def run(self, stopping: asyncio.Event, listening: socket.socket) -> None:
        """Serve until `stopping` is set, then drain; a failed part is raised after the drain."""
        await self._post.dispatch.open()
        server = web_server(
            status_pages(self._watch.metrics.registry, self._watch.status), self._settings.http
        )
        parts = [asyncio.create_task(part) for part in self._parts()]
        serving = asyncio.create_task(server.serve([listening]))
        waiting = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait({*parts, waiting}, return_when=asyncio.FIRST_COMPLETED)
        self._watch.draining = True
        log.info("draining", grace=self._settings.grace)
        await self._drain()
        server.should_exit = True
        for part in (*parts, waiting):
            part.cancel()
        await asyncio.gather(*parts, waiting, serving, return_exceptions=True)
        for part in done - {waiting}:
            part.result()

    def _parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        parts = [
            self._redeliver(),
            outbox.run(self._post.ledger, self._dead_letters),
            prune.run(self._post.ledger, self._post.clock, self._post.house.window),
            self._templates.watch(self._tell_templates),
            self._reception.run(),
        ]
        return parts if self._suspended else [*parts, self._receive()]

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
        draining = asyncio.create_task(self._reception.drain())
        await self._post.dispatch.drain(self._settings.grace)
        offsets = await draining
        await self._deferred.settled()
        if not self._suspended:
            await self._events.stop(offsets)

    async def _carry(self, records: Sequence[Record]) -> AsyncIterator[Progress]:
        if self._caution.concerns(records):
            records, poisonous = await self._caution.sift(records)
            yield await bury(poisonous, self._post)
        async for progress in deliver(records, self._post):
            yield progress

    def _report(self, progress: Progress) -> None:
        self._reporter.take(progress)

    def _withdraw(self, partitions: Collection[Partition]) -> None:
        gone = set(partitions)
        self._post.dispatch.withdraw(
            lambda one: one.from_topic and (one.letter.record.topic, one.letter.record.partition) in gone
        )

    def _tell_templates(self, catalog: Catalog) -> None:
        live = sorted({f"{one.name}@{one.revision}" for one in catalog.templates.values()})
        log.info("templates live", templates=live)
