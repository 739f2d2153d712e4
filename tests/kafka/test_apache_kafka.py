"""The fixture itself: a real Apache Kafka keeps what it acknowledged, also over kill -9."""

import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.fixtures.kraft import ApacheKafka

pytestmark = pytest.mark.kafka


def publish(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    errors: list[object] = []
    producer.produce(topic, value, partition=0, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert errors == [None]


def read_first(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def test_what_was_published_is_read_back(apache_kafka: str) -> None:
    topic = uuid.uuid4().hex
    publish(apache_kafka, topic, b"one")
    assert read_first(apache_kafka, topic) == b"one"


def test_an_acknowledged_record_survives_kill_9(apache_kafka_node: ApacheKafka) -> None:
    topic = uuid.uuid4().hex
    publish(apache_kafka_node.bootstrap, topic, b"kept")
    apache_kafka_node.kill()
    apache_kafka_node.start()
    assert read_first(apache_kafka_node.bootstrap, topic) == b"kept"
