"""Unwrap events: CloudEvents in binary or structured mode, or the plain envelope.

Input: the value and the headers of a Kafka record. Output: the event's members under the names of `Event`,
not yet checked, with the names that the publisher used for them; or Rejected when the record cannot be read
at all. Sources: CloudEvents 1.0.2 and its Kafka protocol binding. Unknown extensions of a CloudEvent are
ignored, as the specification requires. Unknown members of the plain envelope are errors.
"""

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from postroom.letter.events import strict_json
from postroom.letter.problems import Code, Problem, Rejected, did_you_mean

Headers = Sequence[tuple[str, bytes | None]]

PLAIN_MEMBERS = {
    "message_id": "id",
    "event_type": "type",
    "timestamp": "time",
    "recipient": "recipient",
    "data": "data",
    "locale": "locale",
    "not_before": "not_before",
    "expires_at": "expires",
    "reply_to": "reply_to",
    "attachments": "attachments",
    "traceparent": "traceparent",
    "template_revision": "revision",
    "user_id": "user_id",
    "request_id": "request_id",
    "metadata": "metadata",
}
"""Members of the plain envelope and their names in `Event`."""

CLOUD_EVENT_MEMBERS = {
    "id": "id",
    "source": "source",
    "type": "type",
    "time": "time",
    "recipient": "recipient",
    "data": "data",
    "locale": "locale",
    "notbefore": "not_before",
    "expirytime": "expires",
    "replyto": "reply_to",
    "traceparent": "traceparent",
    "templaterevision": "revision",
    "userid": "user_id",
    "requestid": "request_id",
}
"""Attributes and extensions of a CloudEvent and their names in `Event`."""

DATA_MEMBERS = {"$attachments": "attachments", "$metadata": "metadata"}
"""Members of a CloudEvent's data that are not template data; an attribute cannot hold an object."""

MAX_PROBLEMS = 20
"""The most problems that are reported; an event may have thousands."""

IGNORED_MEMBERS = frozenset({"namespace"})
"""Members that are ignored: an event belongs to the profile of the topic that it came on."""

_SYNONYMS = {
    "id": "message_id",
    "type": "event_type",
    "time": "timestamp",
    "to": "recipient",
    "email": "recipient",
    "payload": "data",
    "language": "locale",
    "expires": "expires_at",
    "expiry": "expires_at",
    "expirytime": "expires_at",
    "revision": "template_revision",
}


def _names(members: Mapping[str, str], prefix: str = "") -> dict[str, str]:
    return {event_field: prefix + name for name, event_field in members.items()}


_HEADER_NAMES = (CLOUD_EVENT_MEMBERS.keys() - {"data"}) | {"specversion"}
_PLAIN_NAMES = _names(PLAIN_MEMBERS)
_STRUCTURED_NAMES = _names(CLOUD_EVENT_MEMBERS) | _names(DATA_MEMBERS, "data.")
_BINARY_NAMES = _names(CLOUD_EVENT_MEMBERS, "ce_") | _names(DATA_MEMBERS, "data.") | {"data": "data"}


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """An event's members by the names of `Event`, and the names that the publisher used (for problems)."""

    members: dict[str, Any]
    names: Mapping[str, str]
    cloud: bool
    """Whether it is a CloudEvent, whose time is optional."""
    problems: list[Problem] = field(default_factory=list)


def open_envelope(value: bytes, headers: Headers, topic: str) -> OpenedEnvelope:
    """Unwrap a record. Raises Rejected when it cannot be read at all."""
    content_type, binary = "", False
    for name, content in headers:
        lower = name.lower()
        if lower == "content-type":
            content_type = (content or b"").decode("utf-8", "replace").lower()
        elif lower.startswith("ce_"):
            binary = True
    media_type = content_type.partition(";")[0].strip()
    if media_type == "application/cloudevents+json":
        return _structured(strict_json.load_json(value))
    if binary:
        return _binary(value, headers, media_type)
    if media_type and not _is_json(media_type):
        rule = f"is {media_type[:80]!r}; write application/json or application/cloudevents+json"
        raise Rejected(Problem(Code.CONTENT_TYPE_UNSUPPORTED, "content-type", rule))
    members = strict_json.load_json(value)
    if isinstance(members, dict) and "specversion" in members:
        return _structured(members)
    return _plain(members, topic)


