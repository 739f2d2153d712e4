"""The clients against a Kafka with authentication: the connections Secret holds what the brokers accept.

All clients are those of the programs: the worker's consumer and dead-letter producer, the gateway's producer.
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


class BrokerListener(NamedTuple):
    """A listener of the broker, and the changes to the Secret that fits it."""

    protocol: str
    changes: Mapping[str, str] = {}

    def __str__(self) -> str:
        return " ".join([self.protocol, *self.changes.values()])


@dataclass
class StubReceiver:
    """A receiver that stores the values of its records."""

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


def connection(folder: Path, node: GuardedKafka, listener: BrokerListener) -> KafkaConnection:
    """Read the connection as a worker does: keys are files of a folder."""
    for key, text in (node.secret(listener.protocol) | dict(listener.changes)).items():
        (folder / key).write_text(text)
    return read_kafka(ConnectionsSecret(read_folder(folder), folder, "Secret shop/postroom-connections"))


@asynccontextmanager
async def listening(kafka: KafkaConnection, topic: str) -> AsyncIterator[tuple[KafkaConsumer, StubReceiver]]:
    receiver, events = StubReceiver(), KafkaConsumer(kafka, topic, GroupMembership(f"{topic}.workers", None))
    await events.start(receiver)
    try:
        yield events, receiver
    finally:
        await events.stop({})


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not true():  # noqa: ASYNC110 - the state is in another thread
            await asyncio.sleep(0.02)


async def publish(kafka: KafkaConnection, topic: str, value: bytes) -> None:
    publisher = KafkaPublisher(kafka, WITHIN)
    await publisher.publish(topic, b"key", value)
    await publisher.close()


def read_first(kafka: KafkaConnection, topic: str) -> bytes | None:
    """The first record that a worker receives."""

    async def scenario() -> bytes | None:
        async with listening(kafka, topic) as (_, receiver):
            await until(lambda: receiver.values)
            return receiver.values[0]

    return asyncio.run(scenario())


def backlog_of(kafka: KafkaConnection, topic: str) -> int | None:
    """The lag that the worker of a suspended profile reports, once it is known."""
    backlog = BacklogMonitor(kafka, topic, f"{topic}.workers")

    async def scenario() -> None:
        watching = asyncio.create_task(backlog.watch())
        await until(lambda: backlog.records is not None)
        watching.cancel()

    asyncio.run(scenario())
    return backlog.records


def refusal(kafka: KafkaConnection, topic: str) -> str:
    """The condition of a worker that receives nothing."""

    async def scenario() -> str:
        async with listening(kafka, topic) as (events, receiver):
            await until(lambda: kafka_condition(events.broker_health, suspended=False).ok is False)
            assert not receiver.values
            found = kafka_condition(events.broker_health, suspended=False)
            return f"{found.reason}: {found.message}"

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "listener",
    [
        BrokerListener("SSL"),
        BrokerListener("SASL_PLAINTEXT"),
        BrokerListener("SASL_SSL"),
        BrokerListener("SASL_SSL", {"kafka-sasl-mechanism": "PLAIN"}),
    ],
    ids=str,
)
def test_a_client_with_valid_credentials_writes_and_reads(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path, listener: BrokerListener
) -> None:
    kafka = connection(tmp_path, guarded_kafka, listener)
    asyncio.run(publish(kafka, topic, b"hello"))
    assert backlog_of(kafka, topic) == 1
    assert read_first(kafka, topic) == b"hello"
    bad = dead_letter(
        Record(topic, 0, 1, NOON, None, b"bad"), Problem(Code.FIELD_MISSING, "to", "is required")
    )
    assert list(asyncio.run(KafkaDeadLetterPublisher(kafka).publish([bad]))) == [True]
    assert read_first(kafka, f"{topic}.dlq") == b"bad"


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (
            BrokerListener("SASL_SSL", {"kafka-password": "wrong"}),
            "AuthenticationFailed: .* invalid credentials",
        ),
        (
            BrokerListener("SASL_SSL", {"kafka-sasl-mechanism": "SCRAM-SHA-256"}),
            "AuthenticationFailed: .* SCRAM-SHA-256",
        ),
        (BrokerListener("SASL_SSL", {"kafka-ca.crt": ""}), "AuthenticationFailed: .* certificate"),
        # TLS 1.3: the handshake has ended by then, so the error is a closed connection
        (BrokerListener("SSL", {"kafka-tls.crt": "", "kafka-tls.key": ""}), "BrokerUnreachable: .* alert"),
    ],
    ids=["a wrong password", "another mechanism", "an unknown authority", "no certificate"],
)
def test_the_condition_has_the_reason_of_a_failed_authentication(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path, listener: BrokerListener, expected: str
) -> None:
    found = refusal(connection(tmp_path, guarded_kafka, listener), topic)
    assert re.match(expected, found)
    assert PASSWORD not in found
    assert "(after" not in found


def test_the_condition_names_a_topic_without_permission(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path
) -> None:
    guarded_kafka.forbid(topic)
    found = refusal(connection(tmp_path, guarded_kafka, BrokerListener("SASL_SSL")), topic)
    assert found.startswith("NotAuthorized: ")
    assert f"needs Read on topic {topic} and on group {topic}.workers" in found


def test_a_changed_password_is_used_for_the_next_connection(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path
) -> None:
    before = connection(tmp_path, guarded_kafka, BrokerListener("SASL_SSL"))
    asyncio.run(publish(before, topic, b"hello"))
    guarded_kafka.set_password("n3xt")
    try:
        assert refusal(before, topic).startswith("AuthenticationFailed: ")
        after = connection(tmp_path, guarded_kafka, BrokerListener("SASL_SSL", {"kafka-password": "n3xt"}))
        assert read_first(after, topic) == b"hello"
    finally:
        guarded_kafka.set_password(PASSWORD)
