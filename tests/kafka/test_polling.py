"""The polling thread, on a scripted consumer: back-pressure, and rebalances that fail."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from postroom.adapters.kafka import consumer as events
from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.settings import GroupMembership, consumer_settings
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.ports.kafka import Partition
from tests.delivery.scripted_consumer import ScriptedConsumer

NOWHERE = KafkaConnection("nowhere:9092")


@dataclass
class Listener:
    """A receiver that records its calls."""

    count: int = 0
    assignments: list[Partition] = field(default_factory=list)
    gone: list[Partition] = field(default_factory=list)

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self.assignments += partitions

    def received(self, records: Sequence[Record]) -> None:
        self.count += len(records)

    async def revoked(self, _: Sequence[Partition]) -> Mapping[Partition, int]:
        return {}

    def lost(self, partitions: Sequence[Partition]) -> None:
        self.gone += partitions


class SameTopic:
    """A topic id watcher without a client: a real client blocks for five seconds when it is destroyed, in the
    test that happens to run then."""

    def __init__(self, _: KafkaConnection, topic: str) -> None: ...

    def changed(self) -> bool:
        return False

    def close(self) -> None:
        """There is no client to close."""


@pytest.fixture(autouse=True)
def same_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TopicIdWatcher", SameTopic)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> ScriptedConsumer:
    scripted = ScriptedConsumer()
    monkeypatch.setattr(events, "Consumer", lambda _: scripted)
    return scripted


@asynccontextmanager
async def polling(listener: Listener, revoke_timeout: float = 60) -> AsyncIterator[KafkaConsumer]:
    source = KafkaConsumer(NOWHERE, "t", GroupMembership("workers", "one", revoke_timeout))
    await source.start(listener)
    try:
        yield source
    finally:
        await source.stop({})


def wait_here(condition: Callable[[], object]) -> None:
    """Wait without running the event loop, which is therefore busy."""
    never, end = threading.Event(), time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        never.wait(0.005)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the state is in another thread
            await asyncio.sleep(0.005)


def test_a_busy_loop_receives_at_most_two_batches(consumer: ScriptedConsumer) -> None:
    async def scenario() -> None:
        listener = Listener()
        async with polling(listener):
            await until(lambda: listener.count)
            wait_here(lambda: consumer.paused == {0})
            held = consumer.handed_out
            assert held - listener.count == 2 * events.BATCH_RECORDS
            await until(lambda: listener.count > held)

    asyncio.run(scenario())


def test_a_partition_assigned_while_the_loop_is_busy_is_paused_too(consumer: ScriptedConsumer) -> None:
    async def scenario() -> None:
        listener = Listener()
        async with polling(listener):
            await until(lambda: listener.count)
            wait_here(lambda: consumer.paused == {0})
            consumer.rebalance.append(("on_assign", [TopicPartition("t", 1)]))
            await until(lambda: ("t", 1) in listener.assignments)
            wait_here(lambda: consumer.paused == {0, 1})
            await until(lambda: not consumer.paused)

    asyncio.run(scenario())


def test_the_pause_of_the_receiver_remains_when_the_loop_is_free_again(consumer: ScriptedConsumer) -> None:
    async def scenario() -> None:
        listener = Listener()
        async with polling(listener) as source:
            await until(lambda: listener.count)
            wait_here(lambda: consumer.paused == {0})
            source.pause()
            await until(lambda: listener.count == consumer.handed_out)
            held = consumer.handed_out
            polls = consumer.polls
            await until(lambda: consumer.polls > polls + 3)
            assert (consumer.paused, consumer.handed_out) == ({0}, held)
            source.resume()
            await until(lambda: listener.count > held)

    asyncio.run(scenario())


def test_a_start_that_failed_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG))

    monkeypatch.setattr(events, "Consumer", refuse)

    async def scenario() -> None:
        source = KafkaConsumer(NOWHERE, "t", GroupMembership("workers", "one"))
        with pytest.raises(KafkaException):
            await source.start(Listener())
        await source.stop({})

    asyncio.run(scenario())


def test_a_consumer_that_never_started_can_be_stopped() -> None:
    asyncio.run(KafkaConsumer(NOWHERE, "t", GroupMembership("workers", "one")).stop({}))


def test_a_partition_whose_letters_are_not_settled_is_lost_and_polling_continues(
    consumer: ScriptedConsumer,
) -> None:
    class Undecided(Listener):
        source: KafkaConsumer

        async def revoked(self, _: Sequence[Partition]) -> Mapping[Partition, int]:
            self.source.commit({("t", 0): 5})
            await asyncio.Event().wait()
            return {("t", 0): 9}

    consumer.endless = False
    listener = Undecided()

    async def scenario() -> None:
        async with polling(listener, revoke_timeout=0.05) as source:
            listener.source = source
            consumer.rebalance.append(("on_revoke", [TopicPartition("t", 0)]))
            await until(lambda: listener.gone)
            consumer.rebalance.append(("on_assign", [TopicPartition("t", 1)]))
            await until(lambda: ("t", 1) in listener.assignments)
            assert not source.ended.done()

    asyncio.run(scenario())
    assert listener.gone == [("t", 0)]
    assert consumer.committed == []


def test_a_long_revoke_timeout_raises_the_poll_interval() -> None:
    usual, longer = (consumer_settings(NOWHERE, GroupMembership("g", "i", at)) for at in (60, 600))
    assert usual["max.poll.interval.ms"] == 300_000
    assert longer["max.poll.interval.ms"] > 600_000


def test_a_fatal_error_of_the_client_ends_the_polling(consumer: ScriptedConsumer) -> None:
    """The error comes through the callback; the error in place of a record is tested on a real broker."""

    async def run() -> None:
        source = KafkaConsumer(NOWHERE, "t", GroupMembership("workers", "one"))
        await source.start(Listener())
        source._on_error(KafkaError(KafkaError.FENCED_INSTANCE_ID, "fenced", fatal=True))
        with pytest.raises(KafkaException, match="fenced"):
            await asyncio.wait_for(source.ended, 5)
        await source.stop({})

    asyncio.run(run())
