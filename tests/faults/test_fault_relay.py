"""Relays that drop lines, take long, reset, refuse: what a whole worker makes of it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.delivery.scripted_relay import DROP, OK, RESET, ScriptedRelay, Wait, served
from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS
from tests.faults.results import Fault
from tests.fixtures.pipeline import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]


@contextmanager
def relaying(relay: ScriptedRelay) -> Iterator[asyncio.AbstractEventLoop]:
    """The relay, on a thread of its own; its address is 127.0.0.1 and `relay.port`."""
    ready, over, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        async with served(relay):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def states(setup: FaultEnvironment) -> dict[str, int]:
    """How many letters are in each state."""
    return dict(setup.pods[0].query("SELECT state, count(*) FROM letter GROUP BY state"))


def copies(relay: ScriptedRelay) -> int:
    """Contents that came whole, whatever was answered."""
    return len(relay.seen)


@pytest.mark.parametrize("policy", ["Resend", "Park"])
@pytest.mark.fault(13)
def test_a_line_that_drops_after_the_dot_is_a_doubt_that_follows_its_policy(
    setup: FaultEnvironment, fault: Fault, policy: str
) -> None:
    relay = ScriptedRelay({"DOT": [DROP, DROP]})
    with relaying(relay):
        pod = setup.pod(relay=f"127.0.0.1:{relay.port}", policy=policy)
        setup.start(pod)
        setup.publish(20)
        wait_until(lambda: pod.through(20), "every letter settled", PATIENCE_SECONDS)
        assert pod.end() == 0
    [[doubts]] = pod.query("SELECT sum(in_doubt_count) FROM letter")
    wanted = {"captured": 20} if policy == "Resend" else {"captured": 18, "in_doubt": 2}
    assert (states(setup), doubts) == (wanted, 2)
    assert copies(relay) == (22 if policy == "Resend" else 20)
    fault.record(f"{policy}: two lines dropped after the dot of 20 letters: {doubts} doubts, {wanted}")


@pytest.mark.fault(14)
def test_a_relay_that_takes_long_to_answer_gets_one_copy(setup: FaultEnvironment, fault: Fault) -> None:
    seconds, answer = fault.size(25, 540), asyncio.Event()  # longer than a lease and a session
    relay = ScriptedRelay({"DOT": [Wait(answer)]})
    with relaying(relay) as loop:
        pod, other = (setup.pod(relay=f"127.0.0.1:{relay.port}") for _ in range(2))
        setup.start(pod, other)
        setup.publish(20)
        wait_until(lambda: copies(relay) == 20, "all contents at the relay", PATIENCE_SECONDS)
        time.sleep(seconds)
        assert not pod.through(20)
        loop.call_soon_threadsafe(answer.set)
        setup.finish()
    [[doubts]] = pod.query("SELECT sum(in_doubt_count) FROM letter")
    assert (states(setup), doubts, copies(relay)) == ({"captured": 20}, 0, 20)
    assert not any(one.logged(b"partitions lost") or one.logged(b"lease lost") for one in setup.pods)
    fault.record(f"an answer after {seconds} s: one copy of each of 20 letters, 0 doubts, no partition lost")


@pytest.mark.fault(15)
def test_a_reset_at_each_verb_costs_no_letter(setup: FaultEnvironment, fault: Fault) -> None:
    relay = ScriptedRelay({verb: [OK, RESET] for verb in ("MAIL", "RCPT", "DATA", "DOT")})
    with relaying(relay):
        pod = setup.pod(relay=f"127.0.0.1:{relay.port}")
        setup.start(pod)
        setup.publish(40)
        setup.finish()
    [[doubts]] = pod.query("SELECT sum(in_doubt_count) FROM letter")
    assert states(setup) == {"captured": 40}
    assert doubts == 1
    assert copies(relay) == 41
    fault.record(
        f"RST at MAIL, RCPT, DATA and dot: 40 letters accepted, {copies(relay) - 40} second copy, "
        f"{doubts} doubt"
    )


@pytest.mark.fault(17)
def test_two_of_three_recipients_refused_are_three_outcomes(setup: FaultEnvironment, fault: Fault) -> None:
    relay = ScriptedRelay({"RCPT": ["550 5.1.1 no such user", OK, "550 5.1.1 no such user"]})
    with relaying(relay):
        pod = setup.pod(relay=f"127.0.0.1:{relay.port}")
        setup.start(pod)
        setup.publish(3)
        setup.finish()
    assert states(setup) == {"captured": 1, "failed": 2}
    assert len(setup.dead_letters(2)) == 2
    fault.record("two of three recipients refused: 1 accepted, 2 failed, 2 dead letters")
