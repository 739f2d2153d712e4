"""Letters per second and CPU per letter of the whole worker, beside smtp-source, in turn, in one run.

The worker's work: consume, strict parse, schema, render, compose, claim, fence, send, settle, commit. The
events are published once the worker is up, so that all of its work on them counts and its start does not:
counting from the middle of a backlog misses what was parsed and rendered ahead. What smtp-source does is
the sending alone: the limit.
"""

import time
from pathlib import Path
from statistics import median

import pytest

from postroom.local.broker import LocalBroker
from tests.fixtures.pipeline import WorkerUnderTest, events, publish, wait_until
from tests.fixtures.postfix import source_cost

pytestmark = pytest.mark.bench

LETTERS = 20_000
CONNECTIONS = 64
ROUNDS = 3


def test_the_worker_beside_smtp_source(tmp_path: Path, smtp_sink: int) -> None:
    ours: list[float] = []
    rates: list[float] = []
    theirs: list[float] = []
    for turn in range(ROUNDS):
        with LocalBroker() as broker:
            plant = WorkerUnderTest(tmp_path / str(turn), broker.bootstrap, f"127.0.0.1:{smtp_sink}")
            plant.connections = CONNECTIONS
            plant.prepare()
            cost, rate = run(plant, turn)
        ours.append(cost)
        rates.append(rate)
        theirs.append(source_cost(smtp_sink, LETTERS, 9_000, CONNECTIONS))
        print(
            f"\nround {turn + 1}: worker {cost:.0f} µs, {rate:.0f} letters/s; smtp-source {theirs[-1]:.0f} µs"
        )
    print(
        f"median: worker {median(ours):.0f} µs a letter, {median(rates):.0f} letters/s; "
        f"smtp-source {median(theirs):.0f} µs; ratio {median(ours) / median(theirs):.1f}"
    )


def run(plant: WorkerUnderTest, seed: int) -> tuple[float, float]:
    """Microseconds of CPU a letter, letters per second."""
    process = plant.start()
    wait_until(plant.is_member, "the worker's partitions")
    cpu, begun = cpu_seconds(process.pid), time.monotonic()
    publish(plant.bootstrap, events(LETTERS, seed))
    wait_until(lambda: plant.settled() >= LETTERS, "all letters", 180)
    spent, took = cpu_seconds(process.pid) - cpu, time.monotonic() - begun
    assert plant.end() == 0
    return spent / LETTERS * 1e6, LETTERS / took


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5): fields 14 and 15, in hundredths)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
