"""Kill the worker and the broker, at random and at every transition, and count every letter."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from postroom.failpoint import POINTS
from postroom.local.broker import LocalBroker
from tests.faults.results import Fault
from tests.faults.verdict import judge
from tests.fixtures.pipeline import TOPIC, WorkerUnderTest, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

pytestmark = pytest.mark.faults

EVENTS_A_KILL = 200
FINISH_SECONDS = 300.0
"""Half of all letters may be left then, and what was in hand at a death is rendered twice."""


@pytest.fixture
def plant(
    tmp_path: Path, durable_broker: LocalBroker, failing_sink: RecordingSink, request: pytest.FixtureRequest
) -> Iterator[WorkerUnderTest]:
    """A worker under `onInDoubt: Resend`, or under the policy that the test is parametrized with."""
    policy = getattr(request, "param", "Resend")
    made = WorkerUnderTest(
        tmp_path / "plant", durable_broker.bootstrap, failing_sink.address, on_in_doubt=policy, prepared=True
    ).prepare()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def finish(plant: WorkerUnderTest, count: int) -> None:
    """Let a worker run until every letter is in a final state, then end it in order."""
    plant.start()
    wait_until(plant.is_member, "the last worker's partitions")
    settled = f"{count} letters settled (log: {plant.folder}/worker.log)"
    wait_until(lambda: plant.through(count), settled, FINISH_SECONDS)
    assert plant.end() == 0


def kill_at_random(plant: WorkerUnderTest, sink: RecordingSink, kills: int) -> tuple[int, list[int]]:
    """Publish, kill the worker as often, let it finish: events, and the rows in `sending` at each kill."""
    published = publish(plant.bootstrap, events(kills * EVENTS_A_KILL, seed=1))
    chance, killed = random.Random(3), list[int]()
    for _ in range(kills):
        plant.start()
        await_copies(plant, sink, sink.copies.total() + chance.randrange(1, EVENTS_A_KILL), published)
        time.sleep(chance.random() * 0.02)
        plant.kill()
        killed.append(plant.sending())
    assert plant.settled() < published, "the kills came too late to find it at work"
    finish(plant, published)
    return published, killed


@pytest.mark.fault(2)
def test_no_letter_is_lost_when_the_worker_is_killed_at_random(
    plant: WorkerUnderTest, failing_sink: RecordingSink, fault: Fault
) -> None:
    published, killed = kill_at_random(plant, failing_sink, fault.size(6, 50))
    verdict = judge(plant, failing_sink, published, killed)
    verdict.hold()
    fault.record(f"worker killed at random: {verdict}")


@pytest.mark.parametrize("plant", ["Park"], indirect=True)
@pytest.mark.fault(3)
def test_under_park_no_letter_is_doubled_when_the_worker_is_killed_at_random(
    plant: WorkerUnderTest, failing_sink: RecordingSink, fault: Fault
) -> None:
    published, killed = kill_at_random(plant, failing_sink, fault.size(6, 50))
    verdict = judge(plant, failing_sink, published, killed)
    verdict.hold_under_park()
    fault.record(f"worker killed at random, Park: {verdict}")


@pytest.mark.fault(2)
def test_no_letter_is_lost_when_the_worker_dies_at_each_step(
    plant: WorkerUnderTest, failing_sink: RecordingSink, fault: Fault
) -> None:
    """One worker's ledger through all of it: what a death leaves is there at the next."""
    count, good, bad = fault.size(150, 600), 0, 0
    killed, deaths = list[int](), dict.fromkeys(POINTS, 0)
    for point in POINTS:
        good += publish(plant.bootstrap, events(count, seed=2, prefix=f"{point}-"))
        bad += publish(plant.bootstrap, [b"not json"] * 20)
        for passes in (1, 2, 3):
            plant.start(POSTROOM_FAILPOINT=f"{point}:{passes}")
            deaths[point] += died(plant, good)
            plant.kill()
            killed.append(plant.sending())
    finish(plant, good)
    verdict = judge(plant, failing_sink, good, killed)
    verdict.hold()
    assert all(deaths.values()), deaths
    assert count_dead_letters(plant.bootstrap) >= bad
    fault.record(f"worker dead at {len(POINTS)} named steps, {sum(deaths.values())} times in all: {verdict}")


@pytest.mark.fault(7)
def test_no_letter_is_lost_when_the_broker_is_killed_at_random(
    plant: WorkerUnderTest, failing_sink: RecordingSink, durable_broker: LocalBroker, fault: Fault
) -> None:
    chance, published, bursts = random.Random(5), 0, fault.size(5, 20)
    plant.start()
    for burst in range(bursts):
        published += publish(durable_broker.bootstrap, events(200, seed=burst, prefix=f"b{burst}-"))
        time.sleep(chance.random() * 0.3)
        durable_broker.kill()
        durable_broker.restart()
    through = f"{published} letters settled (log: {plant.folder}/worker.log)"
    wait_until(lambda: is_through_with_a_supervisor(plant, published), through, FINISH_SECONDS)
    assert plant.end() == 0
    verdict = judge(plant, failing_sink, published, [])
    verdict.hold()
    fault.record(f"embedded broker killed {bursts} times: {verdict}")


def is_through_with_a_supervisor(plant: WorkerUnderTest, count: int) -> bool:
    """Start a worker that ended again, as every platform does: a broker that comes back may fence it."""
    if plant.process is not None and plant.process.poll() is not None:
        plant.start()
    return plant.through(count)


def await_copies(plant: WorkerUnderTest, sink: RecordingSink, goal: int, published: int) -> None:
    """Wait until the sink has so many letters, or there is nothing left to send."""
    wait_until(
        lambda: sink.copies.total() >= goal or plant.settled() >= published, f"{goal} letters in the sink"
    )


def died(plant: WorkerUnderTest, count: int) -> bool:
    """Wait until the worker died; once everything is through, its point is not reached again."""
    worker = plant.process
    assert worker is not None
    wait_until(lambda: worker.poll() is not None or plant.through(count), "the worker's death")
    return worker.poll() is not None


def count_dead_letters(bootstrap: str) -> int:
    """Records on the dead-letter topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "counts"})
    _, high = consumer.get_watermark_offsets(TopicPartition(f"{TOPIC}.dlq", 0), 10)
    consumer.close()
    return int(high)
