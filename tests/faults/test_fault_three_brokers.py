"""Fault 7 on three nodes: the one that leads is killed under load, and comes back."""

import time

import pytest

from tests.faults.figures import Fault
from tests.faults.pod import PATIENCE_SECONDS
from tests.faults.site import Site
from tests.fixtures.pipeline import wait_until
from tests.fixtures.quorum import ThreeKafkas

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

BURST = 50


@pytest.mark.fault(7)
def test_one_node_of_three_that_is_killed_and_comes_back_loses_and_doubles_nothing(
    site_of_three: Site, three_kafkas: ThreeKafkas, fault: Fault
) -> None:
    site, kills, away, waits = site_of_three, fault.size(1, 6), fault.size(4, 10), list[float]()
    pods = [site.pod(), site.pod()]
    site.start(*pods)
    wait_until(lambda: three_kafkas.in_step(site.topic), "three replicas of each partition", PATIENCE_SECONDS)
    for number in range(kills):
        site.publish(4 * BURST, f"before{number}-")
        node = three_kafkas.leader(site.topic)
        node.kill()
        killed = time.monotonic()
        site.publish(BURST, f"after{number}-")
        site.copies(len(site.produced))
        waits.append(time.monotonic() - killed)
        while time.monotonic() < killed + away:
            site.publish(BURST, f"load{number}-{len(site.produced)}-")
            time.sleep(0.5)
        node.start()
        site.publish(BURST, f"back{number}-")
        wait_until(lambda: three_kafkas.in_step(site.topic), "the node in step again", PATIENCE_SECONDS)
    assert all(pod.runs() for pod in pods)
    site.finish()
    assert site.committed() == len(site.produced)
    verdict = site.verdict()
    verdict.hold()
    assert (verdict.doubled, set(site.sink.copies.values())) == (0, {1})
    fault.figures(
        f"the leading one of three nodes killed {kills} times under load, back after {away} s: "
        f"{verdict}; what was published after a kill had left at most {max(waits):.1f} s after it"
    )
