"""Brokers that go and come back, topics that are made again, records that are no events."""

import time

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from postroom.local.broker import TopicSpec, create_topics
from tests.faults.fault_environment import FaultEnvironment, header
from tests.faults.pod import PATIENCE_SECONDS
from tests.faults.results import Fault
from tests.fixtures.pipeline import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

POD_MIB = 512
"""The memory of a worker's pod by default."""


@pytest.mark.fault(7)
def test_a_broker_that_goes_and_comes_back_is_read_on(setup: FaultEnvironment, fault: Fault) -> None:
    seconds, pod = fault.size(10, 60), setup.pod()
    setup.start(pod)
    setup.publish(300)
    setup.copies(50)
    setup.kafka.kill()
    try:
        wait_until(lambda: pod.condition("kafka") == (False, "BrokerUnreachable"), "the condition", 60)
        assert not pod.ready()
        time.sleep(seconds)
    finally:
        setup.kafka.start()
    back = time.monotonic()
    wait_until(pod.ready, "ready again", PATIENCE_SECONDS)
    setup.publish(100, "after")
    setup.copies(len(setup.produced))
    resumed = time.monotonic() - back
    assert pod.runs()
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    assert verdict.doubled == 0
    assert resumed < 30
    fault.record(
        f"Apache Kafka killed, back after {seconds} s: {verdict}; all sent {resumed:.1f} s after its return, "
        "by the same process"
    )


@pytest.mark.fault(20)
def test_a_record_that_cannot_be_read_blocks_no_other_record(setup: FaultEnvironment, fault: Fault) -> None:
    pod = setup.pod()
    setup.start(pod)
    times = []
    for turn, bad in enumerate(([], [], [b"not json", b"\xff\xfe", b"[" * 100_000] * 3)):
        begin = time.monotonic()
        setup.publish_raw(bad)
        setup.publish(60, f"n{turn}-")
        setup.copies(len(setup.produced))
        times.append(time.monotonic() - begin)
    late = times[2] - times[1]
    buried = setup.dead_letters(9)
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    codes = sorted({header(one, "postroom_problem_code") for one in buried})
    assert codes
    assert late < 1
    fault.record(
        f"9 unreadable records at the head: {verdict}; neighbours {max(0.0, late):.2f} s late; "
        f"{', '.join(codes)}"
    )


@pytest.mark.fault(22)
def test_an_event_of_30_mb_is_a_dead_letter_and_no_flood(setup: FaultEnvironment, fault: Fault) -> None:
    pod, admin = setup.pod(), AdminClient({"bootstrap.servers": setup.kafka.bootstrap, "log_level": 0})
    wide = ConfigEntry("max.message.bytes", "40000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, setup.topic, incremental_configs=[wide])
    admin.incremental_alter_configs([resource])[resource].result(30)
    setup.start(pod)
    setup.publish_raw([b'{"message_id": "big", "data": "' + b"x" * 30_000_000 + b'"}'])
    setup.publish(100)
    [buried] = setup.dead_letters(1)
    setup.copies(100)
    most = pod.memory()
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    code = header(buried, "postroom_problem_code")
    assert code
    assert most < POD_MIB
    fault.record(f"an event of 30 MB: dead letter {code}; the worker had at most {most} MiB; {verdict}")


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.fault(8)
def test_a_topic_that_is_made_again_is_read_from_its_beginning(
    setup: FaultEnvironment, fault: Fault, at_once: bool
) -> None:
    pod, admin = setup.pod(), AdminClient({"bootstrap.servers": setup.kafka.bootstrap, "log_level": 0})
    setup.start(pod)
    setup.publish(60)
    wait_until(lambda: pod.through(60) and setup.committed() == 60, "the first letters committed")
    admin.delete_topics([setup.topic])[setup.topic].result(30)
    if not at_once:
        wait_until(
            lambda: pod.condition("kafka") == (False, "TopicMissing"), "the condition", PATIENCE_SECONDS
        )
    made = TopicSpec(setup.topic, 3, 86_400_000)
    wait_until(lambda: create_topics(setup.kafka.bootstrap, [made]) != [], "the topic made again")
    again = time.monotonic()
    setup.publish(600, "new")
    wait_until(lambda: pod.through(660), f"the new topic's letters (log: {pod.folder})", PATIENCE_SECONDS)
    seconds = time.monotonic() - again
    setup.finish()
    verdict = setup.verdict()
    verdict.hold()
    assert verdict.doubled == 0
    fault.record(
        f"topic deleted and made again {'at once' if at_once else 'later'}: {verdict}; "
        f"all of the new one settled after {seconds:.0f} s"
    )
