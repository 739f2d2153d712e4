"""The producer of status events: CloudEvents 1.0 in binary mode, to `<topic>.status`."""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from postroom.adapters.kafka.flushing import beside, flush
from postroom.adapters.kafka.settings import producer_settings
from postroom.connections import KafkaConnection
from postroom.letter.status_events import rfc3339, status_event_source
from postroom.ports.events import PUBLISH_PATIENCE_SECONDS
from postroom.ports.notices import Notice

Tell = Callable[[Notice, KafkaError | None], None]

log = structlog.get_logger("postroom.kafka")


class KafkaCourier:
    """Implements ports.notices.Courier. Notices with one key keep their order: the producer is idempotent."""

    def __init__(self, kafka: KafkaConnection, topic: str, profile: str) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._producer = Producer(producer_settings(kafka) | {"client.id": "postroom-status-events"})
        self._topic = topic
        self._source = status_event_source(profile).encode()
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """See the port."""
        return self._trouble

    async def publish(self, notices: Sequence[Notice]) -> Sequence[bool]:
        """See the port."""
        return await beside(partial(self._publish, notices))

    def _publish(self, notices: Sequence[Notice], called_off: threading.Event) -> list[bool]:
        acknowledged: set[int] = set()
        trouble = ""

        def tell(one: Notice, error: KafkaError | None) -> None:
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
        flush(self._producer, PUBLISH_PATIENCE_SECONDS, called_off)
        if len(acknowledged) < tried and not trouble and not called_off.is_set():
            trouble = "no broker acknowledged them in time"
        if trouble and not self._trouble:
            log.error("status events were not published; they wait", topic=self._topic, error=trouble)
        self._trouble = trouble
        return [one.row in acknowledged for one in notices]

    def _produce(self, one: Notice, tell: Tell) -> None:
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

    def _headers(self, one: Notice) -> list[tuple[str, str | bytes | None]]:
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
