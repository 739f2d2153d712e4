"""Waiting for a producer's acknowledgements beside the loop, and no longer than somebody wants to know.

A thread cannot be cancelled, and a program that ends waits for its threads: without this, dead letters that
no broker took held up its end for as long as they may be tried.

The producer of dead letters: to `<topic>.dlq`, with what went wrong in the headers.

The producer of status events: CloudEvents 1.0 in binary mode, to `<topic>.status`.

Publishing records anew: what a person replays goes back to the topic that it came on.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from postroom.adapters.kafka.settings import producer_settings
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.letter.profile import dead_letter_topic
from postroom.letter.status_events import rfc3339, status_event_source
from postroom.ports.kafka import PUBLISH_TIMEOUT_SECONDS
from postroom.ports.ledger import DeadLetter
from postroom.ports.notifications import Notification

FLUSH_INTERVAL_SECONDS = 0.2

Published = TypeVar("Published")


async def run_in_thread(publish: Callable[[threading.Event], Published]) -> Published:
    """Run it on a thread; the event is set when whoever waits is cancelled."""
    called_off = threading.Event()
    try:
        return await asyncio.to_thread(publish, called_off)
    finally:
        called_off.set()


def flush(producer: Producer, seconds: float, called_off: threading.Event) -> None:
    """Wait for so long until all that was produced is acknowledged or given up, or until it is called off."""
    end = time.monotonic() + seconds
    left = max(0.0, seconds)  # below zero the library waits for ever
    while producer.flush(min(FLUSH_INTERVAL_SECONDS, left)) and not called_off.is_set():
        left = end - time.monotonic()
        if left <= 0:
            return


DeadLetterHeaders = list[tuple[str, str | bytes | None]]

OMITTED = b"too large; read it at postroom_source"

log = structlog.get_logger("postroom.kafka")


class KafkaDeadLetterPublisher:
    """Implements ports.events.DeadLetters: publishes to `<topic>.dlq` with the problem in the headers."""

    def __init__(self, kafka: KafkaConnection) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._producer = Producer(producer_settings(kafka))

    async def publish(
        self, dead_letters: Sequence[DeadLetter], patience: float = PUBLISH_TIMEOUT_SECONDS
    ) -> Sequence[bool]:
        """See the port. A record too big for the topic goes as its problem alone; its own topic has it."""
        return await run_in_thread(partial(self._publish, dead_letters, patience))

    def _publish(
        self, dead_letters: Sequence[DeadLetter], patience: float, called_off: threading.Event
    ) -> list[bool]:
        acknowledged: set[str] = set()
        for one in dead_letters:
            self._produce_whole(one, acknowledged)
        flush(self._producer, patience, called_off)
        return [one.id in acknowledged for one in dead_letters]

    def _produce_whole(self, one: DeadLetter, acknowledged: set[str]) -> None:
        def tell(error: KafkaError | None) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._produce_problem(one, acknowledged)
            else:
                _log_publish_failure(one, error, acknowledged)

        self._produce(one.record, [*one.record.headers, *dead_letter_headers(one)], tell)

    def _produce_problem(self, one: DeadLetter, acknowledged: set[str]) -> None:
        """Without value, key and headers of the record: any of them may be what is too large."""
        headers = [*dead_letter_headers(one), ("postroom_value_omitted", OMITTED)]
        bare = replace(one.record, key=None, value=None)
        self._produce(bare, headers, lambda error: _log_publish_failure(one, error, acknowledged))

    def _produce(
        self, record: Record, headers: DeadLetterHeaders, tell: Callable[[KafkaError | None], None]
    ) -> None:
        """Tell what became of it; raises only what this producer never recovers from."""
        topic = dead_letter_topic(record.topic)
        try:
            self._producer.produce(
                topic, record.value, record.key, headers=headers, on_delivery=lambda error, _: tell(error)
            )
        except BufferError:
            tell(KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001 - the name the library publishes
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if error.fatal():
                raise
            tell(error)  # too large, or a topic that is known to refuse us: the next round tries again


def _log_publish_failure(one: DeadLetter, error: KafkaError | None, acknowledged: set[str]) -> None:
    if error is None:
        acknowledged.add(one.id)
    else:
        log.error("dead letter was not published", id=one.id, error=error.str())


def dead_letter_headers(one: DeadLetter) -> DeadLetterHeaders:
    """What went wrong: code, field, message, how often it was tried, and where the record is."""
    problem = one.problems[0]
    said = "; ".join(f"{p.field}: {p.message}" for p in one.problems)
    return [
        ("postroom_dead_letter_id", one.id.encode()),
        ("postroom_source", one.id.encode()),
        ("postroom_problem_code", problem.code.value.encode()),
        ("postroom_problem_field", problem.field.encode()),
        ("postroom_problem", said.encode(errors="replace")),
        ("postroom_attempts", str(one.attempts).encode()),
        ("postroom_at", one.at.isoformat(timespec="milliseconds").encode()),
    ]


DeliveryCallback = Callable[[Notification, KafkaError | None], None]


class KafkaStatusEventPublisher:
    """Implements ports.notices.Courier. Notices with one key keep their order: the producer is idempotent."""

    def __init__(self, kafka: KafkaConnection, topic: str, profile: str) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._producer = Producer(producer_settings(kafka) | {"client.id": "postroom-status-events"})
        self._topic = topic
        self._source = status_event_source(profile).encode()
        self._trouble: str | None = None

    @property
    def last_error(self) -> str | None:
        """See the port."""
        return self._trouble

    async def publish(self, notices: Sequence[Notification]) -> Sequence[bool]:
        """See the port."""
        return await run_in_thread(partial(self._publish, notices))

    def _publish(self, notices: Sequence[Notification], called_off: threading.Event) -> list[bool]:
        acknowledged: set[int] = set()
        trouble = ""

        def tell(one: Notification, error: KafkaError | None) -> None:
            nonlocal trouble
            if error is None:
                acknowledged.add(one.row)
            else:
                trouble = error.str()

        tried = 0
        for tried, one in enumerate(notices, 1):
            try:
                self._produce(one, tell)
            except BufferError:
                tried -= 1
                break  # the next round has the rest
        flush(self._producer, PUBLISH_TIMEOUT_SECONDS, called_off)
        if len(acknowledged) < tried and not trouble and not called_off.is_set():
            trouble = "no broker acknowledged them in time"
        if trouble and not self._trouble:
            log.error("status events were not published; they wait", topic=self._topic, error=trouble)
        self._trouble = trouble
        return [one.row in acknowledged for one in notices]

    def _produce(self, one: Notification, tell: DeliveryCallback) -> None:
        try:
            self._producer.produce(
                self._topic,
                one.data.encode(),
                one.key.encode(),
                headers=self._headers(one),
                on_delivery=lambda error, _: tell(one, error),
            )
        except KafkaException as failure:
            if failure.args[0].fatal():
                raise
            tell(one, failure.args[0])

    def _headers(self, one: Notification) -> list[tuple[str, str | bytes | None]]:
        """The attributes; `ce_subject` is the id of the event that the letter came from."""
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", one.id.encode()),
            ("ce_source", self._source),
            ("ce_type", one.type.encode()),
            ("ce_subject", one.key.encode()),
            ("ce_time", rfc3339(one.at).encode()),
            ("content-type", b"application/json"),
        ]


def republish(kafka: KafkaConnection, records: Sequence[Record]) -> list[str]:
    """Publish each to its topic, with key and headers; returns why not, for each: empty once it is there."""
    producer = Producer({**producer_settings(kafka), "client.id": "postroom-desk"})
    reasons = ["the brokers did not acknowledge it in time"] * len(records)
    for number, record in enumerate(records):

        def tell(error: KafkaError | None, _: object, number: int = number) -> None:
            reasons[number] = "" if error is None else error.str()

        try:
            producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=tell
            )
        except (BufferError, KafkaException) as error:
            reasons[number] = str(error)
    producer.flush(PUBLISH_TIMEOUT_SECONDS)
    return reasons
