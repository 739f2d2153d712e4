"""Offsets on their way from the loop, which says what is done, to the client, which commits it.

In: offsets, on any thread. Out: commits, on the polling thread. One that fails is told and forgotten: its
records come again and are met by their ledger rows, a nuisance and never a loss.
"""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from postroom.ports.events import Partition

log = structlog.get_logger("postroom.kafka")


class Commits:
    """What one consumer has committed and is to commit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[Partition, int] = {}
        self._latest: dict[Partition, int] = {}
        """The offsets of what is assigned that were handed to the client, on the polling thread."""

    def want(self, offsets: Mapping[Partition, int]) -> None:
        """Have these committed, on any thread; a later call supersedes an earlier one."""
        with self._lock:
            self._wanted.update(offsets)

    def soon(self, consumer: Consumer) -> None:
        """Hand what is wanted to the client, and do not wait for it."""
        wanted = self._take()
        if wanted:
            self._latest |= wanted
            with _grumbling():
                consumer.commit(offsets=places(wanted), asynchronous=True)

    def now(self, consumer: Consumer) -> None:
        """Commit all again and wait: nobody hears whether what `soon` handed over arrived."""
        self._latest |= self._take()
        if self._latest:
            with _grumbling():
                for place in consumer.commit(offsets=places(self._latest), asynchronous=False):
                    if place.error is not None:
                        raise KafkaException(place.error)

    def withdraw(self, partitions: Collection[Partition]) -> None:
        """They are another's: nothing of them may be committed any more."""
        with self._lock:
            for one in partitions:
                self._wanted.pop(one, None)
        self.forget(partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        """They are given away, and what was said of them is committed."""
        self._latest = {one: offset for one, offset in self._latest.items() if one not in partitions}

    def _take(self) -> dict[Partition, int]:
        with self._lock:
            wanted, self._wanted = self._wanted, {}
        return wanted


def places(offsets: Mapping[Partition, int]) -> list[TopicPartition]:
    """Offsets as the client takes them."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


@contextmanager
def _grumbling() -> Iterator[None]:
    try:
        yield
    except KafkaException as failure:
        log.warning("offsets were not committed", error=str(failure))
