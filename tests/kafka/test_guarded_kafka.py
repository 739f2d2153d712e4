"""Towards a Kafka that asks who is there: what a connections Secret says is what brokers let in.

All clients are the programs' own: the worker's consumer and dead-letter producer, the gateway's producer.
"""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.lag import BacklogMonitor
from postroom.adapters.kafka.producers import KafkaDeadLetterPublisher
from postroom.adapters.kafka.settings import GroupMembership
from postroom.connections import ConnectionsSecret, KafkaConnection, read_kafka
from postroom.gateway.publisher import KafkaPublisher
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem
from postroom.local.broker import TopicSpec, create_topics
from postroom.ports.kafka import Partition
from postroom.secret_files import read_folder
from postroom.worker.status import kafka_condition
from tests.delivery.letters import NOON, dead_letter
from tests.fixtures.kraft_guarded import PASSWORD, GuardedKafka

pytestmark = pytest.mark.kafka
WITHIN = 40.0


class Entrance(NamedTuple):
    """A listener, and what a Secret says otherwise than it should, or in another way."""

    protocol: str
    changes: Mapping[str, str] = {}

    def __str__(self) -> str:
        return " ".join([self.protocol, *self.changes.values()])


@dataclass
class Ear:
    """A receiver that keeps what it hears."""

    values: list[bytes | None] = field(default_factory=list)

    def assigned(self, _: Sequence[Partition]) -> None: ...

    def received(self, records: Sequence[Record]) -> None:
        self.values += [record.value for record in records]

    async def revoked(self, _: Sequence[Partition]) -> Mapping[Partition, int]:
        return {}

    def lost(self, _: Sequence[Partition]) -> None: ...


@pytest.fixture
def topic(guarded_kafka: GuardedKafka) -> str:
    name = f"postroom.shop.{uuid.uuid4().hex[:8]}"
    hour = 3_600_000
    create_topics(guarded_kafka.bootstrap, [TopicSpec(name, 1, hour), TopicSpec(f"{name}.dlq", 1, hour)])
    return name


def connection(folder: Path, node: GuardedKafka, entrance: Entrance) -> KafkaConnection:
    """As a worker gets it: keys are files of a folder."""
    for key, text in (node.secret(entrance.protocol) | dict(entrance.changes)).items():
        (folder / key).write_text(text)
    return read_kafka(ConnectionsSecret(read_folder(folder), folder, "Secret shop/postroom-connections"))


@asynccontextmanager
async def listening(kafka: KafkaConnection, topic: str) -> AsyncIterator[tuple[KafkaConsumer, Ear]]:
    ear, events = Ear(), KafkaConsumer(kafka, topic, GroupMembership(f"{topic}.workers", None))
    await events.start(ear)
    try:
        yield events, ear
    finally:
        await events.stop({})


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not true():  # noqa: ASYNC110 - it is in another thread
            await asyncio.sleep(0.02)


async def publish(kafka: KafkaConnection, topic: str, value: bytes) -> None:
    publisher = KafkaPublisher(kafka, WITHIN)
    await publisher.publish(topic, b"key", value)
    await publisher.close()


def read_first(kafka: KafkaConnection, topic: str) -> bytes | None:
    """The first record that a worker gets."""

    async def scenario() -> bytes | None:
        async with listening(kafka, topic) as (_, ear):
            await until(lambda: ear.values)
            return ear.values[0]

    return asyncio.run(scenario())


def waiting(kafka: KafkaConnection, topic: str) -> int | None:
    """What the workers of a suspended profile say, once they can."""
    backlog = BacklogMonitor(kafka, topic, f"{topic}.workers")

    async def scenario() -> None:
        watching = asyncio.create_task(backlog.watch())
        await until(lambda: backlog.records is not None)
        watching.cancel()

    asyncio.run(scenario())
    return backlog.records


def refusal(kafka: KafkaConnection, topic: str) -> str:
    """What a worker's condition says when it gets nothing."""

    async def scenario() -> str:
        async with listening(kafka, topic) as (events, ear):
            await until(lambda: kafka_condition(events.broker_health, suspended=False).ok is False)
            assert not ear.values
            found = kafka_condition(events.broker_health, suspended=False)
            return f"{found.reason}: {found.message}"

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "entrance",
    [
        Entrance("SSL"),
        Entrance("SASL_PLAINTEXT"),
        Entrance("SASL_SSL"),
        Entrance("SASL_SSL", {"kafka-sasl-mechanism": "PLAIN"}),
    ],
    ids=str,
)
def test_whoever_shows_what_is_asked_for_writes_and_reads(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path, entrance: Entrance
) -> None:
    kafka = connection(tmp_path, guarded_kafka, entrance)
    asyncio.run(publish(kafka, topic, b"hello"))
    assert waiting(kafka, topic) == 1
    assert read_first(kafka, topic) == b"hello"
    bad = dead_letter(
        Record(topic, 0, 1, NOON, None, b"bad"), Problem(Code.FIELD_MISSING, "to", "is required")
    )
    assert list(asyncio.run(KafkaDeadLetterPublisher(kafka).publish([bad]))) == [True]
    assert read_first(kafka, f"{topic}.dlq") == b"bad"


@pytest.mark.parametrize(
    ("entrance", "said"),
    [
        (Entrance("SASL_SSL", {"kafka-password": "wrong"}), "AuthenticationFailed: .* invalid credentials"),
        (
            Entrance("SASL_SSL", {"kafka-sasl-mechanism": "SCRAM-SHA-256"}),
            "AuthenticationFailed: .* SCRAM-SHA-256",
        ),
        (Entrance("SASL_SSL", {"kafka-ca.crt": ""}), "AuthenticationFailed: .* certificate"),
        # TLS 1.3: the handshake is over by then, so it comes as a line that was cut
        (Entrance("SSL", {"kafka-tls.crt": "", "kafka-tls.key": ""}), "BrokerUnreachable: .* alert"),
    ],
    ids=["a wrong password", "another mechanism", "an unknown authority", "no certificate"],
)
def test_whoever_does_not_is_told_what_was_refused(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path, entrance: Entrance, said: str
) -> None:
    found = refusal(connection(tmp_path, guarded_kafka, entrance), topic)
    assert re.match(said, found)
    assert PASSWORD not in found
    assert "(after" not in found


def test_a_topic_of_somebody_else_is_refused_by_name(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path
) -> None:
    guarded_kafka.forbid(topic)
    found = refusal(connection(tmp_path, guarded_kafka, Entrance("SASL_SSL")), topic)
    assert found.startswith("NotAuthorized: ")
    assert f"needs Read on topic {topic} and on group {topic}.workers" in found


def test_a_changed_password_counts_from_the_next_connection_on(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path
) -> None:
    before = connection(tmp_path, guarded_kafka, Entrance("SASL_SSL"))
    asyncio.run(publish(before, topic, b"hello"))
    guarded_kafka.set_password("n3xt")
    try:
        assert refusal(before, topic).startswith("AuthenticationFailed: ")
        after = connection(tmp_path, guarded_kafka, Entrance("SASL_SSL", {"kafka-password": "n3xt"}))
        assert read_first(after, topic) == b"hello"
    finally:
        guarded_kafka.set_password(PASSWORD)
