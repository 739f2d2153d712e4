"""The Kafka adapter on the embedded broker: membership, watermark, rebalances, outages, dead letters."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from postroom.adapters.kafka.consumer import KafkaConsumer
from postroom.adapters.kafka.producers import KafkaDeadLetterPublisher
from postroom.adapters.kafka.settings import GroupMembership
from postroom.connections import KafkaConnection
from postroom.delivery.consumer import BatchConsumer, BatchHandler
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem
from postroom.local.broker import LocalBroker, TopicSpec, create_topics
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import Partition
from postroom.ports.ledger import DeadLetter
from tests.delivery.fakes import ignore
from tests.delivery.letters import NOON, dead_letter

pytestmark = pytest.mark.kafka

TOO_LARGE, FORBIDDEN = 10, 29
PROBLEM = Problem(Code.FIELD_MISSING, "recipient", "is required")


@dataclass
class Reader:
    """The batch consumer of a worker whose letters are settled as soon as they are received."""

    broker: LocalBroker
    topic: str
    name: str | None = "one"
    seen: list[tuple[int, int]] = field(default_factory=list)
    slow: bool = False

    def __post_init__(self) -> None:
        member = GroupMembership(f"{self.topic}.workers", self.name)
        self.events = KafkaConsumer(
            KafkaConnection(self.broker.bootstrap, creates_topics=True), self.topic, member
        )
        self.reception = BatchConsumer(self.events, BatchHandler(self.settle, ignore, lambda _: None, 5))

    async def settle(self, records: Sequence[Record]) -> AsyncIterator[Progress]:
        for record in records:
            if self.slow:
                await asyncio.sleep(0.001)
            self.seen.append((record.partition, record.offset))
            yield Progress(duplicates=[record])

    async def stop(self) -> Mapping[Partition, int]:
        offsets = await self.reception.drain()
        await self.events.stop(offsets)
        return offsets


@asynccontextmanager
async def running_reader(
    broker: LocalBroker, topic: str, name: str | None = "one", slow: bool = False
) -> AsyncIterator[Reader]:
    reader = Reader(broker, topic, name, slow=slow)
    await reader.events.start(reader.reception)
    try:
        yield reader
    finally:
        await reader.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - the state is in another thread or process
            await asyncio.sleep(0.02)


def publish(broker: LocalBroker, topic: str, count: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=partition)
    assert producer.flush(20) == 0


def make(broker: LocalBroker, topic: str, partitions: int = 1) -> None:
    create_topics(broker.bootstrap, [TopicSpec(topic, partitions, 3_600_000)])


def committed(broker: LocalBroker, topic: str, partitions: int = 1) -> list[int]:
    """The committed offsets of the group, by partition."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": f"{topic}.workers", "log_level": 0}
    consumer = Consumer(settings)
    places = [TopicPartition(topic, number) for number in range(partitions)]
    offsets = [place.offset for place in consumer.committed(places, timeout=20)]
    consumer.close()
    return offsets


def read_dead_letters(broker: LocalBroker, topic: str, count: int) -> list[Message]:
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": f"{topic}.readers", "log_level": 0}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(f"{topic}.dlq", 0, 0)])
    found: list[Message] = []
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        found += [message for message in consumer.consume(count, 0.2) if message.error() is None]
    consumer.close()
    return found


def headers_of(message: Message) -> dict[str, str]:
    headers: list[tuple[str, bytes | None]] = list(message.headers() or ())  # type: ignore[arg-type]
    return {name: (value or b"").decode() for name, value in headers}


def test_a_reader_commits_the_watermark_and_the_next_continues_from_it(
    broker: LocalBroker, topic: str
) -> None:
    async def scenario() -> None:
        make(broker, topic)
        publish(broker, topic, 300)
        async with running_reader(broker, topic) as first:
            await until(lambda: len(first.seen) == 300)
            assert first.events.connected
        assert committed(broker, topic) == [300]
        publish(broker, topic, 5)
        async with running_reader(broker, topic) as second:
            await until(lambda: len(second.seen) >= 5)
        assert second.seen == [(0, offset) for offset in range(300, 305)]

    asyncio.run(scenario())


def test_a_rebalance_loses_nothing_and_rewinds_nothing(broker: LocalBroker, topic: str) -> None:
    async def scenario() -> None:
        make(broker, topic, 4)
        for partition in range(4):
            publish(broker, topic, 300, partition)
        async with running_reader(broker, topic, "one", slow=True) as one:
            await until(lambda: len(one.seen) > 100)
            async with running_reader(broker, topic, "two", slow=True) as two:
                await until(lambda: len(two.reception.partitions) == 2)
                for partition in range(4):
                    publish(broker, topic, 100, partition)
                await until(lambda: len(set(one.seen + two.seen)) == 1600)
        everything = one.seen + two.seen
        assert set(everything) == {(partition, offset) for partition in range(4) for offset in range(400)}
        assert len(everything) == 1600
        assert committed(broker, topic, 4) == [400] * 4

    asyncio.run(scenario())


def test_reading_continues_when_a_killed_broker_is_started_again(
    tmp_path: Path, broker: LocalBroker, topic: str
) -> None:
    async def scenario(own: LocalBroker) -> None:
        make(own, topic)
        publish(own, topic, 10)
        async with running_reader(own, topic) as reader:
            await until(lambda: len(reader.seen) == 10)
            await until(lambda: committed(own, topic) == [10])
            own.kill()
            await until(lambda: reader.events.connected is False)
            own.start()
            # nothing is published meanwhile: a topic without records must not look like an outage
            await until(lambda: reader.events.connected)
            publish(own, topic, 10)
            await until(lambda: len(set(reader.seen)) == 20)
            # the broker has lost its members; they rejoin and read again what was not committed
            await until(lambda: committed(own, topic) == [20])

    with LocalBroker(tmp_path / "broker", fsync=True) as own:
        asyncio.run(scenario(own))


