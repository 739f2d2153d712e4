"""A report about a letter, as facts: what kind it is and what it says, and nothing of what follows
from it.

Delivery status notifications (RFC 3464, RFC 6533): the parts of a message in, what each recipient's
group says out.

A message that came to a return path → Report: delivery status, complaint, somebody's program, or unread.

In: bytes from a stranger, the whole message or the beginning of it. Out: a Report, always: what cannot be
read is of kind UNPARSED, and no input makes this raise. What is attached (the letter that came back, above
all) is never looked into for reports: it is for the search of return paths alone.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.parser import HeaderParser
from enum import StrEnum
from hashlib import blake2b
from quopri import decodestring

from postroom.letter.verp import find_return_paths


class ReportKind(StrEnum):
    """What a message to a return path is. The first five are the actions of RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    COMPLAINT = "complaint"
    """An abuse report (RFC 5965)."""
    IGNORED = "ignored"
    """A program's answer that says nothing of the delivery: a vacation notice, a read receipt."""
    UNPARSED = "unparsed"
    """None that a program can read: kept for a person."""


DSN_ACTIONS = (
    ReportKind.FAILED,
    ReportKind.DELAYED,
    ReportKind.DELIVERED,
    ReportKind.RELAYED,
    ReportKind.EXPANDED,
)


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """What a report says of one recipient."""

    kind: ReportKind
    status: str = ""
    """RFC 3463, `5.1.1`; the most telling that the report has."""
    text: str = ""
    """The words of the mail system that spoke; may name people."""
    mta: str = ""
    """Who reports it."""
    recipients: tuple[str, ...] = ()
    """The addresses that it is about, in lower case: the final one, and the one that was written to."""


@dataclass(frozen=True, slots=True)
class ParsedReport:
    """One message that came back."""

    fingerprint: str
    """The same when the same message comes again."""
    entries: tuple[ReportEntry, ...]
    """At least one."""
    paths: tuple[str, ...] = ()
    """What it quotes that may be a return path, for a report that came to another address."""


_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)


def enhanced_status_in(text: str) -> str:
    """The first enhanced status code in a text; empty where there is none."""
    found = _STATUS.search(text)
    return found[1] if found else ""


def most_specific_status(status: str, diagnostic: str) -> str:
    """The status of a report. Some systems write 5.0.0 and leave the rest to what the other side had said."""
    said = enhanced_status_in(status)
    if said and not said.endswith(".0.0"):
        return said
    quoted = enhanced_status_in(diagnostic)
    return quoted if quoted and quoted[0] == (said or quoted)[0] else said


DELIVERY_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
MAX_GROUPS = 16
"""A letter has one recipient; a list that it went to may have had more."""
MAX_TEXT_CHARACTERS = 500

_ACTIONS = {kind.value: kind for kind in DSN_ACTIONS}
_KIND_OF_STATUS_CLASS = {"5": ReportKind.FAILED, "4": ReportKind.DELAYED}
"""Where an action is missing, which it must not be."""
_BLANK_LINES = re.compile(r"\n[ \t]*\n")


def report_entries(part: Message) -> Iterator[ReportEntry]:
    """What a part of one of TYPES says: its first group is of the whole message, each other of a
    recipient.
    """
    groups = [group for group in _groups(part) if group.keys()]
    mta = _value(groups[0], "Reporting-MTA") if groups else ""
    for group in groups[: MAX_GROUPS + 1]:
        if (entry := _recipient_entry(group, mta)) is not None:
            yield entry


def _recipient_entry(group: Message, mta: str) -> ReportEntry | None:
    diagnostic, status = _field(group, "Diagnostic-Code"), _field(group, "Status")
    enhanced_status = most_specific_status(status, diagnostic)
    action = _field(group, "Action").partition("(")[0].strip().lower()
    kind = _ACTIONS.get(action) or (None if action else _KIND_OF_STATUS_CLASS.get(enhanced_status[:1]))
    if kind is None:
        return None
    _, _, words = diagnostic.partition(";")
    return ReportEntry(
        kind,
        enhanced_status,
        (words or diagnostic).strip()[:MAX_TEXT_CHARACTERS],
        _value(group, "Remote-MTA") or mta,
        tuple(dict.fromkeys(filter(None, (_address(group, name) for name in ("Final", "Original"))))),
    )


def _groups(part: Message) -> Sequence[Message]:
    """The groups of fields, however the parser has left them."""
    payload = part.get_payload()
    blocks = payload if isinstance(payload, list) else []
    found = [each for each in blocks if isinstance(each, Message)]
    if part.get_content_type() == "message/global-delivery-status":  # taken for a letter: groups in its body
        return [*found, *(group for each in found for group in _parse_groups(str(each.get_payload())))]
    if any(name in each for each in found for name in ("Action", "Status")):
        return found
    return _parse_groups(_decoded(part, "\n\n".join(str(each.get_payload()) for each in found)))


def _decoded(part: Message, text: str) -> str:
    """The text of a part that was encoded, which the standard forbids and some do."""
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    raw = text.encode("ascii", "replace")
    if encoding == "base64":
        return b64decode(raw).decode("utf-8", "replace")
    return decodestring(raw).decode("utf-8", "replace") if encoding == "quoted-printable" else text


