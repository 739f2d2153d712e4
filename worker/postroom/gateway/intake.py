"""From a request's body to an acknowledged event: the whole of the intake, without HTTP.

Input: the body of `POST /v1/messages` (the plain envelope; `message_id` and `timestamp` may be left to the
gateway, `key` may order letters among themselves). Output: `Accepted`, after the broker's acknowledgement.
Failure: `Rejected` with every rule that is broken, so that a caller learns at once what a worker would
find later: the event is parsed and its letter rendered by the very code that the worker uses. `NotAccepted`
when the broker does not take it in time.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from postroom.gateway.directory import Directory
from postroom.gateway.publish import Publisher
from postroom.letter import event as events
from postroom.letter.events import strict_json
from postroom.letter.identity import Identity, payload_digest
from postroom.letter.problems import Code, Problem, Rejected

MAX_BODY = strict_json.MAX_BYTES - 4096
"""Bytes of a request: what an event may have, less the room for what the gateway adds."""
BODY = "$"
"""The field of a problem that concerns the whole body (or a path below it)."""
MAX_KEY = 256
"""Characters of an ordering key."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message as it came; `id` is the Idempotency-Key, `profile` narrows who may own the event type."""

    body: bytes
    id: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
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


class Intake:
    """Takes messages in; `directory` answers with the templates that are live now."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        publisher: Publisher,
        now: Callable[[], datetime],
        new_id: Callable[[datetime], str],
    ) -> None:
        self._directory = directory
        self._publisher = publisher
        self._now = now
        self._new_id = new_id

    def prepare(self, request: Request) -> Prepared:
        """Prove a message: parsed, routed, rendered; raises Rejected."""
        now = self._now()
        envelope = _envelope(request.body)
        key = _ordering_key(envelope)
        _identify(envelope, request.id, lambda: self._new_id(now))
        envelope.setdefault("timestamp", now.isoformat(timespec="milliseconds"))
        address = self._directory().find(_event_type(envelope), request.profile)
        value = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
        event = events.parse_event(_record(address.room.topic, now, value))
        address.template.render(event)
        ordered = key.encode() if key is not None else _recipient_key(event.recipient)
        room, digest = address.room, payload_digest(event)
        identity = Identity(room.profile, event.source, event.id, event.recipient)
        hashed = blake2b(identity.encode(), digest_size=16).digest()
        return Prepared(event.id, room.profile, room.topic, ordered, value, hashed, digest)

    async def accept(self, prepared: Prepared) -> None:
        """Return when the broker has acknowledged the message; raises NotAccepted."""
        await self._publisher.publish(prepared.topic, prepared.key, prepared.value)


def _envelope(body: bytes) -> dict[str, Any]:
    value = strict_json.load_json(body, BODY, MAX_BODY)
    if not isinstance(value, dict):
        raise _invalid(BODY, "the body is a JSON object with event_type, recipient and data")
    return value


def _event_type(envelope: dict[str, Any]) -> str:
    if "event_type" not in envelope:
        message = "is required: what happened, for instance shop.user.welcomed"
        raise Rejected(Problem(Code.FIELD_MISSING, "event_type", message))
    if not isinstance(envelope["event_type"], str):
        raise _invalid("event_type", "is a text, for instance shop.user.welcomed")
    return envelope["event_type"]


def _identify(envelope: dict[str, Any], header: str | None, new_id: Callable[[], str]) -> None:
    """Settle the message's id: the header, else the body's, else a new one; the two may not differ."""
    if header is not None and not (header.isascii() and header.isprintable()):
        raise _invalid("message_id", "the Idempotency-Key header holds more than printable ASCII characters")
    given = envelope.get("message_id")
    if header is not None and given not in (None, header):
        raise _invalid("message_id", "differs from the Idempotency-Key header; send one of the two")
    envelope["message_id"] = header if header is not None else given if given is not None else new_id()


def _ordering_key(envelope: dict[str, Any]) -> str | None:
    key = envelope.pop("key", None)
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY):
        raise _invalid(
            "key", f"is a text of 1 to {MAX_KEY} characters; letters with the same key keep their order"
        )
    return key


def _recipient_key(recipient: str) -> bytes:
    """Letters to one person share a partition, and the log does not show who it is."""
    return blake2b(recipient.encode(), digest_size=12).hexdigest().encode()


def _record(topic: str, now: datetime, value: bytes) -> events.Record:
    return events.Record(topic, 0, 0, now, None, value, (("content-type", b"application/json"),))


def _invalid(field: str, message: str) -> Rejected:
    return Rejected(Problem(Code.FIELD_INVALID, field, message))
