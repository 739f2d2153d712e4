"""The producer of dead letters: to `<topic>.dlq`, with what went wrong in the headers."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from postroom.adapters.kafka.flushing import beside, flush
from postroom.adapters.kafka.settings import producer_settings
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.letter.profile import dead_letter_topic
from postroom.ports.events import PUBLISH_PATIENCE_SECONDS
from postroom.ports.ledger import DeadLetter

Headers = list[tuple[str, str | bytes | None]]

OMITTED = b"too large; read it at postroom_source"

log = structlog.get_logger("postroom.kafka")


class KafkaDeadLetters:
    """Implements ports.events.DeadLetters: publishes to `<topic>.dlq` with the problem in the headers."""

    def __init__(self, kafka: KafkaConnection) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._producer = Producer(producer_settings(kafka))

    async def publish(
        self, dead_letters: Sequence[DeadLetter], patience: float = PUBLISH_PATIENCE_SECONDS
    ) -> Sequence[bool]:
        """See the port. A record too big for the topic goes as its problem alone; its own topic has it."""
        return await beside(partial(self._publish, dead_letters, patience))

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
                _note(one, error, acknowledged)

        self._produce(one.record, [*one.record.headers, *dead_letter_headers(one)], tell)

    def _produce_problem(self, one: DeadLetter, acknowledged: set[str]) -> None:
        """Without value, key and headers of the record: any of them may be what is too large."""
        headers = [*dead_letter_headers(one), ("postroom_value_omitted", OMITTED)]
        bare = replace(one.record, key=None, value=None)
        self._produce(bare, headers, lambda error: _note(one, error, acknowledged))

    def _produce(self, record: Record, headers: Headers, tell: Callable[[KafkaError | None], None]) -> None:
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


def _note(one: DeadLetter, error: KafkaError | None, acknowledged: set[str]) -> None:
    if error is None:
        acknowledged.add(one.id)
    else:
        log.error("dead letter was not published", id=one.id, error=error.str())


def dead_letter_headers(one: DeadLetter) -> Headers:
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
