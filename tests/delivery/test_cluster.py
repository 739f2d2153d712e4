"""The worker as a pod has it: every dependency may arrive later, in any order, without a restart."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from postroom.local.broker import LocalBroker, TopicSpec, create_topics
from postroom.local.machine import free_port
from tests.delivery import kubelet
from tests.fixtures.pipeline import TOPIC, WorkerUnderTest, events, publish, wait_until
from tests.fixtures.postgres import Server
from tests.fixtures.recording_sink import RecordingSink
from tests.worker.test_worker_process import page

START_SECONDS = 120.0
"""Four interpreters on a busy machine take their time."""

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@dataclass
class Pod:
    """A worker with mounted folders, and what it says."""

    plant: WorkerUnderTest
    connections: Path
    name: str = "postroom-plant-1"
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    def start(self, **environment: str) -> "Pod":
        self.plant.start(
            POSTROOM_BOOTSTRAP_SERVERS=None,
            POSTROOM_LEDGER=None,
            POSTROOM_CONNECTIONS=str(self.connections),
            POSTROOM_NAMESPACE="default",
            POSTROOM_POD=self.name,
            POSTROOM_PROFILE_HASH="0123abcd",
            POSTROOM_HTTP=self.address,
            **environment,
        )
        return self

    def mount(self, secret: dict[str, str]) -> None:
        kubelet.write(self.connections, secret)

    def says(self) -> dict[str, Any]:
        code, body = page(self.address, "/statusz")
        return dict(json.loads(body)) if code == 200 else {}

    def condition(self, name: str) -> tuple[bool | None, str]:
        found = self.says().get("conditions", {}).get(name, {})
        return found.get("ok"), found.get("reason", "")

    def ready(self) -> bool:
        return page(self.address, "/readyz")[0] == 200

    def waits_for(self, name: str, reason: str) -> None:
        wait_until(lambda: self.condition(name) == (False, reason), f"{name} is {reason}")
        assert page(self.address, "/healthz") == (200, "alive\n")
        assert page(self.address, "/readyz")[0] == 503
        assert self.plant.process is not None
        assert self.plant.process.poll() is None

    def log(self) -> str:
        return (self.plant.folder / "worker.log").read_text()


@dataclass
class Place:
    """Where pods run: brokers, a database, a mail server."""

    broker: LocalBroker
    database: str
    sink: RecordingSink
    folder: Path
    pods: list[Pod] = field(default_factory=list)

    def pod(self, name: str = "postroom-plant-1", topics: bool = True) -> Pod:
        plant = WorkerUnderTest(self.folder / name, self.broker.bootstrap, self.sink.address)
        pod = Pod(plant.prepare(topics), plant.folder / "connections", name)
        pod.connections.mkdir()
        kubelet.write(pod.connections, {})
        self.pods.append(pod)
        return pod

    def secret(self, **changes: str) -> dict[str, str]:
        return {"kafka-bootstrap-servers": self.broker.bootstrap, "ledger-url": self.database} | changes

    def settled(self, schema: str = "postroom_default") -> int:
        engine = create_engine(self.database.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            query = text(f"SELECT count(*) FROM {schema}.letter WHERE state = 'captured'")
            found: int = connection.execute(query).scalar_one()
        engine.dispose()
        return found


@pytest.fixture
def place(postgres: str, recording_sink: RecordingSink, tmp_path: Path) -> Iterator[Place]:
    with LocalBroker() as broker:
        place = Place(broker, postgres, recording_sink, tmp_path)
        try:
            yield place
        finally:
            for pod in place.pods:
                if pod.plant.process is not None and pod.plant.process.poll() is None:
                    pod.plant.kill()


def test_a_worker_waits_for_its_secret_its_keys_and_its_topic_and_then_serves(place: Place) -> None:
    pod = place.pod(topics=False).start()
    pod.waits_for("secrets", "SecretMissing")
    assert "Secret default/postroom-connections" in pod.says()["conditions"]["secrets"]["message"]
    pod.mount({"kafka-bootstrap-servers": place.broker.bootstrap})
    pod.waits_for("secrets", "SecretKeyMissing")
    pod.mount(place.secret())
    wait_until(lambda: pod.condition("ledger") == (True, "Reachable"), "the ledger is open")
    pod.waits_for("kafka", "TopicMissing")
    day = 86_400_000
    create_topics(place.broker.bootstrap, [TopicSpec(TOPIC, 3, day), TopicSpec(f"{TOPIC}.dlq", 1, day)])
    wait_until(pod.ready, "the worker is ready")
    publish(place.broker.bootstrap, events(50, seed=1))
    wait_until(lambda: place.settled() == 50, "the letters settled")
    status = pod.says()
    assert (status["pod"], status["profile_hash"], status["problems"]) == ("postroom-plant-1", "0123abcd", [])
    assert {name: each["ok"] for name, each in status["conditions"].items()} == {
        "secrets": True,
        "ledger": True,
        "kafka": True,
        "relay": True,
        "circuit": True,
        "templates": True,
    }
    assert pod.plant.end() == 0
    assert "Traceback" not in pod.log()
    assert place.sink.copies.total() == 50


def test_a_worker_waits_for_its_database(place: Place, postgres_server: Server) -> None:
    nowhere = f"postgresql://postgres:s3cr3t@127.0.0.1:{free_port()}/ledger"
    pod = place.pod().start()
    pod.mount(place.secret(**{"ledger-url": nowhere}))
    pod.waits_for("ledger", "LedgerUnreachable")
    pod.mount(place.secret())
    wait_until(pod.ready, "the worker is ready")
    assert "s3cr3t" not in pod.log()
    postgres_server.stop("immediate")
    try:
        pod.waits_for("ledger", "LedgerUnreachable")
    finally:
        postgres_server.start()
    wait_until(pod.ready, "the worker is ready again")
    assert pod.plant.end() == 0


def test_a_worker_waits_for_its_brokers(place: Place) -> None:
    pod = place.pod()
    pod.mount(place.secret(**{"kafka-bootstrap-servers": f"127.0.0.1:{free_port()}"}))
    pod.start()
    pod.waits_for("kafka", "BrokerUnreachable")
    assert pod.plant.end() == 0


def test_a_worker_that_waits_ends_when_it_is_told_to(place: Place) -> None:
    pod = place.pod().start()
    pod.waits_for("secrets", "SecretMissing")
    assert pod.plant.end() == 0


def test_a_changed_secret_ends_the_worker_in_order_and_a_deleted_one_does_not(place: Place) -> None:
    pod = place.pod()
    pod.mount(place.secret())
    pod.start()
    wait_until(pod.ready, "the worker is ready")
    pod.mount({})
    wait_until(lambda: pod.condition("secrets") == (False, "SecretMissing"), "the deletion is reported")
    assert pod.ready()
    pod.mount(place.secret(**{"kafka-security-protocol": "PLAINTEXT"}))
    process = pod.plant.process
    assert process is not None
    assert process.wait(60) == 0
    log = pod.log()
    assert '"changed": ["kafka-security-protocol"]' in log
    assert re.search(r"worker closed", log)
    pod.start()
    wait_until(pod.ready, "the worker is back with the new Secret")
    assert pod.plant.end() == 0


def partitions(pod: Pod) -> int:
    """How many partitions a worker says it has."""
    return len(pod.says().get("partitions", ()))


def test_workers_share_a_ledger_and_take_over_from_one_that_was_killed(place: Place) -> None:
    one, other, spare, third = (place.pod(f"postroom-plant-{n}", topics=n == 1) for n in (1, 2, 3, 4))
    for pod in (one, other, spare, third):
        pod.mount(place.secret())
        wait_until(pod.start().ready, "the next is ready, even the one that has no partition", START_SECONDS)
    # the embedded broker waits for ever for a member that dies in the middle of a rebalance
    wait_until(lambda: sorted(map(partitions, place.pods)) == [0, 1, 1, 1], "each partition is of another")
    publish(place.broker.bootstrap, events(3000, seed=1))
    wait_until(lambda: place.settled() > 200, "some letters settled")
    one.plant.kill()
    wait_until(lambda: place.settled() == 3000, "all letters settled")
    for pod in (other, spare, third):
        assert pod.plant.end() == 0
    assert len(place.sink.copies) == 3000
