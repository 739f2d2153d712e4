"""The producer of dead letters, on a scripted client: an error of one letter does not affect others."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from postroom.adapters.kafka import producers
from postroom.adapters.kafka.producers import KafkaDeadLetterPublisher
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem
from tests.delivery.letters import NOON, dead_letter

PROBLEM = Problem(Code.FIELD_MISSING, "recipient", "is required")
HUGE, REFUSED, SMALL = (
    dead_letter(Record("t", 0, offset, NOON, None, value), PROBLEM)
    for offset, value in enumerate((b"huge", b"refused", b"small"))
)

Report = Callable[[KafkaError | None, None], None]


class ScriptedProducer:
    """Rejects `huge` as too large and fails at its problem record; acknowledges the others at the flush."""

    def __init__(self, failure: Exception, late: bool) -> None:
        self._failure, self._late = failure, late
        self._reports: list[Callable[[], None]] = []

    def produce(self, _: str, value: bytes | None, *__: Any, headers: object, on_delivery: Report) -> None:
        assert headers
        if value is None or value == b"refused":
            raise self._failure
        too_large = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if value == b"huge" else None
        if too_large and not self._late:
            raise KafkaException(too_large)
        self._reports.append(lambda: on_delivery(too_large, None))

    def flush(self, _: float) -> int:
        for report in self._reports:
            report()
        return 0


@pytest.mark.parametrize("late", [False, True], ids=["at-once", "by-the-broker"])
@pytest.mark.parametrize(
    "failure",
    [BufferError("queue full"), KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))],
    ids=["queue-full", "refused"],
)
def test_a_letter_that_cannot_be_produced_waits_and_the_others_are_published(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, late: bool
) -> None:
    monkeypatch.setattr(producers, "Producer", lambda _: ScriptedProducer(failure, late))
    producer = KafkaDeadLetterPublisher(KafkaConnection("nowhere:9092"))
    assert list(asyncio.run(producer.publish([HUGE, REFUSED, SMALL]))) == [False, False, True]


def test_a_fatal_error_of_the_producer_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    fatal = KafkaException(KafkaError(KafkaError._FATAL, "fenced", fatal=True))
    monkeypatch.setattr(producers, "Producer", lambda _: ScriptedProducer(fatal, late=False))
    with pytest.raises(KafkaException):
        asyncio.run(KafkaDeadLetterPublisher(KafkaConnection("nowhere:9092")).publish([REFUSED]))


@pytest.mark.parametrize("seconds", [0.1, 0, -1])
def test_publish_returns_in_time_without_a_broker(seconds: float) -> None:
    producer, begun = KafkaDeadLetterPublisher(KafkaConnection("127.0.0.1:1")), time.monotonic()
    assert list(asyncio.run(producer.publish([SMALL], seconds))) == [False]
    assert time.monotonic() - begun < 3
