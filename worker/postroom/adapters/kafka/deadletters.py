"""The producer of dead letters: to `<topic>.dlq`, with what went wrong in the headers."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from postroom.adapters.kafka.settings import PUBLISH_PATIENCE_SECONDS, producer_settings
from postroom.letter.profile import dead_letter_topic
from postroom.ports.ledger import DeadLetter

log = structlog.get_logger("postroom.kafka")


class KafkaDeadLetters:
    """Implements ports.events.DeadLetters: publishes to `<topic>.dlq` with the problem in the headers."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(producer_settings(bootstrap))

    async def publish(self, dead_letters: Sequence[DeadLetter]) -> Sequence[bool]:
        """See the port. A record too big with its headers goes without its value, which the topic keeps."""
        return await asyncio.to_thread(self._publish, dead_letters)

    def _publish(self, dead_letters: Sequence[DeadLetter]) -> list[bool]:
        acknowledged = [False] * len(dead_letters)

        def tell(place: int, error: KafkaError | None) -> None:
            acknowledged[place] = error is None
            if error is not None:
                log.error("dead letter was not published", id=dead_letters[place].id, error=error.str())

        for place, one in enumerate(dead_letters):
            self._produce(one, lambda error, _message, place=place: tell(place, error))
        self._producer.flush(PUBLISH_PATIENCE_SECONDS)
        return acknowledged

    def _produce(self, one: DeadLetter, told: Any) -> None:
        record, topic = one.record, dead_letter_topic(one.record.topic)
        headers = dead_letter_headers(one)
        try:
            self._producer.produce(topic, record.value, record.key, headers=headers, on_delivery=told)
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise
            headers.append(("postroom_value_omitted", b"too large; read it at postroom_source"))
            self._producer.produce(topic, None, record.key, headers=headers, on_delivery=told)


def dead_letter_headers(one: DeadLetter) -> list[tuple[str, str | bytes | None]]:
    """The record's own headers and what went wrong: code, field, message, and where it came from."""
    problem = one.problems[0]
    said = "; ".join(f"{p.field}: {p.message}" for p in one.problems)
    return [
        *one.record.headers,
        ("postroom_dead_letter_id", one.id.encode()),
        ("postroom_source", one.id.encode()),
        ("postroom_problem_code", problem.code.value.encode()),
        ("postroom_problem_field", problem.field.encode()),
        ("postroom_problem", said.encode(errors="replace")),
        ("postroom_at", one.at.isoformat(timespec="milliseconds").encode()),
    ]
