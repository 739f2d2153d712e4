"""Kafka producers: dead letters, status events and replayed records.

In: dead letters, notifications or records. Out: for each, whether the brokers acknowledged it.

- `KafkaDeadLetterPublisher` publishes to `<topic>.dlq`, with the problem in the headers.
- `KafkaStatusEventPublisher` publishes CloudEvents 1.0 in binary mode to `<topic>.status`.
- `republish` puts records back into the topic that they came from, for `postroom dlq replay`.

Publishing waits for acknowledgements on a thread. A thread cannot be cancelled, and a process waits for its
threads at exit; `run_in_thread` therefore sets an event when its caller is cancelled, and `flush` returns.

Failure: a record without an acknowledgement is reported and stays in its outbox. Fatal errors of the client
are raised as KafkaException.
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

Returned = TypeVar("Returned")


async def run_in_thread(function: Callable[[threading.Event], Returned]) -> Returned:
    """Run a function on a thread; its event is set when the caller is cancelled."""
    cancelled = threading.Event()
    try:
        return await asyncio.to_thread(function, cancelled)
    finally:
        cancelled.set()


def flush(producer: Producer, seconds: float, cancelled: threading.Event) -> None:
    """Wait at most `seconds` until all records are acknowledged or failed, or `cancelled` is set."""
    end = time.monotonic() + seconds
    left = max(0.0, seconds)  # with a negative timeout the library waits without end
    while producer.flush(min(FLUSH_INTERVAL_SECONDS, left)) and not cancelled.is_set():
        left = end - time.monotonic()
        if left <= 0:
            return


DeadLetterHeaders = list[tuple[str, str | bytes | None]]

OMITTED = b"too large; read it at postroom_source"

log = structlog.get_logger("postroom.kafka")


class KafkaDeadLetterPublisher:
    """Implements `ports.kafka.DeadLetterPublisher`."""

    def __init__(self, kafka: KafkaConnection) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._producer = Producer(producer_settings(kafka))

    async def publish(
        self, dead_letters: Sequence[DeadLetter], seconds: float = PUBLISH_TIMEOUT_SECONDS
    ) -> Sequence[bool]:
        """Publish dead letters. A record that is too large for the topic is published without its content."""
        return await run_in_thread(partial(self._publish, dead_letters, seconds))

    def _publish(
        self, dead_letters: Sequence[DeadLetter], seconds: float, cancelled: threading.Event
    ) -> list[bool]:
        acknowledged: set[str] = set()
        for dead_letter in dead_letters:
            self._produce_whole(dead_letter, acknowledged)
        flush(self._producer, seconds, cancelled)
        return [dead_letter.id in acknowledged for dead_letter in dead_letters]

    def _produce_whole(self, dead_letter: DeadLetter, acknowledged: set[str]) -> None:
        def on_delivery(error: KafkaError | None) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._produce_problem(dead_letter, acknowledged)
            else:
                _note_delivery(dead_letter, error, acknowledged)

        record = dead_letter.record
        self._produce(record, [*record.headers, *dead_letter_headers(dead_letter)], on_delivery)

    def _produce_problem(self, dead_letter: DeadLetter, acknowledged: set[str]) -> None:
        """Publish without value, key and headers of the record: any of them may be too large."""
        headers = [*dead_letter_headers(dead_letter), ("postroom_value_omitted", OMITTED)]
        bare = replace(dead_letter.record, key=None, value=None)
        self._produce(bare, headers, lambda error: _note_delivery(dead_letter, error, acknowledged))

    def _produce(
        self, record: Record, headers: DeadLetterHeaders, on_delivery: Callable[[KafkaError | None], None]
    ) -> None:
        """Produce a record and report its delivery; raises only fatal errors of the producer."""
        topic = dead_letter_topic(record.topic)
        try:
            self._producer.produce(
                topic,
                record.value,
                record.key,
                headers=headers,
                on_delivery=lambda error, _: on_delivery(error),
            )
        except BufferError:
            on_delivery(KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001 - the name the library publishes
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if error.fatal():
                raise
            on_delivery(error)  # too large, or not authorized: the next round retries


def _note_delivery(dead_letter: DeadLetter, error: KafkaError | None, acknowledged: set[str]) -> None:
    if error is None:
        acknowledged.add(dead_letter.id)
    else:
        log.error("publishing a dead letter failed; will retry", id=dead_letter.id, error=error.str())


def dead_letter_headers(dead_letter: DeadLetter) -> DeadLetterHeaders:
    """Build the headers: code, field and message of the problem, attempts, time, source."""
    problem = dead_letter.problems[0]
    messages = "; ".join(f"{p.field}: {p.message}" for p in dead_letter.problems)
    return [
        ("postroom_dead_letter_id", dead_letter.id.encode()),
        ("postroom_source", dead_letter.id.encode()),
        ("postroom_problem_code", problem.code.value.encode()),
        ("postroom_problem_field", problem.field.encode()),
        ("postroom_problem", messages.encode(errors="replace")),
        ("postroom_attempts", str(dead_letter.attempts).encode()),
        ("postroom_at", dead_letter.at.isoformat(timespec="milliseconds").encode()),
    ]


DeliveryCallback = Callable[[Notification, KafkaError | None], None]


class KafkaStatusEventPublisher:
    """Implements `ports.notifications.StatusEventPublisher`.

    The producer is idempotent, so notifications with the same key keep their order.
    """

    def __init__(self, kafka: KafkaConnection, topic: str, profile: str) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._producer = Producer(producer_settings(kafka) | {"client.id": "postroom-status-events"})
        self._topic = topic
        self._source = status_event_source(profile).encode()
        self._last_error: str | None = None

    @property
    def last_error(self) -> str | None:
        return self._last_error

    async def publish(self, notifications: Sequence[Notification]) -> Sequence[bool]:
        return await run_in_thread(partial(self._publish, notifications))

    def _publish(self, notifications: Sequence[Notification], cancelled: threading.Event) -> list[bool]:
        acknowledged: set[int] = set()
        last_error = ""

        def on_delivery(notification: Notification, error: KafkaError | None) -> None:
            nonlocal last_error
            if error is None:
                acknowledged.add(notification.row)
            else:
                last_error = error.str()

        produced = 0
        for produced, notification in enumerate(notifications, 1):
            try:
                self._produce(notification, on_delivery)
            except BufferError:
                produced -= 1
                break  # the next round publishes the others
        flush(self._producer, PUBLISH_TIMEOUT_SECONDS, cancelled)
        if len(acknowledged) < produced and not last_error and not cancelled.is_set():
            last_error = "no broker acknowledged the status events in time"
        if last_error and not self._last_error:
            log.error("publishing status events failed; will retry", topic=self._topic, error=last_error)
        self._last_error = last_error
        return [notification.row in acknowledged for notification in notifications]

    def _produce(self, notification: Notification, on_delivery: DeliveryCallback) -> None:
        try:
            self._producer.produce(
                self._topic,
                notification.data.encode(),
                notification.key.encode(),
                headers=self._headers(notification),
                on_delivery=lambda error, _: on_delivery(notification, error),
            )
        except KafkaException as failure:
            if failure.args[0].fatal():
                raise
            on_delivery(notification, failure.args[0])

    def _headers(self, notification: Notification) -> list[tuple[str, str | bytes | None]]:
        """The CloudEvents attributes; `ce_subject` is the id of the event of the letter."""
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", notification.id.encode()),
            ("ce_source", self._source),
            ("ce_type", notification.type.encode()),
            ("ce_subject", notification.key.encode()),
            ("ce_time", rfc3339(notification.at).encode()),
            ("content-type", b"application/json"),
        ]


def republish(kafka: KafkaConnection, records: Sequence[Record]) -> list[str]:
    """Publish records to their topics; return an error text for each, empty on success."""
    producer = Producer({**producer_settings(kafka), "client.id": "postroom-cli"})
    reasons = ["the brokers did not acknowledge the record in time"] * len(records)
    for number, record in enumerate(records):

        def on_delivery(error: KafkaError | None, _: object, number: int = number) -> None:
            reasons[number] = "" if error is None else error.str()

        try:
            producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=on_delivery
            )
        except (BufferError, KafkaException) as error:
            reasons[number] = str(error)
    producer.flush(PUBLISH_TIMEOUT_SECONDS)
    return reasons
