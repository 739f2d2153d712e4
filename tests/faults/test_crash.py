"""Kill the worker and the broker, at random and at every transition, and count every letter."""

import random
import time

import pytest

from postroom.failpoint import POINTS
from postroom.local.broker import LocalBroker
from tests.faults.verdict import judge
from tests.fixtures.pipeline import TOPIC, Plant, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

pytestmark = pytest.mark.faults

EVENTS = 2000
KILLS = 20


@pytest.fixture
def plant(tmp_path, durable_broker: LocalBroker, moody_sink: RecordingSink) -> Plant:
    made = Plant(tmp_path / "plant", durable_broker.bootstrap, moody_sink.address).prepare()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def finish(plant: Plant, count: int) -> None:
    """Let a worker run until every letter is in a final state, then end it in order."""
    plant.start()
    wait_until(lambda: plant.settled() >= count, f"{count} letters settled (log: {plant.folder}/worker.log)")
    assert plant.end() == 0


def test_no_letter_is_lost_when_the_worker_is_killed_at_random(
    plant: Plant, moody_sink: RecordingSink, durable_broker: LocalBroker
) -> None:
    published = publish(durable_broker.bootstrap, events(EVENTS, seed=1))
    chance, killed = random.Random(3), []
    for kill in range(KILLS):
        plant.start()
        goal = moody_sink.copies.total() + chance.randrange(1, EVENTS // KILLS)
        wait_until(lambda goal=goal: moody_sink.copies.total() >= min(goal, EVENTS - KILLS + kill), "progress")
        time.sleep(chance.random() * 0.02)
        plant.kill()
        killed.append(plant.dotting())
    finish(plant, published)
    verdict = judge(plant, moody_sink, published, killed)
    print(f"\nworker killed at random: {verdict}")
    verdict.hold()


@pytest.mark.parametrize("point", POINTS)
def test_no_letter_is_lost_when_the_worker_dies_at(
    point: str, plant: Plant, moody_sink: RecordingSink, durable_broker: LocalBroker
) -> None:
    count = EVENTS // len(POINTS)
    good = publish(durable_broker.bootstrap, events(count, seed=2))
    bad = publish(durable_broker.bootstrap, [b"not json"] * 20)
    killed = []
    for passes in (1, 2, 3):
        plant.start(POSTROOM_FAILPOINT=f"{point}:{passes}")
        try:
            plant.process.wait(20)
        except Exception:  # noqa: BLE001 - the point was not reached again: everything is through
            plant.kill()
        killed.append(plant.dotting())
    finish(plant, good)
    wait_until(lambda: plant.query("SELECT count(*) FROM outbox") == [(0,)], "an empty outbox", 5)
    verdict = judge(plant, moody_sink, good, killed)
    print(f"\nworker died at {point}: {verdict}")
    verdict.hold()
    assert count_dead_letters(durable_broker.bootstrap) >= bad


def test_no_letter_is_lost_when_the_broker_is_killed_at_random(
    plant: Plant, moody_sink: RecordingSink, durable_broker: LocalBroker
) -> None:
    chance, published = random.Random(5), 0
    plant.start()
    for burst in range(10):
        values = events(EVENTS // 10, seed=burst, prefix=f"b{burst}-")
        published += publish(durable_broker.bootstrap, values)
        time.sleep(chance.random() * 0.3)
        durable_broker.kill()
        durable_broker.restart()
    wait_until(lambda: plant.settled() >= published, "all letters settled")
    assert plant.end() == 0
    verdict = judge(plant, moody_sink, published, [])
    print(f"\nbroker killed 10 times: {verdict}")
    verdict.hold()


def count_dead_letters(bootstrap: str) -> int:
    """Records on the dead-letter topic."""
    from confluent_kafka import Consumer, TopicPartition  # noqa: PLC0415

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "counts"})
    _, high = consumer.get_watermark_offsets(TopicPartition(f"{TOPIC}.dlq", 0), 10)
    consumer.close()
    return high
