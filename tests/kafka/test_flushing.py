"""A cancelled publisher does not wait for an unreachable broker; others wait for acknowledgements."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from confluent_kafka import Producer

from postroom.adapters.kafka.producers import (
    FLUSH_INTERVAL_SECONDS,
    KafkaDeadLetterPublisher,
    KafkaStatusEventPublisher,
    flush,
)
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem
from postroom.local.machine import free_port
from tests.delivery.letters import NOON, dead_letter
from tests.delivery.test_status_events import notices

PROBLEM = Problem(Code.FIELD_MISSING, "recipient", "is required")
SOON = 3.0

Publish = Callable[[KafkaConnection], Coroutine[Any, Any, Sequence[bool]]]


def publish_dead_letter(kafka: KafkaConnection) -> Coroutine[Any, Any, Sequence[bool]]:
    return KafkaDeadLetterPublisher(kafka).publish([dead_letter(Record("t", 0, 1, NOON, None, b""), PROBLEM)])


def publish_status_event(kafka: KafkaConnection) -> Coroutine[Any, Any, Sequence[bool]]:
    return KafkaStatusEventPublisher(kafka, "t.status", "default/plant").publish(notices("a"))


@pytest.mark.parametrize("publish", [publish_dead_letter, publish_status_event])
def test_a_cancelled_publisher_does_not_wait_for_a_broker(publish: Publish) -> None:
    """A process waits for its threads at exit, and these retry for half a minute."""

    async def scenario() -> None:
        publishing = asyncio.create_task(publish(KafkaConnection(f"127.0.0.1:{free_port()}")))
        await asyncio.sleep(0)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing

    begin = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - begin < SOON


class SlowProducer:
    """Has all acknowledgements after some calls of `flush`; records the timeouts of the calls."""

    def __init__(self, polls: int) -> None:
        self._looks = polls
        self.timeouts: list[float] = []

    def flush(self, seconds: float) -> int:
        self.timeouts.append(seconds)
        return max(0, self._looks - len(self.timeouts))


def flushed(producer: Any, seconds: float, cancelled: bool = False) -> None:
    event = threading.Event()
    if cancelled:
        event.set()
    flush(producer, seconds, event)


def test_flush_waits_for_the_last_acknowledgement() -> None:
    slow = SlowProducer(polls=4)
    flushed(slow, 60)
    assert slow.timeouts == [FLUSH_INTERVAL_SECONDS] * 4


@pytest.mark.parametrize("seconds", [0, -1])
def test_flush_without_time_polls_once_and_does_not_wait(seconds: float) -> None:
    slow = SlowProducer(polls=4)
    flushed(slow, seconds)
    assert slow.timeouts == [0]


def test_a_cancelled_flush_polls_once_more() -> None:
    slow = SlowProducer(polls=4)
    flushed(slow, 60, cancelled=True)
    assert slow.timeouts == [FLUSH_INTERVAL_SECONDS]


def test_flush_ends_after_its_timeout() -> None:
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": 0})
    producer.produce("t", b"")
    begin = time.monotonic()
    flushed(producer, 0.3)
    assert 0.3 <= time.monotonic() - begin < SOON
    producer.purge()