def _plain(envelope: Any, topic: str) -> OpenedEnvelope:
    if not isinstance(envelope, dict):
        raise _not_an_object(envelope)
    opened = OpenedEnvelope({"source": f"kafka://{topic}"}, _PLAIN_NAMES, cloud=False)
    for name, content in envelope.items():
        if event_field := PLAIN_MEMBERS.get(name):
            opened.members[event_field] = content
        elif name not in IGNORED_MEMBERS and len(opened.problems) < MAX_PROBLEMS:
            hint = did_you_mean(name, PLAIN_MEMBERS, _SYNONYMS)
            rule = f"is not a member of the envelope{hint or '; values of the letter go into data'}"
            opened.problems.append(Problem(Code.FIELD_UNKNOWN, _short(name), rule))
    return opened


def _structured(envelope: Any) -> OpenedEnvelope:
    if not isinstance(envelope, dict):
        raise _not_an_object(envelope)
    opened = OpenedEnvelope(
        {
            CLOUD_EVENT_MEMBERS[name]: content
            for name, content in envelope.items()
            if name in CLOUD_EVENT_MEMBERS
        },
        _STRUCTURED_NAMES,
        cloud=True,
    )
    _check_version(envelope.get("specversion"), "specversion", opened)
    content_type = envelope.get("datacontenttype")
    if isinstance(content_type, str):
        _check_data_type(content_type.partition(";")[0].strip().lower(), "datacontenttype", opened)
    if "data_base64" in envelope:
        _decode_data(envelope, opened)
    _extract_data_members(opened)
    return opened


def _binary(value: bytes, headers: Headers, media_type: str) -> OpenedEnvelope:
    opened = OpenedEnvelope({}, _BINARY_NAMES, cloud=True)
    seen: set[str] = set()
    version = None
    for header, content in headers:
        name = header.lower().removeprefix("ce_")
        if content is None or len(name) == len(header) or name not in _HEADER_NAMES:
            continue
        if name in seen:
            opened.problems.append(Problem(Code.DUPLICATE_KEY, f"ce_{name}", "occurs twice; send it once"))
        seen.add(name)
        text = _header_text(f"ce_{name}", content, opened)
        if name == "specversion":
            version = text
        else:
            opened.members[CLOUD_EVENT_MEMBERS[name]] = text
    _check_version(version, "ce_specversion", opened)
    _check_data_type(media_type, "content-type", opened)
    try:
        opened.members["data"] = strict_json.load_json(value, "data")
    except Rejected as rejected:
        opened.members["data"] = {}
        opened.problems.extend(rejected.problems)
    _extract_data_members(opened)
    return opened


def _header_text(name: str, content: bytes, opened: OpenedEnvelope) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        opened.problems.append(Problem(Code.FIELD_INVALID, name, "is not UTF-8 text"))
        return "?"


def _decode_data(envelope: dict[str, Any], opened: OpenedEnvelope) -> None:
    opened.members["data"] = {}
    if "data" in envelope:
        rule = "and data exclude each other; send one of them"
        opened.problems.append(Problem(Code.FIELD_INVALID, "data_base64", rule))
        return
    try:
        opened.members["data"] = strict_json.load_json(
            binascii.a2b_base64(envelope["data_base64"], strict_mode=True), "data"
        )
    except (ValueError, TypeError):
        opened.problems.append(Problem(Code.FIELD_INVALID, "data_base64", "is not base64"))
    except Rejected as rejected:
        opened.problems.extend(rejected.problems)


def _extract_data_members(opened: OpenedEnvelope) -> None:
    data = opened.members.get("data")
    if isinstance(data, dict):
        for name, event_field in DATA_MEMBERS.items():
            if name in data:
                opened.members[event_field] = data.pop(name)


def _check_version(version: Any, name: str, opened: OpenedEnvelope) -> None:
    if version is None:
        opened.problems.append(Problem(Code.FIELD_MISSING, name, "is required in a CloudEvent; send 1.0"))
    elif version != "1.0":
        opened.problems.append(
            Problem(Code.FIELD_INVALID, name, "is not 1.0, the supported version of CloudEvents")
        )


def _check_data_type(media_type: str, name: str, opened: OpenedEnvelope) -> None:
    if media_type and not _is_json(media_type):
        rule = f"is {media_type[:80]!r}; the data of a letter is application/json"
        opened.problems.append(Problem(Code.CONTENT_TYPE_UNSUPPORTED, name, rule))


def _is_json(media_type: str) -> bool:
    if media_type.startswith("application/cloudevents"):
        return False
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")


def _not_an_object(value: Any) -> Rejected:
    rule = f"is a JSON {_kind(value)}; an event is one JSON object"
    return Rejected(Problem(Code.FIELD_INVALID, "value", rule))


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "text", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")


def _short(name: str) -> str:
    return name if len(name) <= 64 and name.isprintable() else ascii(name[:60])[1:-1] + "…"
