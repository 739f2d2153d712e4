"""Status events: a worker tells a topic what became of its letters, as CloudEvents, at least once."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, KafkaError, TopicPartition

from postroom.adapters.kafka import producers
from postroom.adapters.kafka.producers import KafkaStatusEventPublisher
from postroom.connections import KafkaConnection
from postroom.local.broker import LocalBroker, TopicSpec, create_topics
from postroom.policy.notifications import notification_rule
from postroom.ports.notifications import TOPIC as STATUS_TOPIC
from postroom.ports.notifications import Notification
from postroom.worker.maintenance import publish_notifications
from postroom.worker.status import status_events_condition
from tests.bench.test_worker_speed import run
from tests.delivery.letters import NOON, record
from tests.delivery.pipeline_harness import Bench
from tests.fixtures.pipeline import TOPIC, WorkerUnderTest, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink
from tests.worker.test_callbacks import OLD, Receiver

STATUS = f"{TOPIC}.status"
DAY = 86_400_000


@pytest.fixture
def own_broker() -> Iterator[LocalBroker]:
    with LocalBroker() as running:
        yield running


def telling(plant: WorkerUnderTest, *wanted: str, **spec: Any) -> WorkerUnderTest:
    """The same plant with a profile that tells these."""
    plant.prepare()
    path = plant.folder / "profile.yaml"
    profile: dict[str, Any] = yaml.safe_load(path.read_text())
    profile["spec"] |= {"kafka": {"statusEvents": list(wanted)}, **spec}
    path.write_text(yaml.safe_dump(profile))
    create_topics(plant.bootstrap, [TopicSpec(STATUS, 3, DAY)])
    return plant


def told(bootstrap: str) -> list[tuple[dict[str, str], str, dict[str, Any]]]:
    """All status events: headers, key, data; of each partition in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers", "log_level": 0})
    places = [TopicPartition(STATUS, number, 0) for number in range(3)]
    left = sum(consumer.get_watermark_offsets(place, 10)[1] for place in places)
    consumer.assign(places)
    found: list[tuple[dict[str, str], str, dict[str, Any]]] = []
    while len(found) < left:
        for message in consumer.consume(left, 0.5):
            listed: Any = message.headers()
            headers = {name: value.decode() for name, value in listed}
            found.append((headers, (message.key() or b"").decode(), json.loads(message.value() or b"")))
    consumer.close()
    return found


def waiting(plant: WorkerUnderTest) -> int:
    return int(plant.query("SELECT count(*) FROM notification_outbox")[0][0])


@pytest.mark.kafka
def test_what_becomes_of_letters_is_told_on_the_status_topic(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address)
    telling(plant, "Captured", "RenderFailed").start()
    try:
        bad = json.loads(next(events(1, seed=3, prefix="bad"))) | {"data": {}}
        publish(own_broker.bootstrap, [*events(20, seed=1), json.dumps(bad).encode()])
        wait_until(lambda: plant.through(21), "every letter settled")
        wait_until(lambda: waiting(plant) == 0, "every notice published")
        found = told(own_broker.bootstrap)
    finally:
        assert plant.end() == 0
    headers, key, data = next(one for one in found if one[2]["event"]["id"] == "e000000")
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": headers["ce_id"],
        "ce_source": "/namespaces/default/smtpprofiles/plant",
        "ce_type": "dev.postroom.letter.captured",
        "ce_subject": "e000000",
        "ce_time": headers["ce_time"],
        "content-type": "application/json",
    }
    assert (key, data["state"], data["attempts"], data["smtp"]["code"]) == ("e000000", "captured", 1, 250)
    assert data["message_id"].startswith("<")
    [refused] = [data for _, _, data in found if data["state"] == "render_failed"]
    assert (refused["event"]["id"], refused["problem"]) == ("bad000000", "variable_missing")
    assert len(found) == len({headers["ce_id"] for headers, _, _ in found}) == 21
    assert "@example.net" not in json.dumps(found)


Tell = Callable[[KafkaError | None, None], None]


class ScriptedProducer:
    """Acknowledges what it gets at the flush, as far as it was told to."""

    def __init__(self, refused: Collection[str], room: int = 100) -> None:
        self._refused, self._room = refused, room
        self._reports: list[Callable[[], None]] = []

    def produce(self, _: str, value: bytes, key: bytes, *, headers: object, on_delivery: Tell) -> None:
        if len(self._reports) == self._room:
            raise BufferError("queue full")
        error = KafkaError(KafkaError._UNKNOWN_TOPIC) if key.decode() in self._refused else None
        self._reports.append(lambda: on_delivery(error, None))

    def flush(self, _: float) -> int:
        while self._reports:
            self._reports.pop(0)()
        return 0