def _parse_groups(text: str) -> list[Message]:
    blocks = _BLANK_LINES.split(text.replace("\r\n", "\n"))
    return [HeaderParser().parsestr(block.strip("\n")) for block in blocks if block.strip()]


def _field(group: Message, name: str) -> str:
    """A field's value on one line; the first where it is repeated."""
    return " ".join(str(group.get(name, "")).split())


def _value(group: Message, name: str) -> str:
    """What is behind the type of a typed field: `dns; mx.example.org`."""
    field = _field(group, name)
    _, semicolon, value = field.partition(";")
    return (value if semicolon else field).strip()[:255]


def _address(group: Message, which: str) -> str:
    return _value(group, f"{which}-Recipient").strip("<>").lower()


MAX_REPORT_BYTES = 256 * 1024
"""So much of a message is read: reports come before what they return."""
MAX_BOUNDARIES = 24
"""Boundaries that a message may declare: the parser's cost grows with their depth."""
MAX_RETURN_PATHS = 8
COMPLAINT_TYPES = frozenset({"abuse", "fraud", "opt-out", "opt-out-list"})
"""RFC 5965 §3.1 and its registry: what a person said, unlike virus, auth-failure and not-spam."""

_IGNORED_REPORT_TYPES = frozenset({"multipart/report; disposition-notification"})


def parse_report(content: bytes) -> ParsedReport:
    """What a message says; never raises."""
    content = content[:MAX_REPORT_BYTES]
    if content.lower().count(b"boundary") > MAX_BOUNDARIES:
        return ParsedReport(
            _fingerprint(None, content), (ReportEntry(ReportKind.UNPARSED, text="too many parts"),)
        )
    try:
        message = message_from_bytes(content)
        said, name = tuple(_entries(message)), str(message.get("Message-ID", "")).strip()
    except Exception:  # noqa: BLE001 - a stranger's bytes; the library raises what it likes
        return ParsedReport(
            _fingerprint(None, content), (ReportEntry(ReportKind.UNPARSED, text="not legible"),)
        )
    paths = tuple(dict.fromkeys(find_return_paths(content.decode("ascii", "replace"))))[:MAX_RETURN_PATHS]
    return ParsedReport(_fingerprint(name, content), said or (_unparsed(message),), paths)


def _entries(message: Message) -> Iterator[ReportEntry]:
    parts = list(_parts(message))
    for part in parts:
        if part.get_content_type() in DELIVERY_STATUS_TYPES:
            yield from report_entries(part)
            return
    for part in parts:
        if part.get_content_type() == "message/feedback-report":
            yield _complaint(part)
            return
    if (why := _is_automatic(message)) is not None:
        yield ReportEntry(ReportKind.IGNORED, text=why)


def _parts(message: Message) -> Iterator[Message]:
    """The message and its parts, not what is inside an attached message."""
    waiting = [message]
    while waiting:
        part = waiting.pop(0)
        yield part
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            waiting += [each for each in payload if isinstance(each, Message)]


def _complaint(part: Message) -> ReportEntry:
    """RFC 5965 §3: the fields are the attached message's headers, as the parser sees it."""
    payload = part.get_payload()
    fields = payload[0] if isinstance(payload, list) and payload else part
    assert isinstance(fields, Message)
    kind = " ".join(str(fields.get("Feedback-Type", "")).split()).lower()
    told = f"feedback-report: {kind or 'of no type'}"
    if kind not in COMPLAINT_TYPES:
        return ReportEntry(ReportKind.IGNORED, text=told[:80])
    agent = " ".join(str(fields.get("User-Agent", "")).split())
    return ReportEntry(ReportKind.COMPLAINT, text=told, mta=agent[:255])


def _is_automatic(message: Message) -> str | None:
    """Why a message is a program's answer: RFC 3834 §5, what came before it, RFC 8098."""
    submitted = str(message.get("Auto-Submitted", "no")).partition(";")[0].strip().lower()
    if submitted not in ("no", ""):
        return f"Auto-Submitted: {submitted[:40]}"
    if str(message.get("Precedence", "")).strip().lower() in ("auto_reply", "auto-reply"):
        return "Precedence: auto_reply"
    for name in ("X-Autoreply", "X-Autorespond", "X-Auto-Response-Suppress"):
        if name in message:
            return name
    kind = f"{message.get_content_type()}; {str(message.get_param('report-type', '')).lower()}"
    return kind if kind in _IGNORED_REPORT_TYPES else None


def _unparsed(message: Message) -> ReportEntry:
    return ReportEntry(
        ReportKind.UNPARSED, text=f"{message.get_content_type()[:80]} without a report that can be read"
    )


def _fingerprint(name: str | None, content: bytes) -> str:
    """By the Message-ID; by the content without its header where there is none, for a trace grows on the
    way.
    """
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    what = name.encode("utf-8", "replace") if name else body or head
    return blake2b(what, digest_size=16, person=b"report").hexdigest()
