"""Open what a worker needs: Kafka producers, ledger, group membership.

On one machine (`open_local`) everything opens at once, or the worker exits with the reason. In a cluster
(`PendingResources`) the connections Secret, PostgreSQL or a certificate may arrive later: the worker retries
every second, /healthz reports alive and /readyz reports what it waits for. No restart is needed.
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
from postroom.worker.config import WorkerConfig
from postroom.worker.secrets import POLL_SECONDS, SecretWatcher
from postroom.worker.status import NOT_YET, Condition, build_status, refused_condition, secrets_condition

REVOKE_MARGIN_SECONDS = 15.0
"""The time that a revocation may take in addition to the grace of letters in progress."""

log = structlog.get_logger("postroom.worker")


@dataclass(frozen=True, slots=True)
class Producers:
    """The producers of the profile's dead-letter and status topics."""

    dead_letters: DeadLetterPublisher
    status_events: StatusEventPublisher | None


def producers(config: WorkerConfig, kafka: KafkaConnection) -> Producers:
    """Create the producers; raises KafkaException for settings that the client rejects."""
    publisher = None
    if config.profile.spec.kafka.status_events:
        publisher = KafkaStatusEventPublisher(kafka, status_topic(config.topic), config.policy.profile)
    return Producers(KafkaDeadLetterPublisher(kafka), publisher)


@dataclass(frozen=True, slots=True)
class Resources:
    """The open resources of a worker."""

    kafka: KafkaConnection
    ledger: Ledger
    outbox: NotificationOutbox
    """The notification outbox, a part of the ledger."""
    producers: Producers
    member: GroupMembership
    shared: bool
    """Whether other workers write to the same ledger."""

    @property
    def dead_letters(self) -> DeadLetterPublisher:
        """The producer of dead letters."""
        return self.producers.dead_letters

    @property
    def status_events(self) -> StatusEventPublisher | None:
        """The producer of status events; None if the profile publishes none."""
        return self.producers.status_events


async def open_local(config: WorkerConfig, bootstrap_servers: str, path: Path) -> Resources:
    """Open a SQLite ledger and the given brokers; raises Rejected if the file cannot be opened."""
    kafka = KafkaConnection(bootstrap_servers, creates_topics=True)
    ledger = await SqliteLedger.open(path, config.policy.window, config.clock.now())
    return Resources(kafka, ledger, ledger, producers(config, kafka), membership(config, path), shared=False)


def membership(config: WorkerConfig, ledger: Path | None) -> GroupMembership:
    """Return the worker's consumer-group membership.

    A worker with a SQLite ledger holds the file's lock, so a static membership named after the file is
    unique. In a cluster the membership is dynamic: a static one named after a pod would wait for a pod that
    does not return.
    """
    instance_id = None
    if ledger is not None:
        location = f"{platform.node()}:{ledger.resolve()}"
        instance_id = f"worker-{blake2b(location.encode(), digest_size=8).hexdigest()}"
    return GroupMembership(
        consumer_group(config.topic), instance_id, config.settings.grace + REVOKE_MARGIN_SECONDS
    )


class PendingResources:
    """Opens the resources, and is the StatusSource of the worker while it waits."""

    def __init__(self, config: WorkerConfig, secrets: SecretWatcher) -> None:
        self.registry = CollectorRegistry()
        self._config, self._secrets = config, secrets
        self._ledger = self._kafka = NOT_YET
        self._producer: tuple[object, Producers] | None = None
        self._logged = ""

    def status(self) -> dict[str, Any]:
        conditions = {
            "secrets": secrets_condition(self._secrets.problems, self._secrets.later_problems),
            "ledger": self._ledger,
            "kafka": self._kafka,
            "relay": NOT_YET,
            "templates": NOT_YET,
        }
        wrong = [
            f"{name}: {condition.message}" for name, condition in conditions.items() if condition.ok is False
        ]
        return build_status(self._config, conditions, wrong or ["starting"])

    async def open(self) -> Resources:
        """Retry until all resources are open."""
        while True:
            await asyncio.to_thread(self._secrets.reload)
            connections = self._secrets.connections
            resources = await self._try(connections) if connections else None
            if resources is not None:
                return resources
            self._log_waiting("; ".join(self.status()["problems"]))
            await asyncio.sleep(POLL_SECONDS)

    async def _try(self, connections: Connections) -> Resources | None:
        producing = self._open_producers(connections.kafka)
        ledger = await self._open_ledger(connections) if producing else None
        if producing is None or ledger is None:
            return None
        member = membership(self._config, None)
        return Resources(connections.kafka, ledger, ledger, producing, member, shared=True)

    def _open_producers(self, kafka: KafkaConnection) -> Producers | None:
        """Create the producers once for each version of the Secret; a client is expensive."""
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

    def _log_waiting(self, what: str) -> None:
        if what != self._logged:
            self._logged = what
            log.warning("waiting", what=what)
