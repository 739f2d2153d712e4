"""A scripted consumer of the client library: it returns records and records the calls."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import TopicPartition

Listener = Callable[[Any, list[TopicPartition]], None]

ENOUGH = 100_000
"""Records in the topic: without back-pressure a test fails instead of reading without end."""


class ScriptedMessage:
    """A message on partition 0 of topic `t`."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return (1, 1_795_473_510_000)

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return b"{}"

    def headers(self) -> None:
        return None


class ScriptedConsumer:
    """Assigns partition 0 of `t` at the first poll, then returns records as fast as they are requested.

    A listener put into `rebalance` is called with the partitions in the next poll, as the library does.
    """

    def __init__(self, endless: bool = True) -> None:
        self.endless = endless
        self.handed_out = 0
        self.polls = 0
        self.paused: set[int] = set()
        self.committed: list[TopicPartition] = []
        self.rebalance: list[tuple[str, list[TopicPartition]]] = []

    def subscribe(self, _: Sequence[str], **listeners: Listener) -> None:
        self._listeners = listeners
        self.rebalance.append(("on_assign", [TopicPartition("t", 0)]))

    def consume(self, count: int, seconds: float) -> list[ScriptedMessage]:
        self.polls += 1
        while self.rebalance:
            event, partitions = self.rebalance.pop(0)
            self._listeners[event](self, partitions)
        if self.paused or not self.endless or self.handed_out >= ENOUGH:
            time.sleep(seconds / 20)
            return []
        first, self.handed_out = self.handed_out, self.handed_out + count
        return [ScriptedMessage(offset) for offset in range(first, self.handed_out)]

    def incremental_assign(self, _: Sequence[TopicPartition]) -> None:
        pass

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= {one.partition for one in partitions}

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused |= {one.partition for one in partitions}

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= {one.partition for one in partitions}

    def position(self, _: Sequence[TopicPartition]) -> list[TopicPartition]:
        return []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.committed += offsets
        return []

    def close(self) -> None:
        pass
