"""Fault 6: workers join and leave without a pause, and partitions move with letters under way."""

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.results import Fault
from tests.fixtures.pipeline import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

CHANGE_SECONDS = 3.0
BURST_SECONDS = 0.25
BURST = 12
"""Events in each burst: about fifty a second, so that letters are under way at every change."""


@dataclass(slots=True)
class Storm:
    """One worker that stays, and others that come and go, each change as soon as its time has come."""

    away: deque[WorkerPod]
    here: deque[WorkerPod] = field(default_factory=deque)
    leaving: list[WorkerPod] = field(default_factory=list)
    joins: int = 0
    leaves: int = 0

    def change(self) -> None:
        """Stop the oldest member in order; where there is no member yet, start the next pod."""
        self._see_off()
        if self.leaves < self.joins and self.here and self.here[0].is_member():
            gone = self.here.popleft()
            gone.ask_to_end()
            self.leaving.append(gone)
            self.leaves += 1
        elif self.away:
            self.here.append(self.away.popleft().run())
            self.joins += 1

    def _see_off(self) -> None:
        for pod in [pod for pod in self.leaving if not pod.runs()]:
            assert pod.end() == 0
            self.leaving.remove(pod)
            self.away.append(pod)

    def settle(self) -> None:
        """Wait until every leaving pod has ended and every present pod is a member."""
        wait_until(lambda: not any(pod.runs() for pod in self.leaving), "the last to leave", PATIENCE_SECONDS)
        self._see_off()
        wait_until(lambda: all(pod.is_member() for pod in self.here), "the last to join", PATIENCE_SECONDS)


@pytest.mark.fault(6)
def test_workers_that_join_and_leave_without_a_pause_lose_and_double_nothing(
    setup: FaultEnvironment, fault: Fault
) -> None:
    seconds = fault.size(24, 120)
    steady, *others = (setup.pod() for _ in range(4))
    setup.start(steady)
    storm, looks, bursts = Storm(deque(others)), [setup.offsets()], 0
    begin = time.monotonic()
    changed = begin - CHANGE_SECONDS
    while time.monotonic() < begin + seconds:
        if time.monotonic() >= changed + CHANGE_SECONDS:
            changed = time.monotonic()
            storm.change()
        setup.publish(BURST, f"s{bursts}-")
        bursts += 1
        looks.append(setup.offsets())
        time.sleep(BURST_SECONDS)
    storm.settle()
    setup.finish()
    looks.append(setup.offsets())
    verdict = setup.verdict()
    verdict.hold()
    assert (verdict.doubled, set(setup.sink.copies.values())) == (0, {1})
    assert setup.committed() == len(setup.produced)
    for before, after in pairwise(looks):
        assert all(after[place] >= offset for place, offset in before.items()), (before, after)
    moves = sum(pod.count_logged(b"partitions revoked") for pod in setup.pods)
    assert not any(pod.count_logged(b"partitions lost") for pod in setup.pods)
    assert storm.joins >= storm.leaves >= seconds // CHANGE_SECONDS // 4
    assert moves > storm.leaves // 2, "a storm that moves nothing shows nothing"
    fault.record(
        f"{storm.joins} joins and {storm.leaves} leaves in {seconds} s, partitions taken away {moves} times: "
        f"{verdict}; no offset went back in {len(looks)} looks"
    )
