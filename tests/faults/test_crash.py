"""Kill the worker and the broker, at random and at every transition, and count every letter."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from postroom.failpoint import POINTS
from postroom.local.broker import LocalBroker
from tests.faults.verdict import judge
from tests.fixtures.pipeline import TOPIC, Plant, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

pytestmark = pytest.mark.faults

EVENTS = 2000
KILLS = 20


@pytest.fixture
def plant(tmp_path: Path, durable_broker: LocalBroker, moody_sink: RecordingSink) -> Iterator[Plant]:
    made = Plant(tmp_path / "plant", durable_broker.bootstrap, moody_sink.address).prepare()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def finish(plant: Plant, count: int) -> None:
    """Let a worker run until every letter is in a final state, then end it in order."""
    plant.start()
    wait_until(plant.is_member, "the last worker's partitions")
    wait_until(lambda: plant.through(count), f"{count} letters settled (log: {plant.folder}/worker.log)")
    assert plant.end() == 0


def test_no_letter_is_lost_when_the_worker_is_killed_at_random(
    plant: Plant, moody_sink: RecordingSink, durable_broker: LocalBroker
) -> None:
    published = publish(durable_broker.bootstrap, events(EVENTS, seed=1))
    chance, killed = random.Random(3), list[int]()
    for kill in range(KILLS):
        plant.start()
        goal = moody_sink.copies.total() + chance.randrange(1, EVENTS // KILLS)
        await_copies(moody_sink, min(goal, EVENTS - KILLS + kill))
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
    killed = list[int]()
    for passes in (1, 2, 3):
        worker = plant.start(POSTROOM_FAILPOINT=f"{point}:{passes}")
        await_death(plant, worker, good)
        plant.kill()
        killed.append(plant.dotting())
    finish(plant, good)
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
    wait_until(lambda: is_through_with_a_supervisor(plant, published), "all letters settled")
    assert plant.end() == 0
    verdict = judge(plant, moody_sink, published, [])
    print(f"\nbroker killed 10 times: {verdict}")
    verdict.hold()


def is_through_with_a_supervisor(plant: Plant, count: int) -> bool:
    """Start a worker that ended again, as every platform does: a broker that comes back may fence it."""
    if plant.process is not None and plant.process.poll() is not None:
        plant.start()
    return plant.through(count)


def await_copies(sink: RecordingSink, goal: int) -> None:
    """Wait until the sink has so many letters."""
    wait_until(lambda: sink.copies.total() >= goal, f"{goal} letters in the sink")


def await_death(plant: Plant, worker: "subprocess.Popen[bytes]", count: int) -> None:
    """Wait until the worker died; once everything is through, its point is not reached again."""
    wait_until(lambda: worker.poll() is not None or plant.through(count), "the worker's death")


def count_dead_letters(bootstrap: str) -> int:
    """Records on the dead-letter topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "counts"})
    _, high = consumer.get_watermark_offsets(TopicPartition(f"{TOPIC}.dlq", 0), 10)
    consumer.close()
    return int(high)