def notices(*keys: str) -> list[Notification]:
    return [Notification(key, "", key, "t", "{}", NOON, 1, row) for row, key in enumerate(keys)]


def courier(monkeypatch: pytest.MonkeyPatch, producer: ScriptedProducer) -> KafkaStatusEventPublisher:
    monkeypatch.setattr(producers, "Producer", lambda _: producer)
    return KafkaStatusEventPublisher(KafkaConnection("nowhere:9092"), STATUS, "default/plant")


def test_what_a_broker_refuses_waits_and_the_condition_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = ScriptedProducer({"b"})
    carried = courier(monkeypatch, refusing)
    assert (status_events_condition(carried).ok, status_events_condition(carried).reason) == (
        None,
        "NotAttempted",
    )
    assert asyncio.run(carried.publish(notices("a", "b", "c"))) == [True, False, True]
    condition = status_events_condition(carried)
    assert (condition.ok, condition.reason) == (False, "NotPublished")
    assert "Unknown topic" in condition.message
    refusing._refused = ()
    assert asyncio.run(carried.publish(notices("b"))) == [True]
    assert status_events_condition(carried).ok is True


def test_a_full_producer_takes_the_rest_in_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = courier(monkeypatch, ScriptedProducer((), room=2))
    assert asyncio.run(carried.publish(notices("a", "b", "c"))) == [True, True, False]
    assert carried.last_error == ""


def test_a_publisher_that_dies_before_it_clears_publishes_again_under_the_same_id() -> None:
    class Dying:
        last_error = ""

        def __init__(self) -> None:
            self.got: list[str] = []

        async def publish(self, batch: Sequence[Notification]) -> Sequence[bool]:
            self.got += [one.id for one in batch]
            return [len(self.got) > 1] * len(batch)

    dying = Dying()

    async def twice() -> None:
        bench = Bench()
        bench.ledger.announce(notification_rule({STATUS_TOPIC: ["accepted"]}))
        await bench.carry(record())
        for sent in (0, 1, 0):
            assert await publish_notifications(bench.ledger, dying, bench.clock) == sent

    asyncio.run(twice())
    assert len(dying.got) == 2
    assert len(set(dying.got)) == 1


@pytest.mark.kafka
def test_a_callback_is_told_by_a_worker_what_the_topic_is_told(
    own_broker: LocalBroker, recording_sink: RecordingSink, tmp_path: Path
) -> None:
    secret = tmp_path / "secrets" / "crm" / "webhook.secret"
    secret.parent.mkdir(parents=True)
    secret.write_text(OLD)
    with Receiver([500]) as receiver:
        plant = WorkerUnderTest(tmp_path / "plant", own_broker.bootstrap, recording_sink.address)
        callback = {"name": "crm", "url": receiver.url, "secretRef": {"name": "crm"}, "events": ["Captured"]}
        telling(plant, "Captured", callbacks=[callback])
        plant.start(POSTROOM_SECRETS=str(tmp_path / "secrets"), POSTROOM_CALLBACK_ALLOW="http://127.0.0.0/8")
        try:
            publish(own_broker.bootstrap, events(10, seed=1))
            wait_until(lambda: plant.through(10), "every letter settled")
            wait_until(lambda: waiting(plant) == 0, "every notice arrived")
        finally:
            assert plant.end() == 0
    on_topic = {headers["ce_id"]: data for headers, _, data in told(own_broker.bootstrap)}
    called = {headers["webhook-id"]: json.loads(body)["data"] for headers, body in receiver.got}
    assert called == on_topic
    assert (len(called), len(receiver.got)) == (10, 11)


@pytest.mark.bench
def test_what_telling_costs_a_letter(tmp_path: Path, smtp_sink: int) -> None:
    """No bound: the figures are for the decision page; both in turn, in one run."""
    costs: dict[str, list[float]] = {"nothing told": [], "every letter told": []}
    for turn in range(3):
        for name, cost in costs.items():
            with LocalBroker() as broker:
                plant = WorkerUnderTest(
                    tmp_path / f"{turn}{name[0]}", broker.bootstrap, f"127.0.0.1:{smtp_sink}"
                )
                plant.connections = 64
                telling(plant, *(["Captured"] if name.startswith("every") else []))
                try:
                    cost.append(run(plant, turn)[0])
                    print(f"\n{name}: {cost[-1]:.0f} µs of CPU a letter")
                finally:
                    if plant.process is not None and plant.process.poll() is None:
                        plant.kill()
    print("; ".join(f"{name}: median {median(each):.0f} µs" for name, each in costs.items()))
