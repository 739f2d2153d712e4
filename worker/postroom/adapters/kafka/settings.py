"""What the clients are configured with, and why."""

from dataclasses import dataclass
from typing import Any

from postroom.connections import KafkaConnection
from postroom.ports.kafka import PUBLISH_TIMEOUT_SECONDS

POLL_INTERVAL_MS = 300_000
"""The library's own default; raised for a worker that is more patient."""

LOG_SETTINGS = {
    # what matters comes through error_cb; the library's own lines would repeat it ten times a second
    "log_level": 2,
    "enable.metrics.push": False,
    "reconnect.backoff.max.ms": 2_000,
}


@dataclass(frozen=True, slots=True)
class GroupMembership:
    """Who this consumer is in its group."""

    group: str
    instance: str | None
    """A static name (KIP-345): a worker that was killed is back at once, without waiting for its old
    session to end. Two living workers must never share one; None where no name outlives a worker."""
    patience: float = 60.0
    """Seconds to wait for the letters of a revoked partition; longer than the program's grace for them."""


def consumer_settings(kafka: KafkaConnection, member: GroupMembership) -> dict[str, Any]:
    """The consumer's: offsets by hand, cooperative rebalances, a prefetch that fits a small pod."""
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
        # a revoke is waited for between two polls, and must not cost the membership
        "max.poll.interval.ms": max(POLL_INTERVAL_MS, int(member.patience * 2_000)),
        # prefetch is bounded in bytes: the defaults (64 MB, 100,000 messages) do not fit a small pod
        "queued.max.messages.kbytes": 16_384,
        "queued.min.messages": 5_000,
        # the default backoff of a second caps throughput whenever the prefetch queue was full
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 100,
        # an unknown topic is looked for again soon: it may be created after the worker
        "topic.metadata.refresh.interval.ms": 5_000,
        "allow.auto.create.topics": kafka.creates_topics,
        **LOG_SETTINGS,
    }


def producer_settings(kafka: KafkaConnection) -> dict[str, Any]:
    """The dead-letter producer's: nothing is cleared that a full set of replicas has not got."""
    return {
        **kafka.client_settings(),
        "client.id": "postroom-dead-letters",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "message.timeout.ms": int(PUBLISH_TIMEOUT_SECONDS * 1000),
        **LOG_SETTINGS,
    }
