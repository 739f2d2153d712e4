"""Fault 4: a worker that is suspended in a transaction reads the replies after its lease has ended."""

import asyncio
import time
from typing import Any

import pytest

from postroom.adapters.ledger.leases import LEASE_SECONDS
from tests.delivery.scripted_relay import ScriptedRelay, Wait
from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.results import Fault
from tests.faults.test_fault_relay import relaying
from tests.fixtures.pipeline import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]


def rows(pod: WorkerPod) -> list[tuple[Any, ...]]:
    """What the ledger says of every letter."""
    return pod.query(
        "SELECT event_id, state, worker_epoch, in_doubt_count, replies FROM letter ORDER BY event_id"
    )


@pytest.mark.fault(4)
def test_replies_that_a_suspended_worker_reads_too_late_change_no_row_and_are_on_record(
    setup: FaultEnvironment, fault: Fault
) -> None:
    answer, count = asyncio.Event(), fault.size(90, 900)
    slow = ScriptedRelay({"DOT": [Wait(answer)] * count})
    with relaying(slow) as loop:
        sleeper, other = setup.pod(relay=f"127.0.0.1:{slow.port}"), setup.pod()
        setup.start(sleeper, other)
        setup.publish(count)
        wait_until(lambda: len(slow.seen) >= sleeper.connections, "contents on all lines", PATIENCE_SECONDS)
        sleeper.stand_still()
        stopped, standing, at_relay = time.monotonic(), sleeper.sending(), len(slow.seen)
        loop.call_soon_threadsafe(answer.set)  # what is in its sockets now waits for it to go on
        wait_until(lambda: other.through(count), "the other to take over all of it", PATIENCE_SECONDS)
        seconds, before = time.monotonic() - stopped, rows(other)
        sleeper.stand_still(still=False)
        wait_until(lambda: sleeper.logged(b"lease lost"), "the sleeper to notice", PATIENCE_SECONDS)
        wait_until(
            lambda: sleeper.figure("postroom_late_settlements_total") == at_relay, "its late answers", 60
        )
        setup.finish()
    assert seconds >= LEASE_SECONDS / 2
    assert rows(other) == before
    verdict = setup.verdict([standing])
    verdict.hold()
    assert verdict.doubled == 0, "the other sent each once"
    marked = other.query("SELECT count(*) FROM letter WHERE in_doubt_count > 0")[0][0]
    assert at_relay <= marked <= standing
    late = (
        "SELECT count(*) FROM attempt a JOIN letter l ON a.row = l.row WHERE a.worker_epoch <> l.worker_epoch"
    )
    kept = other.query(f"{late} AND a.result = 'captured'")[0][0]
    assert kept == at_relay
    fault.record(
        f"stopped with {at_relay} letters unanswered: {verdict}; the other had all settled {seconds:.0f} s "
        f"later; {at_relay} late answers changed no row, each is on record as an attempt"
    )
