"""Opening what a worker needs: its connections, its ledger, its producer.

On one machine it opens at once or says why not, and the worker ends by it. In a cluster everything may come
later: the connections Secret, PostgreSQL, a certificate that can be read. Then the worker looks again every
second, /healthz says alive, /readyz says what is waited for, and nobody has to start anything again.
"""

import asyncio
import platform
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import structlog
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry

from postroom.adapters.kafka.producers import KafkaDeadLetterPublisher, KafkaStatusEventPublisher
from postroom.adapters.kafka.settings import GroupMembership
from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.migrations import migrate
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.connections import Connections, KafkaConnection
from postroom.letter.problems import Rejected
from postroom.letter.profile import consumer_group, status_topic
from postroom.ports.kafka import DeadLetterPublisher
from postroom.ports.ledger import Ledger
from postroom.ports.notifications import NotificationOutbox, StatusEventPublisher
from postroom.ports.world import LedgerUnavailable
from postroom.worker.conditions import NOT_YET, Condition, refused_condition, secrets_condition
from postroom.worker.config import WorkerConfig
from postroom.worker.secrets import LOOK_SECONDS, SecretWatcher
from postroom.worker.status_server import build_status

REVOKE_MARGIN_SECONDS = 15.0
"""What a revoke may take beyond the grace of the letters under way."""

log = structlog.get_logger("postroom.worker")


@dataclass(frozen=True, slots=True)
class Producers:
    """What publishes to the profile's other topics."""

    dead_letters: DeadLetterPublisher
    courier: StatusEventPublisher | None


def producers(config: WorkerConfig, kafka: KafkaConnection) -> Producers:
    """Raises KafkaException for a connection that the client refuses at once."""
    courier = None
    if config.profile.spec.kafka.status_events:
        courier = KafkaStatusEventPublisher(kafka, status_topic(config.topic), config.policy.profile)
    return Producers(KafkaDeadLetterPublisher(kafka), courier)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a worker works with."""

    kafka: KafkaConnection
    ledger: Ledger
    outbox: NotificationOutbox
    """The ledger's own, for what others are told."""
    producers: Producers
    member: GroupMembership
    shared: bool
    """Whether other workers write to the same ledger."""

    @property
    def dead_letters(self) -> DeadLetterPublisher:
        """The producer of dead letters."""
        return self.producers.dead_letters

    @property
    def courier(self) -> StatusEventPublisher | None:
        """The producer of status events, where the profile asks for them."""
        return self.producers.courier


async def open_local(config: WorkerConfig, bootstrap_servers: str, path: Path) -> Resources:
    """A ledger in a file and brokers by name; raises Rejected when the file can't be had."""
    kafka = KafkaConnection(bootstrap_servers, creates_topics=True)
    ledger = await SqliteLedger.open(path, config.policy.window, config.clock.now())
    return Resources(kafka, ledger, ledger, producers(config, kafka), membership(config, path), shared=False)


def membership(config: WorkerConfig, ledger: Path | None) -> GroupMembership:
    """The worker's place in the group.

    Whoever has a file for a ledger is alone with it, by the file's lock, and so with the place named after
    it. In a cluster a pod's name goes with the pod, and a place that is named after it would wait for it.
    """
    place = None
    if ledger is not None:
        home = f"{platform.node()}:{ledger.resolve()}"
        place = f"worker-{blake2b(home.encode(), digest_size=8).hexdigest()}"
    return GroupMembership(consumer_group(config.topic), place, config.settings.grace + REVOKE_MARGIN_SECONDS)


class PendingResources:
    """Implements status.Shown for a worker that waits for what it needs, and opens it."""

    def __init__(self, config: WorkerConfig, secrets: SecretWatcher) -> None:
        self.registry = CollectorRegistry()
        self._config, self._secrets = config, secrets
        self._ledger = self._kafka = NOT_YET
        self._producer: tuple[object, Producers] | None = None
        self._said = ""

    def status(self) -> dict[str, Any]:
        """See the protocol."""
        conditions = {
            "secrets": secrets_condition(self._secrets.problems, self._secrets.later_problems),
            "ledger": self._ledger,
            "kafka": self._kafka,
            "relay": NOT_YET,
            "templates": NOT_YET,
        }
        wrong = [f"{name}: {each.message}" for name, each in conditions.items() if each.ok is False]
        return build_status(self._config, conditions, wrong or ["starting"])

    async def open(self) -> Resources:
        """Try until everything is there."""
        while True:
            await asyncio.to_thread(self._secrets.look)
            connections = self._secrets.connections
            resources = await self._try(connections) if connections else None
            if resources is not None:
                return resources
            self._say("; ".join(self.status()["problems"]))
            await asyncio.sleep(LOOK_SECONDS)

    async def _try(self, connections: Connections) -> Resources | None:
        producing = self._open_producers(connections.kafka)
        ledger = await self._open_ledger(connections) if producing else None
        if producing is None or ledger is None:
            return None
        member = membership(self._config, None)
        return Resources(connections.kafka, ledger, ledger, producing, member, shared=True)

    def _open_producers(self, kafka: KafkaConnection) -> Producers | None:
        """One for each state of the Secret: a client is too much to be made anew every second."""
        if self._producer is None or self._producer[0] != self._secrets.texts:
            self._producer = None
            try:
                self._producer = self._secrets.texts, producers(self._config, kafka)
            except KafkaException as failure:
                self._kafka = Condition(False, "SettingsRefused", failure.args[0].str())
                return None
            self._kafka = NOT_YET
        return self._producer[1]

    async def _open_ledger(self, connections: Connections) -> PostgresLedger | None:
        url, schema = connections.ledger.url, connections.ledger.schema
        try:
            log.info("ledger", done=await asyncio.to_thread(migrate, url, schema))
            member = LedgerMember(self._config.policy.profile, self._config.settings.pod)
            return await PostgresLedger.open(
                url, schema, member, self._config.policy.window, self._config.clock.now()
            )
        except Rejected as rejected:
            self._ledger = refused_condition(rejected.problems)
        except LedgerUnavailable as unreachable:
            self._ledger = Condition(False, "LedgerUnreachable", str(unreachable))
        return None

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.warning("waiting", what=what)
