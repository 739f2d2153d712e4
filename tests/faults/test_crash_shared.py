"""Two workers on one ledger: kill them, let one stand still, and count every letter."""

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import ProgrammingError

from postroom.local.broker import LocalBroker
from tests.delivery import kubelet
from tests.delivery.postgres_ledgers import execute
from tests.faults.verdict import judge
from tests.fixtures.pipeline import TOPIC, Plant, events, publish, wait_until
from tests.fixtures.recording_sink import RecordingSink

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

EVENTS = 900
KILLS = 6
PATIENCE_SECONDS = 240.0
"""A lease has to run out at times, and the machine may be slow."""


@dataclass(slots=True)
class Pod(Plant):
    """A worker as a pod has it, on a ledger that it shares."""

    database: str = ""
    name: str = "plant-a"

    def run(self) -> "Pod":
        """Start it with its connections Secret."""
        connections = self.folder / "connections"
        connections.mkdir(exist_ok=True)
        kubelet.write(connections, {"kafka-bootstrap-servers": self.bootstrap, "ledger-url": self.database})
        self.start(
            POSTROOM_BOOTSTRAP_SERVERS=None,
            POSTROOM_LEDGER=None,
            POSTROOM_CONNECTIONS=str(connections),
            POSTROOM_NAMESPACE="default",
            POSTROOM_POD=self.name,
        )
        return self

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return execute(self.database, sql, "postroom_default")
        except ProgrammingError as error:
            if "does not exist" in str(error.orig):
                return []
            raise

    def dotting(self) -> int:
        """Rows in `dotting` that are this worker's."""
        mine = f"SELECT generation FROM worker WHERE process LIKE '% {self.name}'"
        rows = self.query(f"SELECT count(*) FROM letter WHERE state = 'dotting' AND generation IN ({mine})")
        return int(rows[0][0]) if rows else 0


@pytest.fixture
def pods(
    tmp_path: Path, durable_broker: LocalBroker, moody_sink: RecordingSink, postgres: str
) -> Iterator[list[Pod]]:
    made = [
        Pod(tmp_path / name, durable_broker.bootstrap, moody_sink.address, database=postgres, name=name)
        for name in ("plant-a", "plant-b")
    ]
    for number, pod in enumerate(made):
        pod.prepare(topics=number == 0)
    yield made
    for pod in made:
        if pod.process is not None and pod.process.poll() is None:
            pod.process.send_signal(signal.SIGCONT)
            pod.kill()


def start(pods: list[Pod]) -> None:
    """Start both and wait until they share the partitions."""
    for pod in pods:
        pod.run()
    for pod in pods:
        wait_until(pod.is_member, f"{pod.name}'s partitions", PATIENCE_SECONDS)


def await_copies(sink: RecordingSink, goal: int) -> None:
    """Wait until the sink has so many letters."""
    wait_until(lambda: sink.copies.total() >= goal, f"{goal} letters in the sink", PATIENCE_SECONDS)


def finish(pods: list[Pod], count: int) -> None:
    """Let both run until every letter is in a final state, then end them in order."""
    wait_until(
        lambda: pods[0].through(count), f"{count} letters settled (logs: {pods[0].folder.parent})", 150
    )
    assert [pod.end() for pod in pods] == [0, 0]


def test_no_letter_is_lost_when_workers_that_share_a_ledger_are_killed_at_random(
    pods: list[Pod], moody_sink: RecordingSink, durable_broker: LocalBroker
) -> None:
    chance, killed, published = random.Random(17), list[int](), 0
    start(pods)
    for kill in range(KILLS):
        values = events(EVENTS // KILLS, seed=kill, prefix=f"k{kill}-")
        published += publish(durable_broker.bootstrap, values, TOPIC)
        await_copies(moody_sink, moody_sink.copies.total() + chance.randrange(1, EVENTS // KILLS // 2))
        victim = pods[kill % 2]
        victim.kill()
        killed.append(victim.dotting())
        if kill % 3 == 2:
            victim.name += "x"  # a pod of another name takes its place: its lease has to run out
        victim.run()
    finish(pods, published)
    verdict = judge(pods[0], moody_sink, published, killed)
    print(f"\ntwo workers, one ledger: {verdict}")
    verdict.hold()


def test_a_worker_that_stood_still_for_longer_than_its_lease_holds_nobody_up_and_sends_nothing_twice_unmarked(
    pods: list[Pod], moody_sink: RecordingSink, durable_broker: LocalBroker
) -> None:
    sleeper, other = pods
    start(pods)
    published = publish(durable_broker.bootstrap, events(EVENTS, seed=23))
    await_copies(moody_sink, EVENTS // 10)
    assert sleeper.process is not None
    sleeper.process.send_signal(signal.SIGSTOP)
    stopped, standing = time.monotonic(), sleeper.dotting()
    wait_until(lambda: other.through(published), "the other to take over all of it", PATIENCE_SECONDS)
    seconds = time.monotonic() - stopped
    sleeper.process.send_signal(signal.SIGCONT)
    wait_until(lambda: sleeper.logged(b"lease lost"), "the sleeper to notice", PATIENCE_SECONDS)
    finish(pods, published)
    verdict = judge(other, moody_sink, published, [standing])
    print(f"\none of two workers stood still: {verdict}; the other had all settled after {seconds:.0f} s")
    verdict.hold()
