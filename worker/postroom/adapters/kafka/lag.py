"""How many records wait: where partitions end less where they are read on, as the brokers say it.

A member of the group asks on its polling thread, about what is assigned to it. While the profile is suspended
nobody is a member; then all partitions are asked about, by what the group has committed. None: nobody can
tell, for no broker answers, or the group has not said yet what is assigned.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from postroom.adapters.kafka.producers import run_in_thread
from postroom.adapters.kafka.settings import GroupMembership, consumer_settings
from postroom.connections import KafkaConnection

ANSWER_SECONDS = 1.0
LOOK_SECONDS = 5.0


class ConsumerLag:
    """A member's."""

    def __init__(self) -> None:
        self.records: int | None = None
        self._member = False
        self._begins: dict[int, int] = {}
        """Offsets, by partition, of those that have given nothing since they were assigned."""

    def on_assignment_changed(self, member: bool) -> None:
        """Something else is assigned; `member`: and the group has said what."""
        self._member, self._begins = member, {}

    def measure(self, consumer: Consumer, assigned: Sequence[TopicPartition], *, fresh: bool) -> None:
        """Ask; `fresh`: the ends that came with the last records are too old to be told."""
        found = None
        with suppress(KafkaException):
            found = self._count(consumer, assigned, fresh) if self._member else None
        self.records = found

    def mark_unknown(self) -> None:
        """Nobody can tell."""
        self.records = None

    def _count(self, consumer: Consumer, assigned: Sequence[TopicPartition], fresh: bool) -> int:
        places = consumer.position(list(assigned)) if assigned else []
        silent = [one for one in places if one.offset < 0 and one.partition not in self._begins]
        self._begins |= dict(_begins(consumer, silent))
        total = 0
        for place in places:
            begin = place.offset if place.offset >= 0 else self._begins[place.partition]
            total += max(0, _end(consumer, place, fresh) - begin)
        return total


class BacklogMonitor:
    """A suspended profile's, of all its partitions."""

    def __init__(self, kafka: KafkaConnection, topic: str, group: str) -> None:
        settings = consumer_settings(kafka, GroupMembership(group, None))
        self._settings = settings | {"allow.auto.create.topics": False}
        self._topic = topic
        self.records: int | None = None

    async def watch(self) -> None:
        """Look every few seconds until cancelled."""
        await run_in_thread(self._watch)

    def _watch(self, called_off: threading.Event) -> None:
        consumer = Consumer(self._settings)
        while not called_off.is_set():
            self.records = self._look(consumer)
            called_off.wait(LOOK_SECONDS)
        consumer.close()

    def _look(self, consumer: Consumer) -> int | None:
        consumer.poll(0)  # what the client has to report goes, or it would pile up
        try:
            found = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
            if found.error is not None:
                return None
            places = [TopicPartition(self._topic, number) for number in found.partitions]
            return sum(_uncommitted(consumer, place) for place in _committed(consumer, places))
        except KafkaException:
            return None


def _uncommitted(consumer: Consumer, place: TopicPartition) -> int:
    low, high = _marks(consumer, place)
    return high - min(high, max(low, place.offset))


def _begins(consumer: Consumer, places: Sequence[TopicPartition]) -> Iterator[tuple[int, int]]:
    """Where the group reads on: at what is there first where it has committed nothing."""
    for place in _committed(consumer, places):
        yield place.partition, place.offset if place.offset >= 0 else _marks(consumer, place)[0]


def _committed(consumer: Consumer, places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
    """With a negative offset where nothing is committed; raises KafkaException."""
    try:
        found = consumer.committed(list(places), timeout=ANSWER_SECONDS) if places else []
    except KafkaException as failure:
        if failure.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
        return places  # a group that has never read anything need not be there
    for place in found:
        if place.error is not None:
            raise KafkaException(place.error)
    return found


def _end(consumer: Consumer, place: TopicPartition, fresh: bool) -> int:
    known = None if fresh else consumer.get_watermark_offsets(place, cached=True)
    return known[1] if known and known[1] >= 0 else _marks(consumer, place)[1]


def _marks(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """The first offset that is there and the next one to come; raises KafkaException."""
    found = consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS)
    if found is None:
        raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))
    return found
