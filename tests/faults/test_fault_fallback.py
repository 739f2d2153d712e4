"""Fault 18 with whole workers: their relay is dead, another profile stands by, later the relay is back."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from postroom.local.machine import free_port
from tests.delivery.scripted_relay import ScriptedRelay
from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.results import Fault
from tests.faults.test_fault_relay import relaying
from tests.fixtures.pipeline import MANIFESTS, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

OVER_SECONDS = 15.0
"""Five failures a second or so apart, a look of each worker, and the letters that were put off meanwhile."""


def smtp(port: int) -> dict[str, Any]:
    """A relay in clear on this machine."""
    return {"mode": "SMTP", "smtp": {"host": "127.0.0.1", "port": port, "tls": {"mode": "None"}}}


def covered(setup: FaultEnvironment, dead: int) -> WorkerPod:
    """A worker whose own relay is at this port, and whose fallback is the site's relay."""
    pod = setup.pod(
        **smtp(dead), fallbackRef={"name": "spare"}, circuitBreaker={"failures": 5, "resetAfter": "10s"}
    )
    spare = yaml.safe_load((MANIFESTS / "profile.yaml").read_text())
    spare["metadata"]["name"] = "spare"
    spare["spec"] |= smtp(int(setup.sink.address.rpartition(":")[2]))
    path = Path(pod.folder, "fallback.yaml")
    path.write_text(yaml.safe_dump(spare))
    pod.environment = {"POSTROOM_DELIVERY_ALLOWED": "true", "POSTROOM_FALLBACK": str(path)}
    return pod


@pytest.mark.fault(18)
def test_letters_of_a_dead_relay_leave_through_the_fallback_until_it_is_back(
    setup: FaultEnvironment, fault: Fault
) -> None:
    count, port = fault.size(200, 5000), free_port()
    pods = [covered(setup, port) for _ in range(2)]
    setup.start(*pods)
    begin = time.monotonic()
    setup.publish(200)
    setup.copies(200)
    over = time.monotonic() - begin
    setup.publish(count, "more")
    setup.copies(200 + count)
    assert all(pod.condition("circuit")[0] is False for pod in pods)
    relay = ScriptedRelay(port=port)
    with relaying(relay):
        wait_until(
            lambda: bool(relay.accepted) or not knock(setup), "the relay in use again", PATIENCE_SECONDS
        )
        wait_until(lambda: all(pod.condition("circuit")[0] is True for pod in pods), "closed circuits")
        through = setup.sink.copies.total()
        setup.publish(100, "back")
        setup.finish()
    assert setup.sink.copies.total() == through, "nothing leaves through the fallback any more"
    assert set(setup.sink.copies.values()) == {1}
    assert through + len(relay.accepted) == len(setup.produced)
    assert pods[0].query("SELECT count(*) FROM letter WHERE state = 'accepted'") == [(len(setup.produced),)]
    named = "SELECT count(*) FROM attempt WHERE result = 'accepted' AND relay = 'default/spare'"
    assert pods[0].query(named) == [(through,)]
    assert over <= OVER_SECONDS
    fault.record(
        f"relay dead, two workers, a fallback: 200 letters had left through it {over:.1f} s after the first "
        f"was published, {through} in all, each on record with its relay; then the relay was back and got "
        f"the other {len(relay.accepted)}; none lost, none doubled"
    )


def knock(setup: FaultEnvironment) -> bool:
    """One more event: only a letter finds out that a relay is back."""
    setup.publish(1, f"knock{len(setup.produced)}-")
    time.sleep(0.5)
    return True
