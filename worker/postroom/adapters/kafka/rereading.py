"""Reading a topic beside its consumers: from its beginning to where it ends now, without a group.

Nothing is committed and nobody is moved: partitions are assigned by hand, and offsets are given.
"""

from collections.abc import Iterator
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postroom.adapters.kafka.reading import record_of
from postroom.adapters.kafka.settings import QUIET
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.ports.events import Partition

ANSWER_SECONDS = 10.0


class Unreadable(Exception):
    """The brokers do not answer, or refuse; the reason is its message."""


class Reader:
    """One connection; use it as a context manager."""

    def __init__(self, kafka: KafkaConnection) -> None:
        settings = {
            **kafka.client_settings(),
            "client.id": "postroom-desk",
            "group.id": "postroom-desk",  # the client wants a name; it is never used at the brokers
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            **QUIET,
        }
        try:
            self._consumer = Consumer(settings)
        except KafkaException as failure:
            raise Unreadable(failure.args[0].str()) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def records(self, topic: str) -> Iterator[Record]:
        """Every record that the topic holds now, partition by partition; none where there is no topic."""
        for number in self._partitions(topic):
            low, high = self._bounds(topic, number)
            yield from self._read((topic, number), low, high)

    def record(self, topic: str, partition: int, offset: int) -> Record | None:
        """The record at a place; None where it is gone."""
        if partition not in self._partitions(topic):
            return None
        low, high = self._bounds(topic, partition)
        found = self._read((topic, partition), offset, offset + 1) if low <= offset < high else iter(())
        return next((one for one in found if one.offset == offset), None)

    def _partitions(self, topic: str) -> list[int]:
        try:
            found = self._consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
        except KafkaException as failure:
            raise Unreadable(failure.args[0].str()) from None
        if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Unreadable(f"{topic}: {found.error.str()}")
        return sorted(found.partitions)

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=ANSWER_SECONDS
            )
        except KafkaException as failure:
            raise Unreadable(failure.args[0].str()) from None
        return low, high

    def _read(self, where: Partition, low: int, high: int) -> Iterator[Record]:
        """What stands in [low, high); transactions and compaction leave holes: the position says the end."""
        if low >= high:
            return
        place = TopicPartition(*where, low)
        self._consumer.assign([place])
        while self._position(where) < high:
            message = self._consumer.poll(ANSWER_SECONDS)
            if message is None:
                raise Unreadable(f"{where[0]} was not read within {ANSWER_SECONDS:.0f} s")
            if (error := message.error()) is not None:
                raise Unreadable(error.str())
            if (message.offset() or 0) >= high:
                return
            yield record_of(message)

    def _position(self, where: Partition) -> int:
        [place] = self._consumer.position([TopicPartition(*where)])
        return int(place.offset)
