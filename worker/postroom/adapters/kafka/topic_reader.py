"""A message of the client library, as the record it carries.

Anybody may write to a topic, so nothing in a message may end the worker: a time that is no date becomes the
first one, and headers that cannot be read make a record that says so.

Reading a topic beside its consumers: from its beginning to where it ends now, without a group.

Nothing is committed and nobody is moved: partitions are assigned by hand, and offsets are given.
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
    """The record of a message that carries no error; never raises."""
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
    """The headers, or why there are none: the library decodes their names and has no gentler answer."""
    try:
        return tuple(message.headers() or ()), ""  # type: ignore[arg-type]
    except (SystemError, UnicodeDecodeError):
        return (), HEADER_NAME_UNREADABLE


def _timestamp(milliseconds: int) -> datetime:
    """A producer may write any number there; one that is no date must not end the worker."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


ANSWER_SECONDS = 10.0


class TopicUnreadable(Exception):
    """The brokers do not answer, or refuse; the reason is its message."""


class TopicReader:
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
        """What stands in [low, high); transactions and compaction leave holes: the position says the end."""
        if low >= high:
            return
        place = TopicPartition(*where, low)
        self._consumer.assign([place])
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
        [place] = self._consumer.position([TopicPartition(*where)])
        return int(place.offset)
