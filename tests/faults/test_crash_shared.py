"""Two workers on one ledger: kill them, let one stand still, and count every letter."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.adapters.ledger.leases import LEASE_SECONDS
from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.results import Fault
from tests.faults.verdict import judge
from tests.fixtures.kraft import ApacheKafka
from tests.fixtures.pipeline import events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

EVENTS = 900
EVENTS_A_KILL = 150


@pytest.fixture
def pods(
    tmp_path: Path, apache_kafka_node: ApacheKafka, failing_sink: RecordingSink, postgres: str, topic: str
) -> Iterator[list[WorkerPod]]:
    """Two workers on one ledger, over Apache Kafka as wherever there is more than one."""
    kafka, named = apache_kafka_node.bootstrap, topic.replace("postroom.test", "postroom.default")
    made = [
        WorkerPod(tmp_path / name, kafka, failing_sink.address, topic=named, database=postgres, name=name)
        for name in ("plant-a", "plant-b")
    ]
    for number, pod in enumerate(made):
        pod.prepare(topics=number == 0)
    yield made
    for pod in made:
        if pod.runs():
            pod.stand_still(still=False)
            pod.kill()


def start(pods: list[WorkerPod]) -> None:
    """Start both and wait until they share the partitions."""
    for pod in pods:
        pod.run()
    for pod in pods:
        wait_until(pod.is_member, f"{pod.name}'s partitions", PATIENCE_SECONDS)


def await_copies(sink: RecordingSink, goal: int) -> None:
    """Wait until the sink has so many letters."""
    wait_until(lambda: sink.copies.total() >= goal, f"{goal} letters in the sink", PATIENCE_SECONDS)


def finish(pods: list[WorkerPod], count: int) -> None:
    """Let both run until every letter is in a final state, then end them in order."""
    wait_until(
        lambda: pods[0].through(count), f"{count} letters settled (logs: {pods[0].folder.parent})", 150
    )
    assert [pod.end() for pod in pods] == [0, 0]


@pytest.mark.fault(2)
def test_no_letter_is_lost_when_workers_that_share_a_ledger_are_killed_at_random(
    pods: list[WorkerPod], failing_sink: RecordingSink, fault: Fault
) -> None:
    chance, killed, published = random.Random(17), list[int](), 0
    start(pods)
    for kill in range(fault.size(3, 12)):
        values = events(EVENTS_A_KILL, seed=kill, prefix=f"k{kill}-")
        published += publish(pods[0].bootstrap, values, pods[0].topic)
        await_copies(failing_sink, failing_sink.copies.total() + chance.randrange(1, EVENTS_A_KILL // 2))
        victim = pods[kill % 2]
        victim.kill()
        killed.append(victim.sending())
        if kill % 3 == 2:
            victim.name += "x"  # a pod of another name takes its place: its lease has to run out
        victim.run()
    finish(pods, published)
    verdict = judge(pods[0], failing_sink, published, killed)
    verdict.hold()
    fault.record(f"two workers that share a ledger, killed in turn: {verdict}")


@pytest.mark.fault(4)
def test_a_suspended_worker_blocks_no_other_worker_and_doubles_nothing_unmarked(
    pods: list[WorkerPod], failing_sink: RecordingSink, fault: Fault
) -> None:
    sleeper, other = pods
    start(pods)
    published = publish(sleeper.bootstrap, events(EVENTS, seed=23), sleeper.topic)
    await_copies(failing_sink, EVENTS // 10)
    sleeper.stand_still()
    stopped, standing = time.monotonic(), sleeper.sending()
    wait_until(lambda: other.through(published), "the other to take over all of it", PATIENCE_SECONDS)
    seconds = time.monotonic() - stopped
    leases = fault.size(1, 2)
    wait_until(lambda: time.monotonic() - stopped > leases * LEASE_SECONDS, "its leases", PATIENCE_SECONDS)
    sleeper.stand_still(still=False)
    wait_until(lambda: sleeper.logged(b"lease lost"), "the sleeper to notice", PATIENCE_SECONDS)
    late = sleeper.figure("postroom_late_settlements_total")
    finish(pods, published)
    verdict = judge(other, failing_sink, published, [standing])
    verdict.hold()
    fault.record(
        f"stopped for {leases} times its lease: {verdict}; the other had all settled {seconds:.0f} s later; "
        f"{late:.0f} late answers changed no row"
    )
