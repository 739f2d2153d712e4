"""Hand an event to the broker and wait, for a bounded time, until it has acknowledged it.

Input: topic, key, value. Output: nothing, once every in-sync replica has the event (`acks=all`, idempotent
producer: a retry inside the client leaves no second copy). Failure: `NotAccepted`; the event may still have
been stored (an acknowledgement can be lost on the way), so that a caller repeats it under the same id.
"""

import asyncio
import threading
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from postroom.connections import KafkaConnection

MAX_MESSAGE_BYTES = 9 * 1024 * 1024
"""More than an event may have; the topic's own limit decides."""


class PublishFailed(Exception):
    """The broker did not acknowledge in time; the text says why."""


class MessageTooLarge(PublishFailed):
    """The topic takes no message of this size; repeating is of no use."""


class Publisher(Protocol):
    """Where the intake puts events."""

    async def publish(self, topic: str, key: bytes, value: bytes) -> None:
        """Return when the broker has acknowledged; raises NotAccepted."""
        ...

    async def is_reachable(self) -> bool:
        """Whether the broker answers now."""
        ...


class KafkaPublisher:
    """librdkafka's producer; one thread serves its callbacks."""

    def __init__(self, kafka: KafkaConnection, ack_seconds: float) -> None:
        """Raises KafkaException for a connection that the client refuses at once, such as a broken key."""
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(
            {
                **kafka.client_settings(),
                "client.id": "postroom-gateway",
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "message.timeout.ms": int(ack_seconds * 1000),
                "socket.timeout.ms": max(1000, int(ack_seconds * 1000)),
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,
            }
        )
        self._open = True
        self._thread = threading.Thread(target=self._serve_callbacks, name="gateway-acks", daemon=True)
        self._thread.start()

    async def publish(self, topic: str, key: bytes, value: bytes) -> None:
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            self._loop.call_soon_threadsafe(_resolve, acknowledged, error)

        try:
            self._producer.produce(topic, value, key, on_delivery=on_delivery)
        except BufferError:
            raise PublishFailed("too many messages wait for the broker") from None
        except KafkaException as failure:
            raise _publish_error(failure.args[0]) from None
        await acknowledged

    async def is_reachable(self) -> bool:
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=1.0)
        except KafkaException:
            return False
        return True

    async def close(self, grace: float = 5.0) -> None:
        """Wait for acknowledgements on the way, then end."""
        await asyncio.to_thread(self._producer.flush, grace)
        self._open = False
        await asyncio.to_thread(self._thread.join)

    def _serve_callbacks(self) -> None:
        while self._open:
            self._producer.poll(0.1)


def _resolve(acknowledged: "asyncio.Future[None]", error: KafkaError | None) -> None:
    if acknowledged.done():  # the request was given up
        return
    if error is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(_publish_error(error))


def _publish_error(error: KafkaError) -> PublishFailed:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return MessageTooLarge(
            "the topic takes no message of this size (max.message.bytes); link to large files"
        )
    if error.name() == "_MSG_TIMED_OUT":
        return PublishFailed("the broker did not acknowledge in time")
    return PublishFailed(error.str())
