"""Message ids that sort by time: UUID version 7 (RFC 9562 §5.7).

From a request's body to an acknowledged event: the whole of the intake, without HTTP.

Input: the body of `POST /v1/messages` (the plain envelope; `message_id` and `timestamp` may be left to the
gateway, `key` may order letters among themselves). Output: `Accepted`, after the broker's acknowledgement.
Failure: `Rejected` with every rule that is broken, so that a caller learns at once what a worker would
find later: the event is parsed and its letter rendered by the very code that the worker uses. `NotAccepted`
when the broker does not take it in time.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from postroom.gateway.profiles import ProfileRouter
from postroom.gateway.publisher import Publisher
from postroom.letter import event as events
from postroom.letter.events import strict_json
from postroom.letter.identity import Identity, payload_digest
from postroom.letter.problems import Code, Problem, Rejected


def uuid7(now: datetime, random: bytes) -> str:
    """A UUIDv7 from an aware time and 10 random bytes, as its 36-character text."""
    milliseconds = int(now.timestamp() * 1000)
    bits = int.from_bytes(milliseconds.to_bytes(6) + random[:10])
    bits = bits & ~(0xF << 76) | 0x7 << 76  # version
    bits = bits & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(UUID(int=bits))


def new_message_id(now: datetime) -> str:
    """A message id that nobody else has."""
    return uuid7(now, secrets.token_bytes(10))


MAX_BODY_BYTES = strict_json.MAX_BYTES - 4096
"""Bytes of a request: what an event may have, less the room for what the gateway adds."""
BODY_FIELD = "$"
"""The field of a problem that concerns the whole body (or a path below it)."""
MAX_KEY_CHARACTERS = 256
"""Characters of an ordering key."""


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """One message as it came; `id` is the Idempotency-Key, `profile` narrows who may own the event type."""

    body: bytes
    id: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedMessage:
    """A message that was found good: what goes to the broker, and under which id."""

    id: str
    profile: str
    topic: str
    key: bytes
    value: bytes
    identity: bytes
    """A hash of what makes it this letter and no other, as the worker will see it."""
    content: bytes
    """The digest of what its recipient would read."""


class MessageIntake:
    """Takes messages in; `directory` answers with the templates that are live now."""

    def __init__(
        self,
        router: Callable[[], ProfileRouter],
        publisher: Publisher,
        now: Callable[[], datetime],
        new_message_id: Callable[[datetime], str],
    ) -> None:
        self._router = router
        self._publisher = publisher
        self._now = now
        self._new_message_id = new_message_id

    def prepare(self, request: MessageRequest) -> PreparedMessage:
        """Prove a message: parsed, routed, rendered; raises Rejected."""
        now = self._now()
        envelope = _envelope(request.body)
        key = _ordering_key(envelope)
        _set_message_id(envelope, request.id, lambda: self._new_message_id(now))
        envelope.setdefault("timestamp", now.isoformat(timespec="milliseconds"))
        address = self._router().find(_event_type(envelope), request.profile)
        value = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
        event = events.parse_event(_as_record(address.entry.topic, now, value))
        address.template.render(event)
        ordered = key.encode() if key is not None else _recipient_key(event.recipient)
        entry, digest = address.entry, payload_digest(event)
        identity = Identity(entry.profile, event.source, event.id, event.recipient)
        identity_hash = blake2b(identity.encode(), digest_size=16).digest()
        return PreparedMessage(event.id, entry.profile, entry.topic, ordered, value, identity_hash, digest)

    async def accept(self, prepared: PreparedMessage) -> None:
        """Return when the broker has acknowledged the message; raises NotAccepted."""
        await self._publisher.publish(prepared.topic, prepared.key, prepared.value)


def _envelope(body: bytes) -> dict[str, Any]:
    value = strict_json.load_json(body, BODY_FIELD, MAX_BODY_BYTES)
    if not isinstance(value, dict):
        raise _invalid(BODY_FIELD, "the body is a JSON object with event_type, recipient and data")
    return value


def _event_type(envelope: dict[str, Any]) -> str:
    if "event_type" not in envelope:
        message = "is required: what happened, for instance shop.user.welcomed"
        raise Rejected(Problem(Code.FIELD_MISSING, "event_type", message))
    if not isinstance(envelope["event_type"], str):
        raise _invalid("event_type", "is a text, for instance shop.user.welcomed")
    return envelope["event_type"]


def _set_message_id(envelope: dict[str, Any], header: str | None, new_message_id: Callable[[], str]) -> None:
    """Settle the message's id: the header, else the body's, else a new one; the two may not differ."""
    if header is not None and not (header.isascii() and header.isprintable()):
        raise _invalid("message_id", "the Idempotency-Key header holds more than printable ASCII characters")
    given = envelope.get("message_id")
    if header is not None and given not in (None, header):
        raise _invalid("message_id", "differs from the Idempotency-Key header; send one of the two")
    envelope["message_id"] = (
        header if header is not None else given if given is not None else new_message_id()
    )


def _ordering_key(envelope: dict[str, Any]) -> str | None:
    key = envelope.pop("key", None)
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARACTERS):
        raise _invalid(
            "key",
            f"is a text of 1 to {MAX_KEY_CHARACTERS} characters; letters with the same key keep their order",
        )
    return key


def _recipient_key(recipient: str) -> bytes:
    """Letters to one person share a partition, and the log does not show who it is."""
    return blake2b(recipient.encode(), digest_size=12).hexdigest().encode()


def _as_record(topic: str, now: datetime, value: bytes) -> events.Record:
    return events.Record(topic, 0, 0, now, None, value, (("content-type", b"application/json"),))


def _invalid(field: str, message: str) -> Rejected:
    return Rejected(Problem(Code.FIELD_INVALID, field, message))
