"""Towards a Kafka that asks who is there: what a connections Secret says is what brokers let in."""

import time
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from postroom.connections import KafkaConnection, Mounted, read_kafka
from postroom.mounted import read_folder
from tests.fixtures.kraft_guarded import PASSWORD, GuardedKafka

pytestmark = pytest.mark.kafka
WITHIN = 30.0


class Entrance(NamedTuple):
    """A listener, and what a Secret says otherwise than it should, or in another way."""

    protocol: str
    changes: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __str__(self) -> str:
        return " ".join([self.protocol, *self.changes.values()])


ENTRANCES = [
    Entrance("SSL"),
    Entrance("SASL_PLAINTEXT"),
    Entrance("SASL_SSL"),
    Entrance("SASL_SSL", {"kafka-sasl-mechanism": "PLAIN"}),
]


@pytest.fixture
def topic() -> str:
    return f"postroom.shop.{uuid.uuid4().hex[:8]}"


def connection(folder: Path, node: GuardedKafka, entrance: Entrance) -> KafkaConnection:
    """As a worker gets it: keys are files of a folder."""
    for key, text in (node.secret(entrance.protocol) | entrance.changes).items():
        (folder / key).write_text(text)
    return read_kafka(Mounted(read_folder(folder), folder, "Secret shop/postroom-connections"))


def produce(kafka: KafkaConnection, topic: str) -> None:
    producer = Producer(kafka.client_settings())
    producer.produce(topic, b"hello")
    assert producer.flush(WITHIN) == 0


def listen(kafka: KafkaConnection, topic: str, refusal: str = "") -> list[bytes]:
    """What a consumer reads, or nothing once it is refused in these words."""
    said: list[KafkaError] = []
    told = {"group.id": f"{topic}.workers", "auto.offset.reset": "earliest", "log_level": 0}
    consumer = Consumer(kafka.client_settings() | told | {"error_cb": said.append})
    consumer.subscribe([topic])
    deadline = time.monotonic() + WITHIN
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and (error := message.error()) is not None:
                said.append(error)
            elif message is not None:
                return [message.value() or b""]
            if refusal and any(refusal in f"{error.name()} {error.str()}" for error in said):
                return []
    finally:
        consumer.close()
    raise AssertionError(f"neither a record nor {refusal!r}: {said}")


@pytest.mark.parametrize("entrance", ENTRANCES, ids=str)
def test_whoever_shows_what_is_asked_for_writes_and_reads(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path, entrance: Entrance
) -> None:
    kafka = connection(tmp_path, guarded_kafka, entrance)
    produce(kafka, topic)
    assert listen(kafka, topic) == [b"hello"]


@pytest.mark.parametrize(
    ("entrance", "refusal"),
    [
        (Entrance("SASL_SSL", {"kafka-password": "wrong"}), "_AUTHENTICATION"),
        (Entrance("SASL_SSL", {"kafka-sasl-mechanism": "SCRAM-SHA-256"}), "_AUTHENTICATION"),
        (Entrance("SASL_SSL", {"kafka-ca.crt": ""}), "_SSL"),
        # TLS 1.3: the handshake is over by then, so it comes as a line that was cut
        (Entrance("SSL", {"kafka-tls.crt": "", "kafka-tls.key": ""}), "alert bad certificate"),
    ],
    ids=["a wrong password", "another mechanism", "an unknown authority", "no certificate"],
)
def test_whoever_does_not_is_told_so(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path, entrance: Entrance, refusal: str
) -> None:
    kafka = connection(tmp_path, guarded_kafka, entrance)
    assert listen(kafka, topic, refusal) == []


def test_a_topic_of_somebody_else_is_refused_by_name(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path
) -> None:
    produce(KafkaConnection(guarded_kafka.bootstrap), topic)
    guarded_kafka.forbid(topic)
    kafka = connection(tmp_path, guarded_kafka, Entrance("SASL_SSL"))
    assert listen(kafka, topic, "TOPIC_AUTHORIZATION_FAILED") == []


def test_a_changed_password_counts_from_the_next_connection_on(
    guarded_kafka: GuardedKafka, topic: str, tmp_path: Path
) -> None:
    entrance = Entrance("SASL_SSL")
    before = connection(tmp_path, guarded_kafka, entrance)
    produce(before, topic)
    guarded_kafka.set_password("n3xt")
    try:
        assert listen(before, topic, "_AUTHENTICATION") == []
        after = connection(tmp_path, guarded_kafka, Entrance("SASL_SSL", {"kafka-password": "n3xt"}))
        assert listen(after, topic) == [b"hello"]
    finally:
        guarded_kafka.set_password(PASSWORD)