def test_resume_after_a_rebalance_resumes_every_partition(broker: LocalBroker, topic: str) -> None:
    async def scenario() -> None:
        make(broker, topic, 2)
        async with running_reader(broker, topic) as reader:
            await until(lambda: len(reader.reception.partitions) == 2)
            reader.events.pause()
            await until(lambda: reader.events._paused)
            reader.events._paused = None  # as after an assignment
            reader.events.resume()
            publish(broker, topic, 3)
            await until(lambda: len(reader.seen) == 3)

    asyncio.run(scenario())


def test_an_invalid_timestamp_does_not_end_the_reader(broker: LocalBroker, topic: str) -> None:
    async def scenario() -> None:
        make(broker, topic)
        producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        for timestamp in (2**62, 1, 253_402_300_800_000):
            producer.produce(topic, b"{}", timestamp=timestamp)
        assert producer.flush(20) == 0
        async with running_reader(broker, topic) as reader:
            await until(lambda: len(reader.seen) == 3)

    asyncio.run(scenario())


def test_a_dead_letter_contains_the_record_and_its_problem(broker: LocalBroker, topic: str) -> None:
    one = Record(topic, 2, 7, NOON, b"key", b"value", (("trace", b"t1"), ("empty", None)))
    asyncio.run(_publish_all(broker, [dead_letter(one, PROBLEM)]))
    message = read_dead_letters(broker, topic, 1)[0]
    assert (message.key(), message.value()) == (b"key", b"value")
    assert headers_of(message) == {
        "trace": "t1",
        "empty": "",
        "postroom_dead_letter_id": f"{topic}/2/7",
        "postroom_source": f"{topic}/2/7",
        "postroom_problem_code": "field_missing",
        "postroom_problem_field": "recipient",
        "postroom_problem": "recipient: is required",
        "postroom_at": "2026-11-23T12:00:00.000+00:00",
        "postroom_attempts": "0",
    }


async def _publish_all(broker: LocalBroker, dead_letters: Sequence[DeadLetter]) -> None:
    make(broker, f"{dead_letters[0].record.topic}.dlq")
    done = await KafkaDeadLetterPublisher(KafkaConnection(broker.bootstrap)).publish(dead_letters)
    assert list(done) == [True] * len(dead_letters)


@pytest.mark.parametrize(
    "record",
    [
        Record("", 0, 1, NOON, None, b"x" * 2_000_000),
        Record("", 0, 1, NOON, b"k" * 2_000_000, b""),
        Record("", 0, 1, NOON, None, b"", (("huge", b"h" * 2_000_000),)),
    ],
    ids=["value", "key", "headers"],
)
def test_a_record_that_is_too_large_is_published_as_its_problem(
    broker: LocalBroker, topic: str, record: Record
) -> None:
    one = Record(topic, 0, 1, NOON, record.key, record.value, record.headers)
    asyncio.run(_publish_all(broker, [dead_letter(one, PROBLEM)]))
    [message] = read_dead_letters(broker, topic, 1)
    assert message.value() is None
    assert headers_of(message)["postroom_problem_code"] == "field_missing"
    assert "too large" in headers_of(message)["postroom_value_omitted"]


def test_a_record_that_the_broker_rejects_as_too_large_is_published_without_its_value(
    broker: LocalBroker, topic: str
) -> None:
    make(broker, f"{topic}.dlq")
    broker.control("fault", keys=["Produce"], topic=f"{topic}.dlq", code=TOO_LARGE, count=1)
    asyncio.run(_publish_all(broker, [dead_letter(Record(topic, 0, 1, NOON, None, b"value"), PROBLEM)]))
    broker.control("clear")
    [message] = read_dead_letters(broker, topic, 1)
    assert message.value() is None
    assert "postroom_value_omitted" in headers_of(message)


def test_a_dead_letter_is_not_acknowledged_until_the_broker_has_it(broker: LocalBroker, topic: str) -> None:
    async def scenario() -> None:
        producer = KafkaDeadLetterPublisher(KafkaConnection(broker.bootstrap))
        one = dead_letter(Record(topic, 0, 1, NOON, None, b"value"), PROBLEM)
        make(broker, f"{topic}.dlq")
        broker.control("fault", keys=["Produce"], topic=f"{topic}.dlq", code=FORBIDDEN, count=-1)
        assert list(await producer.publish([one])) == [False]
        assert list(await producer.publish([one])) == [False]
        broker.control("clear")
        async with asyncio.timeout(20):
            while list(await producer.publish([one])) != [True]:
                pass

    asyncio.run(scenario())
    assert len(read_dead_letters(broker, topic, 1)) == 1


def test_a_member_that_another_member_replaced_ends(broker: LocalBroker, topic: str) -> None:
    """Two members with one static name: the first can never read again."""

    async def run() -> None:
        make(broker, topic)
        async with running_reader(broker, topic) as first:
            await until(lambda: first.reception.partitions)
            async with running_reader(broker, topic) as second:
                await until(lambda: second.reception.partitions)
                publish(broker, topic, 20)
                await until(lambda: len(second.seen) == 20)
                first.events.commit({(topic, 0): 1})
                with pytest.raises(KafkaException, match="fenced"):
                    await asyncio.wait_for(first.events.ended, 30)

    asyncio.run(run())
