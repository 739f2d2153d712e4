"""Accept one message without HTTP: from the request's body to an event that the broker has acknowledged.

Input: the body of `POST /v1/messages` (the plain envelope; the intake adds `message_id` and `timestamp` where
they are missing, `key` sets the order of letters). Output: a `PreparedMessage`; `publish` returns after the
broker's acknowledgement. Failure: `Rejected` with every broken rule, so that the caller learns at once what a
worker would find later: the event is parsed and its letter rendered by the worker's own code.
`PublishFailed` when the broker does not acknowledge in time.
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
    """A UUID of version 7 (RFC 9562 §5.7) from an aware time and 10 random bytes, as 36 characters."""
    milliseconds = int(now.timestamp() * 1000)
    bits = int.from_bytes(milliseconds.to_bytes(6) + random[:10])
    bits = bits & ~(0xF << 76) | 0x7 << 76  # version
    bits = bits & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(UUID(int=bits))


def new_message_id(now: datetime) -> str:
    """A new unique message id; ids sort by time."""
    return uuid7(now, secrets.token_bytes(10))


MAX_BODY_BYTES = strict_json.MAX_BYTES - 4096
"""Bytes of a request: the limit of an event, less room for the members that the gateway adds."""
BODY_FIELD = "$"
"""The field of a problem with the whole body; paths below it begin with it."""
MAX_KEY_CHARACTERS = 256
"""Characters of an ordering key."""


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """One message as received; `id` is the Idempotency-Key, `profile` selects one of several profiles."""

    body: bytes
    id: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedMessage:
    """A valid message, ready to publish."""

    id: str
    profile: str
    topic: str
    key: bytes
    value: bytes
    identity: bytes
    """Hash of the letter's identity, as the worker will compute it."""
    content: bytes
    """Digest of the payload: everything that determines what the recipient reads."""


class MessageIntake:
    """Validates and publishes messages; `router` returns the templates that are live now."""

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
        """Validate a message: parse its event, route it and render its letter; raises Rejected."""
        now = self._now()
        envelope = _envelope(request.body)
        key = _ordering_key(envelope)
        _set_message_id(envelope, request.id, lambda: self._new_message_id(now))
        envelope.setdefault("timestamp", now.isoformat(timespec="milliseconds"))
        route = self._router().find(_event_type(envelope), request.profile)
        value = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
        event = events.parse_event(_as_record(route.entry.topic, now, value))
        route.template.render(event)
        record_key = key.encode() if key is not None else _recipient_key(event.recipient)
        entry, digest = route.entry, payload_digest(event)
        identity = Identity(entry.profile, event.source, event.id, event.recipient)
        identity_hash = blake2b(identity.encode(), digest_size=16).digest()
        return PreparedMessage(event.id, entry.profile, entry.topic, record_key, value, identity_hash, digest)

    async def publish(self, prepared: PreparedMessage) -> None:
        """Return when the broker has acknowledged the message; raises PublishFailed."""
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
    """Set the message's id: the header, else the body's, else a new id; header and body may not differ."""
    if header is not None and not (header.isascii() and header.isprintable()):
        raise _invalid("message_id", "the Idempotency-Key header may hold printable ASCII characters only")
    given = envelope.get("message_id")
    if header is not None and given not in (None, header):
        raise _invalid("message_id", "differs from the Idempotency-Key header; send one of the two")
    chosen = header if header is not None else given
    envelope["message_id"] = chosen if chosen is not None else new_message_id()


def _ordering_key(envelope: dict[str, Any]) -> str | None:
    key = envelope.pop("key", None)
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARACTERS):
        raise _invalid(
            "key",
            f"is a text of 1 to {MAX_KEY_CHARACTERS} characters; letters with the same key keep their order",
        )
    return key


def _recipient_key(recipient: str) -> bytes:
    """A hash of the recipient: letters to one recipient share a partition, and the key hides the address."""
    return blake2b(recipient.encode(), digest_size=12).hexdigest().encode()


def _as_record(topic: str, now: datetime, value: bytes) -> events.Record:
    return events.Record(topic, 0, 0, now, None, value, (("content-type", b"application/json"),))


def _invalid(field: str, message: str) -> Rejected:
    return Rejected(Problem(Code.FIELD_INVALID, field, message))
