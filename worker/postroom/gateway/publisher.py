"""Publish an event to Kafka and wait, for a bounded time, for the broker's acknowledgement.

Input: topic, key, value. Output: nothing, once every in-sync replica has the event (`acks=all`, idempotent
producer: a retry inside the client leaves no second copy). Failure: `PublishFailed`. The broker may still
have stored the event, since an acknowledgement can be lost: the caller repeats the request with the same id.
"""

import asyncio
import threading
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from postroom.connections import KafkaConnection

MAX_MESSAGE_BYTES = 9 * 1024 * 1024
"""Above the limit of an event, so that the topic's own limit decides."""


class PublishFailed(Exception):
    """The broker did not acknowledge in time; the text is the reason."""


class MessageTooLarge(PublishFailed):
    """The message is over the topic's size limit; a repeated request fails in the same way."""


class Publisher(Protocol):
    """Publishes events; implemented by `KafkaPublisher` and by a fake in the tests."""

    async def publish(self, topic: str, key: bytes, value: bytes) -> None:
        """Return when the broker has acknowledged; raises PublishFailed."""
        ...

    async def is_reachable(self) -> bool:
        """Whether the broker answers."""
        ...


class KafkaPublisher:
    """A librdkafka producer with a thread that runs its delivery callbacks."""

    def __init__(self, kafka: KafkaConnection, ack_seconds: float) -> None:
        """Raises KafkaException for settings that the client rejects at once, such as an unreadable key."""
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
        """Return when every in-sync replica has the event; raises PublishFailed."""
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            self._loop.call_soon_threadsafe(_resolve, acknowledged, error)

        try:
            self._producer.produce(topic, value, key, on_delivery=on_delivery)
        except BufferError:
            raise PublishFailed("the queue of messages for the broker is full") from None
        except KafkaException as failure:
            raise _publish_error(failure.args[0]) from None
        await acknowledged

    async def is_reachable(self) -> bool:
        """Whether the broker answers a metadata request within a second."""
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=1.0)
        except KafkaException:
            return False
        return True

    async def close(self, grace: float = 5.0) -> None:
        """Wait up to `grace` seconds for outstanding acknowledgements, then end the thread."""
        await asyncio.to_thread(self._producer.flush, grace)
        self._open = False
        await asyncio.to_thread(self._thread.join)

    def _serve_callbacks(self) -> None:
        while self._open:
            self._producer.poll(0.1)


def _resolve(acknowledged: "asyncio.Future[None]", error: KafkaError | None) -> None:
    if acknowledged.done():  # the request was cancelled
        return
    if error is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(_publish_error(error))


def _publish_error(error: KafkaError) -> PublishFailed:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return MessageTooLarge(
            "the message is over the topic's limit (max.message.bytes); link to large files instead"
        )
    if error.name() == "_MSG_TIMED_OUT":
        return PublishFailed("the broker did not acknowledge in time")
    return PublishFailed(error.str())
