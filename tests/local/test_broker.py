"""The embedded broker keeps acknowledged records, stays on its port, and never outlives its parent."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from confluent_kafka import Consumer, Producer

from postroom.local import broker
from postroom.local.broker import LocalBroker, TopicSpec, create_topics
from postroom.local.errors import UserError

pytestmark = pytest.mark.kafka

NOT_LEADER = 6
TOPIC_AUTHORIZATION_FAILED = 29
PARENT = """
import os, sys
from postroom.local.broker import BrokerConfig, LocalBroker
broker = LocalBroker(config=BrokerConfig(inherited_fds=(os.dup(1),))).start()
print(broker.port, flush=True)
sys.stdin.read()
"""
"""Starts a broker that inherits this process's standard output."""


def produce(bootstrap: str, topic: str, count: int, patience_ms: int = 10_000) -> list[object]:
    """Send `count` messages; returns the errors of messages that were not acknowledged."""
    errors: list[object] = []
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": patience_ms, "log_level": 0}
    )
    for number in range(count):
        producer.produce(
            topic, str(number).encode(), callback=lambda error, _: errors.append(error) if error else None
        )
    assert producer.flush(15) == 0
    return errors


def consume(bootstrap: str, topic: str, count: int) -> set[bytes]:
    """Read `count` values of a topic from its beginning."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}.readers",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    try:
        found: set[bytes] = set()
        while len(found) < count:
            batch = consumer.consume(count, timeout=15)
            assert batch, f"{len(found)} of {count} messages came"
            found |= {value for message in batch if (value := message.value()) is not None}
        return found
    finally:
        consumer.close()


@pytest.fixture
def durable(tmp_path: Path, broker: LocalBroker) -> Iterator[LocalBroker]:
    """A broker that fsyncs to a folder; it requests `broker`, so that its skip applies here too."""
    with LocalBroker(tmp_path / "broker", fsync=True) as running:
        yield running


def test_produced_records_are_consumed(broker: LocalBroker, topic: str) -> None:
    assert produce(broker.bootstrap, topic, 100) == []
    assert consume(broker.bootstrap, topic, 100) == {str(number).encode() for number in range(100)}


def test_it_listens_on_the_loopback_interface_only(broker: LocalBroker) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines() if sys.platform == "linux" else []
    port = f":{broker.port:04X} "
    # state 0A is LISTEN; client connections have the same port
    addresses = [f[1] for f in map(str.split, listening) if port in f"{f[1]} " and f[3] == "0A"]
    assert addresses == [f"0100007F:{broker.port:04X}"] if listening else True


def test_a_killed_broker_has_kept_every_acknowledged_message(durable: LocalBroker, topic: str) -> None:
    address = durable.bootstrap
    assert create_topics(address, [TopicSpec(topic, partitions=3, retention_ms=3_600_000)]) == [topic]
    assert produce(address, topic, 500) == []
    durable.kill()
    durable.start()
    assert durable.bootstrap == address
    assert len(consume(address, topic, 500)) == 500


def test_a_durable_broker_creates_no_topics_by_itself(durable: LocalBroker, topic: str) -> None:
    """A topic that the broker created by itself would be lost in a kill."""
    assert len(produce(durable.bootstrap, topic, 1, patience_ms=500)) == 1


def test_a_topic_is_created_once_and_survives_a_kill(durable: LocalBroker, topic: str) -> None:
    wanted = [TopicSpec(topic, partitions=2, retention_ms=3_600_000)]
    assert create_topics(durable.bootstrap, wanted) == [topic]
    durable.kill()
    durable.start()
    assert create_topics(durable.bootstrap, wanted) == []


def test_an_injected_fault_fails_and_is_cleared(broker: LocalBroker, topic: str) -> None:
    produce(broker.bootstrap, topic, 1)
    broker.control("fault", keys=["Produce"], topic=topic, code=TOPIC_AUTHORIZATION_FAILED, count=-1)
    assert len(produce(broker.bootstrap, topic, 1)) == 1
    assert broker.control("clear")["hits"] >= 1
    broker.control("fault", keys=["Produce"], topic=topic, code=NOT_LEADER, count=2)
    assert produce(broker.bootstrap, topic, 1) == []
    broker.control("clear")


def test_creating_topics_on_an_unreachable_broker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match="No Kafka broker answers"):
        create_topics("127.0.0.1:1", [TopicSpec("t", 1, 1000)])


def test_an_unknown_fault_is_rejected(broker: LocalBroker) -> None:
    with pytest.raises(ValueError, match="Prodouce"):
        broker.control("fault", keys=["Prodouce"])
    with pytest.raises(ValueError, match="unknown op"):
        broker.control("explode")


def test_a_taken_port_is_an_error_with_the_port_number(broker: LocalBroker) -> None:
    with pytest.raises(UserError, match=f"Port {broker.port} is taken"):
        LocalBroker(port=broker.port).start()


def test_a_broker_ends_when_its_parent_is_killed(broker: LocalBroker) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=PIPE, stdout=PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        parent.kill()
        assert parent.stdout.read() == ""  # end of file: no process holds the pipe
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_broker_without_a_parent_serves_connected_clients_until_they_close(broker: LocalBroker) -> None:
    """In this time workers commit their offsets."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=PIPE, stdout=PIPE, text=True) as parent:
        assert parent.stdout is not None
        address = ("127.0.0.1", int(parent.stdout.readline()))
        with socket.create_connection(address, timeout=10) as client:
            parent.kill()
            parent.wait()
            client.settimeout(1.5)  # longer than a broker without clients runs
            with pytest.raises(TimeoutError):
                client.recv(1)
        assert parent.stdout.read() == ""
