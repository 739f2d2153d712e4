"""Stopping a group member: it leaves the group at once, and does not wait for an unreachable broker."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.adapters.kafka.settings import GroupMembership, consumer_settings
from postroom.connections import KafkaConnection
from postroom.local.broker import LocalBroker
from tests.fixtures import pipeline
from tests.fixtures.kraft import ApacheKafka
from tests.fixtures.pipeline import WorkerUnderTest, wait_until
from tests.fixtures.recording_sink import RecordingSink
from tests.kafka.test_consumer import Reader, committed, make, publish, running_reader, until

pytestmark = pytest.mark.kafka

SOON = 3.0
SESSION_SECONDS = (
    consumer_settings(KafkaConnection("x"), GroupMembership("g", None))["session.timeout.ms"] / 1000
)


async def stopped_in(reader: Reader) -> float:
    begin = time.monotonic()
    await reader.stop()
    return time.monotonic() - begin


def kill(own: LocalBroker) -> None:
    own.kill()


def freeze(own: LocalBroker) -> None:
    """Stop the broker process, as a network that drops all packets: connections stay open."""
    assert own.pid is not None
    os.kill(own.pid, signal.SIGSTOP)


def thaw(own: LocalBroker) -> None:
    if own.pid is not None:
        os.kill(own.pid, signal.SIGCONT)


@pytest.mark.parametrize("name", ["one", None], ids=["static", "dynamic"])
@pytest.mark.parametrize("lose", [kill, freeze])
def test_stop_does_not_wait_for_an_unreachable_broker(
    topic: str, lose: Callable[[LocalBroker], None], name: str | None
) -> None:
    async def scenario(own: LocalBroker) -> None:
        make(own, topic)
        publish(own, topic, 50)
        reader = Reader(own, topic, name)
        await reader.events.start(reader.reception)
        await until(lambda: len(reader.seen) == 50)
        lose(own)
        assert await stopped_in(reader) < SOON

    with LocalBroker() as own:
        try:
            asyncio.run(scenario(own))
        finally:
            thaw(own)


def test_stop_does_not_wait_for_commits_to_an_unreachable_broker(topic: str) -> None:
    """The library retries these commits before it closes, which took more than six minutes."""

    async def scenario(own: LocalBroker) -> None:
        make(own, topic)
        publish(own, topic, 50)
        reader = Reader(own, topic)
        await reader.events.start(reader.reception)
        await until(lambda: len(reader.seen) == 50)
        reader.events.commit({(topic, 0): 40})
        own.kill()
        await until(lambda: reader.events.connected is False)
        reader.events.commit({(topic, 0): 50})
        assert await stopped_in(reader) < SOON

    with LocalBroker() as own:
        asyncio.run(scenario(own))


def test_stop_commits_and_the_partitions_are_reassigned_at_once(broker: LocalBroker, topic: str) -> None:
    async def scenario() -> None:
        make(broker, topic, 4)
        async with running_reader(broker, topic, None) as one, running_reader(broker, topic, None) as two:
            await until(lambda: len(one.reception.partitions) == len(two.reception.partitions) == 2)
            for partition in range(4):
                publish(broker, topic, 50, partition)
            await until(lambda: len(set(one.seen + two.seen)) == 200)
            assert await stopped_in(two) < SOON
            begin = time.monotonic()
            kept = {number for _, number in one.reception.partitions}
            offsets = committed(broker, topic, 4)
            assert {offsets[number] for number in range(4) if number not in kept} == {50}
            await until(lambda: len(one.reception.partitions) == 4)
            assert time.monotonic() - begin < SESSION_SECONDS / 2

    asyncio.run(scenario())


def test_a_worker_stops_while_apache_kafka_is_unreachable_and_continues_from_its_ledger(
    apache_kafka_node: ApacheKafka, recording_sink: RecordingSink, tmp_path: Path, topic: str
) -> None:
    topic = f"postroom.default.{topic}"
    plant = WorkerUnderTest(
        tmp_path, apache_kafka_node.bootstrap, recording_sink.address, topic=topic
    ).prepare()
    pipeline.publish(plant.bootstrap, pipeline.events(200, seed=1), topic)
    plant.start()
    wait_until(lambda: plant.through(200), "every letter settled")
    apache_kafka_node.kill()
    try:
        begin = time.monotonic()
        assert plant.end() == 0
        seconds = time.monotonic() - begin
    finally:
        apache_kafka_node.start()
    assert seconds < SESSION_SECONDS / 2
    assert plant.logged(b"no broker responds")
    pipeline.publish(plant.bootstrap, pipeline.events(50, seed=2, prefix="z"), topic)
    plant.start()
    wait_until(lambda: plant.through(250), "every letter settled")
    assert plant.end() == 0
    assert set(recording_sink.copies.values()) == {1}
    assert recording_sink.copies.total() == 250
