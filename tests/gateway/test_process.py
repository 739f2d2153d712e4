"""The gateway as a process between an HTTP client and a broker."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import yaml
from confluent_kafka import Consumer

from postroom.letter.bundle import pack_bundle
from postroom.local.broker import LocalBroker, TopicSpec, create_topics
from postroom.local.machine import free_port
from tests.gateway.test_profiles import PROFILE, compiled

pytestmark = pytest.mark.kafka
GOOD = {"event_type": "user.welcomed", "recipient": "ada@example.org", "data": {}}


@pytest.fixture
def bundles(tmp_path: Path, topic: str) -> Path:
    profile = {**PROFILE, "spec": {**PROFILE["spec"], "kafka": {"topic": topic}}}  # type: ignore[dict-item]
    profile["metadata"] = {"name": "shop", "namespace": "test"}
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "profile.yaml").write_text(yaml.safe_dump(profile))
    (tmp_path / "shop" / "templates.json").write_text(pack_bundle([compiled("welcome", "user.welcomed")]))
    return tmp_path


class GatewayProcess:
    """A gateway in a process of its own."""

    def __init__(self, bootstrap: str, bundles: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            **os.environ,
            "POSTROOM_GATEWAY_HTTP": self.url.removeprefix("http://"),
            "POSTROOM_BOOTSTRAP_SERVERS": bootstrap,
            "POSTROOM_BUNDLES": str(bundles),
            "POSTROOM_GATEWAY_ACK_SECONDS": "1",
        }
        command = [sys.executable, "-m", "postroom.local.child_program", "gateway"]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
        while self.process.poll() is None and not self._listens():
            Event().wait(0.05)  # poll without loading a busy machine

    def _listens(self) -> bool:
        try:
            return self.call("/healthz")[0] == 200
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(15) == 0
        assert self.process.stdin is not None
        self.process.stdin.close()

    def call(self, path: str, message: object = None) -> tuple[int, dict[str, object]]:
        data = json.dumps(message).encode() if message is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def gateway(broker: LocalBroker, bundles: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(broker.bootstrap, bundles)
    yield process
    process.stop()


def test_an_accepted_message_is_on_the_topic(
    gateway: GatewayProcess, broker: LocalBroker, topic: str
) -> None:
    status, answer = gateway.call("/v1/messages", GOOD)
    assert status == 202
    reader = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic])
    (record,) = reader.consume(1, timeout=15)
    reader.close()
    value = record.value()
    assert value is not None
    assert json.loads(value)["message_id"] == answer["id"]


LARGE = {
    **GOOD,
    "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "QUJD" * 500_000}],
}


def test_a_message_over_the_topics_limit_is_413(gateway: GatewayProcess) -> None:
    """The broker creates this topic at first use, with Kafka's default of 1 MiB."""
    status, answer = gateway.call("/v1/messages", LARGE)
    assert (status, "max.message.bytes" in str(answer["detail"])) == (413, True)


def test_topics_that_postroom_creates_accept_an_events_attachments(
    gateway: GatewayProcess, broker: LocalBroker, topic: str
) -> None:
    create_topics(broker.bootstrap, [TopicSpec(topic, partitions=1, retention_ms=3_600_000)])
    assert gateway.call("/v1/messages", LARGE)[0] == 202


def test_a_dead_broker_is_503_and_not_ready_and_then_works_again(bundles: Path, broker: LocalBroker) -> None:
    """The fixture `broker` is listed so that its skip applies here too."""
    with LocalBroker() as own_broker:
        gateway = GatewayProcess(own_broker.bootstrap, bundles)
        assert gateway.call("/readyz")[0] == 200
        own_broker.kill()
        status, answer = gateway.call("/v1/messages", GOOD)
        assert (status, "id" in answer) == (503, True)
        assert gateway.call("/readyz")[0] == 503
        own_broker.start()
        while gateway.call("/v1/messages", GOOD)[0] == 503:
            Event().wait(0.05)
        gateway.stop()


def test_the_gateway_ends_with_its_parent(broker: LocalBroker, bundles: Path) -> None:
    gateway = GatewayProcess(broker.bootstrap, bundles)
    assert gateway.process.stdin is not None
    gateway.process.stdin.close()
    assert gateway.process.wait(15) == 0
