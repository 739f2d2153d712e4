"""Publishers that are told to end do not wait for a broker that is away, and hear one that is there."""

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


def bury(kafka: KafkaConnection) -> Coroutine[Any, Any, Sequence[bool]]:
    return KafkaDeadLetterPublisher(kafka).publish([dead_letter(Record("t", 0, 1, NOON, None, b""), PROBLEM)])


def tell(kafka: KafkaConnection) -> Coroutine[Any, Any, Sequence[bool]]:
    return KafkaStatusEventPublisher(kafka, "t.status", "default/plant").publish(notices("a"))


@pytest.mark.parametrize("publish", [bury, tell])
def test_a_broker_that_took_nothing_is_not_waited_for(publish: Publish) -> None:
    """A program that ends waits for its threads, and these try for half a minute."""

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
    """Has the acknowledgements after so many looks; knows how long it was waited for."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self.waited: list[float] = []

    def flush(self, seconds: float) -> int:
        self.waited.append(seconds)
        return max(0, self._looks - len(self.waited))


def flushed(producer: Any, seconds: float, called_off: bool = False) -> None:
    event = threading.Event()
    if called_off:
        event.set()
    flush(producer, seconds, event)


def test_acknowledgements_are_waited_for_until_the_last_one() -> None:
    slow = SlowProducer(looks=4)
    flushed(slow, 60)
    assert slow.waited == [FLUSH_INTERVAL_SECONDS] * 4


@pytest.mark.parametrize("seconds", [0, -1])
def test_who_has_no_patience_looks_once_and_does_not_wait(seconds: float) -> None:
    slow = SlowProducer(looks=4)
    flushed(slow, seconds)
    assert slow.waited == [0]


def test_what_is_called_off_is_looked_at_once_more() -> None:
    slow = SlowProducer(looks=4)
    flushed(slow, 60, called_off=True)
    assert slow.waited == [FLUSH_INTERVAL_SECONDS]


def test_patience_ends() -> None:
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": 0})
    producer.produce("t", b"")
    begin = time.monotonic()
    flushed(producer, 0.3)
    assert 0.3 <= time.monotonic() - begin < SOON
    producer.purge()
