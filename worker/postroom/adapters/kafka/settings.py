"""The settings of the Kafka clients, with their reasons."""

from dataclasses import dataclass
from typing import Any

from postroom.connections import KafkaConnection
from postroom.ports.kafka import PUBLISH_TIMEOUT_SECONDS

POLL_INTERVAL_MS = 300_000
"""The default of the library; raised when revocations may take longer."""

LOG_SETTINGS = {
    # error_cb receives the errors; the log lines of the library would repeat them ten times per second
    "log_level": 2,
    "enable.metrics.push": False,
    "reconnect.backoff.max.ms": 2_000,
}


@dataclass(frozen=True, slots=True)
class GroupMembership:
    """The identity of a consumer in its group."""

    group: str
    instance: str | None
    """The static member name (KIP-345): a killed worker rejoins without waiting for its old session to end.

    Two running workers must never share a name. None: no name outlives the worker.
    """
    revoke_timeout: float = 60.0
    """Seconds to wait for the letters of a revoked partition; longer than the worker's grace for them."""


def consumer_settings(kafka: KafkaConnection, member: GroupMembership) -> dict[str, Any]:
    """Consumer settings: explicit commits, cooperative rebalances, a prefetch that fits a small pod."""
    return {
        **kafka.client_settings(),
        **({"group.instance.id": member.instance} if member.instance else {}),
        "group.id": member.group,
        "client.id": "postroom-worker",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 3_000,
        # a revocation is waited for between two polls and must not cost the membership
        "max.poll.interval.ms": max(POLL_INTERVAL_MS, int(member.revoke_timeout * 2_000)),
        # prefetch is bounded in bytes: the defaults (64 MB, 100,000 messages) do not fit a small pod
        "queued.max.messages.kbytes": 16_384,
        "queued.min.messages": 5_000,
        # the default backoff of a second caps throughput whenever the prefetch queue was full
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 100,
        # an unknown topic is requested again soon: it may be created after the worker
        "topic.metadata.refresh.interval.ms": 5_000,
        "allow.auto.create.topics": kafka.creates_topics,
        **LOG_SETTINGS,
    }


def producer_settings(kafka: KafkaConnection) -> dict[str, Any]:
    """Producer settings: all in-sync replicas acknowledge a record before it counts as published."""
    return {
        **kafka.client_settings(),
        "client.id": "postroom-dead-letters",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "message.timeout.ms": int(PUBLISH_TIMEOUT_SECONDS * 1000),
        **LOG_SETTINGS,
    }
