"""Converts messages of the client library to records, and reads a topic without a consumer group.

`record_of` never raises, because no message may end the worker: an invalid timestamp becomes 1970-01-01, and
unreadable headers make a record whose `unreadable` states the reason.

`TopicReader` reads from the beginning of a topic to its current end. It assigns partitions explicitly and
commits nothing, so that it does not affect consumer groups. Failure: `TopicUnreadable`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from postroom.adapters.kafka.settings import LOG_SETTINGS
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.ports.kafka import Partition

HEADER_NAME_UNREADABLE = "a header's name is not UTF-8"

RecordHeaders = tuple[tuple[str, bytes | None], ...]


def record_of(message: Message) -> Record:
    """Convert a message without an error; never raises."""
    headers, unreadable = _record_headers(message)
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=_timestamp(message.timestamp()[1]),
        key=message.key(),
        value=message.value(),
        headers=headers,
        unreadable=unreadable,
    )


def _record_headers(message: Message) -> tuple[RecordHeaders, str]:
    """The headers, or the reason why they are unreadable: the library raises for an invalid name."""
    try:
        return tuple(message.headers() or ()), ""  # type: ignore[arg-type]
    except (SystemError, UnicodeDecodeError):
        return (), HEADER_NAME_UNREADABLE


def _timestamp(milliseconds: int) -> datetime:
    """Convert a timestamp; a producer may write any number, so an invalid one becomes 1970-01-01."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


ANSWER_SECONDS = 10.0


class TopicUnreadable(Exception):
    """The brokers do not respond, or reject the request; the message is the reason."""


class TopicReader:
    """Reads topics over one connection; use it as a context manager."""

    def __init__(self, kafka: KafkaConnection) -> None:
        settings = {
            **kafka.client_settings(),
            "client.id": "postroom-cli",
            "group.id": "postroom-cli",  # the client requires a name; it is never sent to the brokers
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            **LOG_SETTINGS,
        }
        try:
            self._consumer = Consumer(settings)
        except KafkaException as failure:
            raise TopicUnreadable(failure.args[0].str()) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def records(self, topic: str) -> Iterator[Record]:
        """All records of the topic now, partition by partition; none when the topic does not exist."""
        for number in self._partitions(topic):
            low, high = self._bounds(topic, number)
            yield from self._read((topic, number), low, high)

    def record(self, topic: str, partition: int, offset: int) -> Record | None:
        """The record at an offset; None when it was deleted."""
        if partition not in self._partitions(topic):
            return None
        low, high = self._bounds(topic, partition)
        found = self._read((topic, partition), offset, offset + 1) if low <= offset < high else iter(())
        return next((record for record in found if record.offset == offset), None)

    def _partitions(self, topic: str) -> list[int]:
        try:
            found = self._consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
        except KafkaException as failure:
            raise TopicUnreadable(failure.args[0].str()) from None
        if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicUnreadable(f"{topic}: {found.error.str()}")
        return sorted(found.partitions)

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=ANSWER_SECONDS
            )
        except KafkaException as failure:
            raise TopicUnreadable(failure.args[0].str()) from None
        return low, high

    def _read(self, where: Partition, low: int, high: int) -> Iterator[Record]:
        """The records in [low, high); the position marks the end, as compaction leaves gaps."""
        if low >= high:
            return
        start = TopicPartition(*where, low)
        self._consumer.assign([start])
        while self._position(where) < high:
            message = self._consumer.poll(ANSWER_SECONDS)
            if message is None:
                raise TopicUnreadable(f"{where[0]} was not read within {ANSWER_SECONDS:.0f} s")
            if (error := message.error()) is not None:
                raise TopicUnreadable(error.str())
            if (message.offset() or 0) >= high:
                return
            yield record_of(message)

    def _position(self, where: Partition) -> int:
        [start] = self._consumer.position([TopicPartition(*where)])
        return int(start.offset)
