"""Fault 7 on three nodes: the one that leads is killed under load, and comes back."""

import time

import pytest

from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS
from tests.faults.results import Fault
from tests.fixtures.pipeline import wait_until
from tests.fixtures.quorum import ThreeKafkas

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

BURST = 50


@pytest.mark.fault(7)
def test_one_node_of_three_that_is_killed_and_comes_back_loses_and_doubles_nothing(
    setup_of_three_nodes: FaultEnvironment, three_kafkas: ThreeKafkas, fault: Fault
) -> None:
    setup, kills, away, waits = setup_of_three_nodes, fault.size(1, 6), fault.size(4, 10), list[float]()
    pods = [setup.pod(), setup.pod()]
    setup.start(*pods)
    wait_until(
        lambda: three_kafkas.in_step(setup.topic), "three replicas of each partition", PATIENCE_SECONDS
    )
    for number in range(kills):
        setup.publish(4 * BURST, f"before{number}-")
        node = three_kafkas.leader(setup.topic)
        node.kill()
        killed = time.monotonic()
        setup.publish(BURST, f"after{number}-")
        setup.copies(len(setup.produced))
        waits.append(time.monotonic() - killed)
        while time.monotonic() < killed + away:
            setup.publish(BURST, f"load{number}-{len(setup.produced)}-")
            time.sleep(0.5)
        node.start()
        setup.publish(BURST, f"back{number}-")
        wait_until(lambda: three_kafkas.in_step(setup.topic), "the node in step again", PATIENCE_SECONDS)
    assert all(pod.runs() for pod in pods)
    setup.finish()
    assert setup.committed() == len(setup.produced)
    verdict = setup.verdict()
    verdict.hold()
    assert (verdict.doubled, set(setup.sink.copies.values())) == (0, {1})
    fault.record(
        f"the leading one of three nodes killed {kills} times under load, back after {away} s: "
        f"{verdict}; what was published after a kill had left at most {max(waits):.1f} s after it"
    )
