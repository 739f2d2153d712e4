"""Consumer lag: end offsets less positions, from the brokers.

`ConsumerLag` measures the assigned partitions of a group member, on its polling thread. While a profile is
suspended the group has no member; `BacklogMonitor` then measures all partitions against the committed
offsets.

Failure: the lag is None while no broker responds, or before the group has assigned partitions.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postroom.adapters.kafka.producers import run_in_thread
from postroom.adapters.kafka.settings import GroupMembership, consumer_settings
from postroom.connections import KafkaConnection

ANSWER_SECONDS = 1.0
MEASURE_SECONDS = 5.0


class ConsumerLag:
    """The lag of a group member on its assigned partitions."""

    def __init__(self) -> None:
        self.records: int | None = None
        self._member = False
        self._begins: dict[int, int] = {}
        """The start offset of each partition that returned no record since its assignment."""

    def on_assignment_changed(self, member: bool) -> None:
        """Reset the state after a rebalance; `member`: the group has assigned the partitions."""
        self._member, self._begins = member, {}

    def measure(self, consumer: Consumer, assigned: Sequence[TopicPartition], *, fresh: bool) -> None:
        """Measure the lag; `fresh`: request the end offsets, because the cached ones are outdated."""
        found = None
        with suppress(KafkaException):
            found = self._count(consumer, assigned, fresh) if self._member else None
        self.records = found

    def mark_unknown(self) -> None:
        """Set the lag to unknown."""
        self.records = None

    def _count(self, consumer: Consumer, assigned: Sequence[TopicPartition], fresh: bool) -> int:
        partitions = consumer.position(list(assigned)) if assigned else []
        unread = [
            partition
            for partition in partitions
            if partition.offset < 0 and partition.partition not in self._begins
        ]
        self._begins |= dict(_begins(consumer, unread))
        total = 0
        for partition in partitions:
            begin = partition.offset if partition.offset >= 0 else self._begins[partition.partition]
            total += max(0, _end(consumer, partition, fresh) - begin)
        return total


class BacklogMonitor:
    """The lag of a suspended profile on all partitions of its topic."""

    def __init__(self, kafka: KafkaConnection, topic: str, group: str) -> None:
        settings = consumer_settings(kafka, GroupMembership(group, None))
        self._settings = settings | {"allow.auto.create.topics": False}
        self._topic = topic
        self.records: int | None = None

    async def watch(self) -> None:
        """Measure the lag every `MEASURE_SECONDS` until cancelled."""
        await run_in_thread(self._watch)

    def _watch(self, cancelled: threading.Event) -> None:
        consumer = Consumer(self._settings)
        while not cancelled.is_set():
            self.records = self._measure(consumer)
            cancelled.wait(MEASURE_SECONDS)
        consumer.close()

    def _measure(self, consumer: Consumer) -> int | None:
        consumer.poll(0)  # serves the callbacks of the client, which would accumulate
        try:
            found = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
            if found.error is not None:
                return None
            partitions = [TopicPartition(self._topic, number) for number in found.partitions]
            return sum(_uncommitted(consumer, partition) for partition in _committed(consumer, partitions))
        except KafkaException:
            return None


def _uncommitted(consumer: Consumer, partition: TopicPartition) -> int:
    low, high = _marks(consumer, partition)
    return high - min(high, max(low, partition.offset))


def _begins(consumer: Consumer, partitions: Sequence[TopicPartition]) -> Iterator[tuple[int, int]]:
    """The next offset of the group in each partition; without a commit, the first offset."""
    for partition in _committed(consumer, partitions):
        yield (
            partition.partition,
            partition.offset if partition.offset >= 0 else _marks(consumer, partition)[0],
        )


def _committed(consumer: Consumer, partitions: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
    """The committed offsets; negative without a commit. Raises KafkaException."""
    try:
        found = consumer.committed(list(partitions), timeout=ANSWER_SECONDS) if partitions else []
    except KafkaException as failure:
        if failure.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
        return partitions  # a group that has never committed may not exist
    for partition in found:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return found


def _end(consumer: Consumer, partition: TopicPartition, fresh: bool) -> int:
    known = None if fresh else consumer.get_watermark_offsets(partition, cached=True)
    return known[1] if known and known[1] >= 0 else _marks(consumer, partition)[1]


def _marks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The first and the next offset of a partition. Raises KafkaException."""
    found = consumer.get_watermark_offsets(partition, timeout=ANSWER_SECONDS)
    if found is None:
        raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))
    return found
