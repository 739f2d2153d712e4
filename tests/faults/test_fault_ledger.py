"""A ledger that is away, has no space, or whose workers' clocks are wrong."""

import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from postroom.local.machine import free_port
from tests.faults.fault_environment import FaultEnvironment
from tests.faults.pod import PATIENCE_SECONDS, WorkerPod
from tests.faults.results import Fault
from tests.faults.verdict import judge
from tests.fixtures.kraft import ApacheKafka
from tests.fixtures.pipeline import WorkerUnderTest, events, publish, wait_until
from tests.fixtures.postgres import Server
from tests.fixtures.recording_sink import RecordingSink
from tests.worker.test_worker_process import page

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

CLOCK = """
import datetime, postroom.clock as clock
right = clock.SystemClock.now
clock.SystemClock.now = lambda self: right(self) + datetime.timedelta(hours={hours})
"""


@pytest.mark.fault(9)
def test_without_its_database_a_worker_sends_nothing_and_goes_on_when_it_is_back(
    setup: FaultEnvironment, postgres_server: Server, fault: Fault
) -> None:
    seconds, pods = fault.size(10, 60), [setup.pod(), setup.pod()]
    setup.start(*pods)
    setup.publish(600)
    setup.copies(100)
    postgres_server.stop("immediate")
    try:
        for pod in pods:
            wait_until(partial(is_unreachable, pod), "the condition")
            assert not pod.ready()
            assert pod.figure("postroom_ledger_ok") == 0
        time.sleep(2)  # what had been let through before goes out
        sent = setup.sink.copies.total()
        setup.publish(200, "w")
        time.sleep(seconds)
        assert setup.sink.copies.total() == sent
    finally:
        postgres_server.start()
    back = time.monotonic()
    wait_until(lambda: all(pod.ready() for pod in pods), "both ready again")
    ready = time.monotonic() - back
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    assert verdict.doubled == 0
    fault.record(
        f"PostgreSQL away for {seconds} s: {verdict}; none sent meanwhile; "
        f"ready {ready:.1f} s after its return"
    )


def is_unreachable(pod: WorkerPod) -> bool:
    return pod.condition("ledger") == (False, "LedgerUnreachable")


@pytest.mark.fault(11)
def test_without_space_a_worker_sends_nothing_and_goes_on_when_there_is_some(
    tmp_path: Path, apache_kafka_node: ApacheKafka, topic: str, recording_sink: RecordingSink, fault: Fault
) -> None:
    named = topic.replace("postroom.test", "postroom.default")
    plant = WorkerUnderTest(
        tmp_path / "plant", apache_kafka_node.bootstrap, recording_sink.address, topic=named, prepared=True
    ).prepare()
    address = f"127.0.0.1:{free_port()}"
    process = plant.start(POSTROOM_HTTP=address)
    try:
        wait_until(plant.is_member, "its partitions", PATIENCE_SECONDS)
        publish(plant.bootstrap, events(100, seed=1), named)
        wait_until(lambda: plant.through(100), "the first letters settled")
        log = Path(f"{plant.ledger}-wal")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
        publish(plant.bootstrap, events(500, seed=2, prefix="full"), named)

        def condition() -> dict[str, object]:
            conditions: dict[str, dict[str, object]] = json.loads(page(address, "/statusz")[1])["conditions"]
            return conditions["ledger"]

        wait_until(lambda: condition()["ok"] is False, "the condition")
        reported = condition()
        assert page(address, "/readyz")[0] == 503
        time.sleep(3)
        assert recording_sink.copies.total() == 100
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until(lambda: plant.through(600), "all letters settled")
        assert page(address, "/readyz")[0] == 200
        assert plant.end() == 0
    finally:
        if process.poll() is None:
            plant.kill()
    verdict = judge(plant, recording_sink, 600, [])
    verdict.hold()
    assert verdict.doubled == 0
    fault.record(
        f"no space for the ledger ({reported['reason']}: {reported['message']}): {verdict}; "
        "none sent meanwhile"
    )


@pytest.mark.fault(12)
def test_a_second_worker_on_a_sqlite_file_is_refused_and_the_first_goes_on_sending(
    tmp_path: Path, apache_kafka_node: ApacheKafka, topic: str, recording_sink: RecordingSink, fault: Fault
) -> None:
    named, count, tries = topic.replace("postroom.test", "postroom.default"), 0, fault.size(2, 10)
    plant = WorkerUnderTest(
        tmp_path / "plant", apache_kafka_node.bootstrap, recording_sink.address, topic=named, prepared=True
    ).prepare()
    first = plant.start()
    try:
        wait_until(plant.is_member, "its partitions", PATIENCE_SECONDS)
        for number in range(tries):
            count += publish(plant.bootstrap, events(300, seed=number, prefix=f"t{number}-"), named)
            second = plant.start()
            assert second.wait(PATIENCE_SECONDS) == 2
            assert plant.logged(b"a SQLite ledger has one worker")
            assert first.poll() is None
        wait_until(lambda: plant.through(count), "the first worker's letters", PATIENCE_SECONDS)
    finally:
        plant.process = first
        assert plant.end() == 0
    verdict = judge(plant, recording_sink, count, [])
    verdict.hold()
    assert verdict.doubled == 0
    fault.record(f"a second worker started {tries} times: refused each time, with status 2; {verdict}")


@pytest.mark.fault(23)
def test_a_worker_whose_clock_is_wrong_keeps_the_databases_time(
    setup: FaultEnvironment, fault: Fault
) -> None:
    count = fault.size(300, 3000)
    pods = [setup.pod(prelude=CLOCK.format(hours=hours)) for hours in (-1, 0, 1)]
    setup.start(*pods)
    now = datetime.now(UTC)
    soon, over = now + timedelta(seconds=10), now + timedelta(minutes=30)
    setup.produced |= {f"c{number:06}" for number in range(count)}
    publish(setup.kafka.bootstrap, timed(count, soon, over), setup.topic)
    wait_until(lambda: bool(setup.sink.copies), "the first letter", PATIENCE_SECONDS)
    early = (soon - datetime.now(UTC)).total_seconds()
    ahead = [pod.figure("postroom_clock_ahead_seconds") for pod in pods]
    assert ahead == pytest.approx([-3600, 0, 3600], abs=1)
    assert [pod.says()["clock_ahead"] for pod in pods] == pytest.approx(ahead, abs=1)
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    assert verdict.doubled == 0
    assert early < 1
    assert sum(pod.logged(b"clock of this machine is wrong") for pod in pods) == 2
    assert not any(pod.logged(b"lease lost") for pod in pods)
    fault.record(
        f"clocks an hour behind and ahead: {verdict}; none expired, none before its time, no takeover"
    )


def timed(count: int, soon: datetime, over: datetime) -> Iterator[bytes]:
    """Events that are to be sent soon and not after half an hour."""
    for value in events(count, seed=3, prefix="c"):
        event = json.loads(value) | {"not_before": soon.isoformat(), "expires_at": over.isoformat()}
        yield json.dumps(event).encode()
