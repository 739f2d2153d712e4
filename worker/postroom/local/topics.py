"""Create the topics that profiles ask for, and tell how far their readers are.

Input: a broker's address and the topics wanted. Output: the names that were created; existing topics are
left as they are (a topic is never deleted or shrunk). Failure: `Trouble` when the broker does not answer
or refuses.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from postroom.local.trouble import Trouble

ANSWER_SECONDS = 15.0
FIRST_ANSWER_SECONDS = 8.0
"""A broker that is there answers at once; one that starts beside us takes a few seconds."""

MAX_MESSAGE = 9 * 1024 * 1024
"""An event may have 8 MiB (attachments ride in it); Kafka's default of 1 MiB would refuse it."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as a profile wants it; retention in milliseconds."""

    name: str
    partitions: int
    retention_ms: int


def create_topics(bootstrap: str, wanted: Iterable[Topic]) -> list[str]:
    """Create what is not there yet; returns the names created, raises Trouble."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topics = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=-1,
            config={"retention.ms": str(topic.retention_ms), "max.message.bytes": str(MAX_MESSAGE)},
        )
        for topic in wanted
    ]
    if not topics:
        return []
    await_broker(bootstrap)
    answers: dict[str, Future[None]] = admin.create_topics(topics, operation_timeout=ANSWER_SECONDS)
    return [name for name, answer in answers.items() if _was_created(name, answer)]


def await_broker(bootstrap: str) -> None:
    """Return once a broker answers; raises Trouble when none does for a while."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.list_topics(timeout=FIRST_ANSWER_SECONDS)
    except KafkaException:
        raise Trouble(
            f"No Kafka broker answers at {bootstrap} (tried for {FIRST_ANSWER_SECONDS:.0f} s).",
            "Check --bootstrap-servers; without it `postroom up` runs a broker of its own.",
        ) from None


def _was_created(name: str, answer: "Future[None]") -> bool:
    try:
        answer.result(ANSWER_SECONDS)
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise Trouble(f"Topic {name} could not be created: {error.str()}.") from None
    return True
