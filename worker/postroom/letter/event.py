"""Events: what an application publishes. One event becomes one letter to one recipient.

`parse_event`: a Kafka record in, a validated `Event` out, or Rejected with every problem found; each names
the field as the publisher wrote it, the rule and the way out. `pack_record` and `unpack_record` store a
record unchanged in the ledger, because a deferred letter must outlive its topic's retention.
"""

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from postroom.letter.events.envelope import MAX_PROBLEMS, open_envelope
from postroom.letter.events.fields import EventFields
from postroom.letter.mime.attachments import content_id_rule, content_type_rule, decode_base64, filename_rule
from postroom.letter.problems import Code, Problem, Rejected, did_you_mean

ID_CHARACTERS = 256
SOURCE_CHARACTERS = 1024
TYPE_CHARACTERS = 255
REVISION_CHARACTERS = 64
REFERENCE_CHARACTERS = 256
"""Of user_id and request_id."""
MAX_EVENT_ATTACHMENTS = 10
MAX_EVENT_ATTACHMENTS_BYTES = 5 * 1024 * 1024
"""All files of an event together, decoded."""
REPLAY_HEADER = "postroom_replay_id"
"""The header of a replayed record. Each value lets a failed letter be attempted once more."""
LATE_REPLAY_HEADER = "postroom_replay_late"
"""The header of a replay that is sent although the letter has expired."""
MAX_SCHEDULE_AHEAD = timedelta(days=366)
"""How far after the event's time not_before may be."""
PACK_VERSION = 1

_ATTACHMENT_MEMBERS = ("filename", "content_type", "content", "content_id")
_REQUIRED_MEMBERS = ("content", "content_type", "filename")
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as it was received; `timestamp` is the broker's or the producer's, aware UTC."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    unreadable: str = ""
    """Why the headers could not be decoded and are missing. Such a record is rejected."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is sent with the letter; `filename` is a bare name, never a path."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None
    """The ID in the HTML's `cid:` references. None: a file, or an image that is referred to by its file name.
    """


@dataclass(frozen=True, slots=True)
class Event:
    """A validated event. Addresses are normalized (domain as IDNA A-label); times are aware UTC.

    `recipient` is the bare address (local@domain). `data` is what the template sees.
    """

    id: str
    source: str
    type: str
    recipient: str
    time: datetime
    data: Mapping[str, Any]
    locale: str | None = None
    not_before: datetime | None = None
    expires: datetime | None = None
    reply_to: str | None = None
    """A list of mailboxes as `mailboxes.write_mailboxes` writes it; a bare address as it is."""
    attachments: tuple[Attachment, ...] = ()
    traceparent: str | None = None
    revision: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    """Notable facts for a person, such as `mixed_script_domain`."""


def replay_id(record: Record) -> str:
    """The replay ID of a replayed record; empty for every other record."""
    values = (value or b"" for name, value in record.headers if name == REPLAY_HEADER)
    return next(values, b"").decode(errors="replace")


def is_late_replay(record: Record) -> bool:
    """Whether this is a replay that is sent although the letter has expired."""
    return {REPLAY_HEADER, LATE_REPLAY_HEADER} <= {name for name, value in record.headers if value}


def parse_event(record: Record) -> Event:
    """Parse an event in CloudEvents binary or structured mode, or in the plain envelope.

    Raises Rejected with every problem found. The caller skips tombstones (`value is None`).
    """
    if record.unreadable:
        rule = f"cannot be read: {record.unreadable}; write the names of headers in UTF-8"
        raise Rejected(Problem(Code.NOT_UTF8_JSON, "headers", rule))
    opened = open_envelope(record.value or b"", record.headers, record.topic)
    fields = EventFields(opened.members, opened.names, opened.problems)
    recipient = fields.recipient()
    event = Event(
        id=fields.text("id", ID_CHARACTERS),
        source=fields.text("source", SOURCE_CHARACTERS),
        type=fields.text("type", TYPE_CHARACTERS),
        recipient=str(recipient),
        time=fields.time("time", record.timestamp if opened.cloud else None),
        data=fields.data(),
        locale=fields.locale(),
        not_before=fields.optional_time("not_before"),
        expires=fields.optional_time("expires"),
        reply_to=fields.reply_to(),
        attachments=_attachments(fields),
        traceparent=fields.traceparent(),
        revision=fields.optional_text("revision", REVISION_CHARACTERS),
        user_id=fields.optional_text("user_id", REFERENCE_CHARACTERS),
        request_id=fields.optional_text("request_id", REFERENCE_CHARACTERS),
        metadata=fields.metadata(),
        flags=recipient.flags if recipient else (),
    )
    if not fields.problems:
        _check_order(event, fields)
    if fields.problems:
        raise Rejected(*fields.problems[:MAX_PROBLEMS])
    return event


def _check_order(event: Event, fields: EventFields) -> None:
    if event.expires and event.expires < event.time:
        fields.refuse("expires", "is before the event's own time; the letter could never be sent")
    if event.not_before is None:
        return
    if event.expires and event.expires <= event.not_before:
        fields.refuse("not_before", "is not before the time the letter expires; it could never be sent")
    if event.not_before - event.time > MAX_SCHEDULE_AHEAD:
        fields.refuse(
            "not_before", f"is more than {MAX_SCHEDULE_AHEAD.days} days ahead; publish the event later"
        )


def _attachments(fields: EventFields) -> tuple[Attachment, ...]:
    items = fields.items("attachments")
    if not items:
        return ()
    if len(items) > MAX_EVENT_ATTACHMENTS:
        rule = f"{len(items)} files; at most {MAX_EVENT_ATTACHMENTS} are allowed"
        fields.refuse("attachments", rule, Code.ATTACHMENT_INVALID)
        return ()
    attachments = []
    for index, item in enumerate(items):
        match _attachment(item):
            case Attachment() as attachment:
                attachments.append(attachment)
            case member, rule:
                fields.refuse("attachments", rule, Code.ATTACHMENT_INVALID, below=f"[{index}]{member}")
    named = [attachment.content_id for attachment in attachments if attachment.content_id]
    if len(set(named)) < len(named):
        fields.refuse(
            "attachments", "two files have the same content_id; it must be unique", Code.ATTACHMENT_INVALID
        )
    total = sum(len(attachment.content) for attachment in attachments)
    if total > MAX_EVENT_ATTACHMENTS_BYTES:
        rule = (
            f"{total} bytes together; at most {MAX_EVENT_ATTACHMENTS_BYTES} are allowed, link to larger files"
        )
        fields.refuse("attachments", rule, Code.ATTACHMENT_INVALID)
    return tuple(attachments)


def _attachment(item: Any) -> Attachment | tuple[str, str]:
    """The file, or the wrong member and the rule that it breaks."""
    if not isinstance(item, dict):
        return "", "must be an object with filename, content_type and content"
    for name in item.keys() - set(_ATTACHMENT_MEMBERS):
        hint = did_you_mean(name, _ATTACHMENT_MEMBERS)
        way_out = "the file comes as base64 in content, nothing is fetched" if name == "url" else "remove it"
        return "", f"has the unknown member {name[:64]!a}{hint or f'; {way_out}'}"
    for name in _REQUIRED_MEMBERS:
        if not isinstance(item.get(name), str):
            return f".{name}", "is required and must be text"
    if rule := filename_rule(item["filename"]):
        return ".filename", rule
    if rule := content_type_rule(item["content_type"]):
        return ".content_type", rule
    content_id = item.get("content_id")
    if rule := _content_id_rule(content_id):
        return ".content_id", rule
    try:
        content = decode_base64(item["content"])
        return Attachment(item["filename"], item["content_type"], content, content_id)
    except ValueError as error:
        return ".content", str(error)


def _content_id_rule(content_id: Any) -> str | None:
    if content_id is None:
        return None
    return content_id_rule(content_id) if isinstance(content_id, str) else "must be text"


def pack_record(record: Record) -> bytes:
    """Write a record as one JSON object, without loss, for this and any later version."""
    return _encode(
        {
            "v": PACK_VERSION,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp.isoformat(),
            "key": _pack_bytes(record.key),
            "value": _pack_bytes(record.value),
            "headers": [(name, _pack_bytes(content)) for name, content in record.headers],
            **({"unreadable": record.unreadable} if record.unreadable else {}),
        }
    ).encode()


def unpack_record(data: bytes) -> Record:
    """Read what `pack_record` wrote. Raises ValueError for other data, and for data of a later version."""
    packed = json.loads(data)
    if not isinstance(packed, dict) or packed.get("v") != PACK_VERSION:
        raise ValueError(f"not a packed record of version {PACK_VERSION}")
    return Record(
        topic=packed["topic"],
        partition=packed["partition"],
        offset=packed["offset"],
        timestamp=datetime.fromisoformat(packed["timestamp"]),
        key=_unpack_bytes(packed["key"]),
        value=_unpack_bytes(packed["value"]),
        headers=tuple((name, _unpack_bytes(content)) for name, content in packed["headers"]),
        unreadable=packed.get("unreadable", ""),
    )


def _pack_bytes(content: bytes | None) -> str | dict[str, str] | None:
    """UTF-8 as text, which is legible in the ledger; other bytes as base64."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": binascii.b2a_base64(content, newline=False).decode()}


def _unpack_bytes(packed: str | dict[str, str] | None) -> bytes | None:
    if isinstance(packed, dict):
        return binascii.a2b_base64(packed["base64"])
    return packed if packed is None else packed.encode()
