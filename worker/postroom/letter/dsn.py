"""Reports about letters: delivery status notifications (RFC 3464, RFC 6533), complaints, automatic replies.

Input: the bytes of a message that came to a return path, whole or truncated, from an untrusted sender.
Output: always a `ParsedReport`; no input raises an exception, and an unreadable message gives an entry of
kind UNPARSED. Attached messages, such as the returned letter, are not searched for reports but only for
return paths. What follows from a report is decided in `policy.bounces`.
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
    """The kind of a report. The first five are the actions of RFC 3464 §2.3.3."""

    FAILED = "failed"
    """The letter could not be delivered."""
    DELAYED = "delayed"
    """The letter is not delivered yet; the mail system is still trying."""
    DELIVERED = "delivered"
    """The letter was delivered to the mailbox."""
    RELAYED = "relayed"
    """The letter was passed to a system that sends no reports."""
    EXPANDED = "expanded"
    """The letter was delivered to a list or an alias and sent on to its members."""
    COMPLAINT = "complaint"
    """An abuse report of the recipient's provider (RFC 5965)."""
    IGNORED = "ignored"
    """An automatic reply without information about the delivery, such as a vacation notice or a read receipt.
    """
    UNPARSED = "unparsed"
    """A message without a report that can be parsed; it is kept for a person."""


DSN_ACTIONS = (
    ReportKind.FAILED,
    ReportKind.DELAYED,
    ReportKind.DELIVERED,
    ReportKind.RELAYED,
    ReportKind.EXPANDED,
)


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """The part of a report that is about one recipient."""

    kind: ReportKind
    status: str = ""
    """The most specific enhanced status code of the report (RFC 3463), such as `5.1.1`."""
    text: str = ""
    """The diagnostic text of the reporting mail system; may hold personal data."""
    mta: str = ""
    """The reporting mail system."""
    recipients: tuple[str, ...] = ()
    """The final and the original recipient, in lower case."""


@dataclass(frozen=True, slots=True)
class ParsedReport:
    """The report in one message."""

    fingerprint: str
    """Equal when the same message arrives again."""
    entries: tuple[ReportEntry, ...]
    """At least one."""
    paths: tuple[str, ...] = ()
    """Texts in the message in the form of a return path, for a report that came to another address."""


_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)", re.ASCII)


def enhanced_status_in(text: str) -> str:
    """The first enhanced status code in a text; empty if there is none."""
    found = _STATUS.search(text)
    return found[1] if found else ""


def most_specific_status(status: str, diagnostic: str) -> str:
    """The more specific of the status field and the status that the diagnostic text quotes.

    Some systems write `5.0.0` as the status and quote the reply of the remote system in the diagnostic text.
    """
    own = enhanced_status_in(status)
    if own and not own.endswith(".0.0"):
        return own
    quoted = enhanced_status_in(diagnostic)
    return quoted if quoted and quoted[0] == (own or quoted)[0] else own


DELIVERY_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
MAX_GROUPS = 16
"""A letter has one recipient, but a list that it was sent to may have more."""
MAX_TEXT_CHARACTERS = 500

_ACTIONS = {kind.value: kind for kind in DSN_ACTIONS}
_KIND_OF_STATUS_CLASS = {"5": ReportKind.FAILED, "4": ReportKind.DELAYED}
"""The kind where the Action field is missing, although RFC 3464 requires it."""
_BLANK_LINES = re.compile(r"\n[ \t]*\n")


def report_entries(part: Message) -> Iterator[ReportEntry]:
    """The entries of a part of one of DELIVERY_STATUS_TYPES.

    The first group of fields is about the whole message, each further group about one recipient.
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
    """The groups of fields, whichever structure the parser made of them."""
    payload = part.get_payload()
    blocks = payload if isinstance(payload, list) else []
    found = [each for each in blocks if isinstance(each, Message)]
    if (
        part.get_content_type() == "message/global-delivery-status"
    ):  # parsed as a message: groups are in its body
        return [*found, *(group for each in found for group in _parse_groups(str(each.get_payload())))]
    if any(name in each for each in found for name in ("Action", "Status")):
        return found
    return _parse_groups(_decoded(part, "\n\n".join(str(each.get_payload()) for each in found)))


def _decoded(part: Message, text: str) -> str:
    """Decode the text of a part; the standard forbids a transfer encoding here, but some systems use one."""
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    raw = text.encode("ascii", "replace")
    if encoding == "base64":
        return b64decode(raw).decode("utf-8", "replace")
    return decodestring(raw).decode("utf-8", "replace") if encoding == "quoted-printable" else text


def _parse_groups(text: str) -> list[Message]:
    blocks = _BLANK_LINES.split(text.replace("\r\n", "\n"))
    return [HeaderParser().parsestr(block.strip("\n")) for block in blocks if block.strip()]


def _field(group: Message, name: str) -> str:
    """The value of a field on one line; of a repeated field the first."""
    return " ".join(str(group.get(name, "")).split())


def _value(group: Message, name: str) -> str:
    """The value after the type in a typed field such as `dns; mx.example.org`."""
    field = _field(group, name)
    _, semicolon, value = field.partition(";")
    return (value if semicolon else field).strip()[:255]


def _address(group: Message, which: str) -> str:
    return _value(group, f"{which}-Recipient").strip("<>").lower()


MAX_REPORT_BYTES = 256 * 1024
"""Only this beginning of a message is parsed: a report stands before the message that it returns."""
MAX_BOUNDARIES = 24
"""The most boundaries that a message may declare: the cost of parsing grows with their depth."""
MAX_RETURN_PATHS = 8
COMPLAINT_TYPES = frozenset({"abuse", "fraud", "opt-out", "opt-out-list"})
"""Feedback types that a person caused (RFC 5965 §3.1), unlike virus, auth-failure and not-spam."""

_IGNORED_REPORT_TYPES = frozenset({"multipart/report; disposition-notification"})


def parse_report(content: bytes) -> ParsedReport:
    """Parse the report in a message; never raises."""
    content = content[:MAX_REPORT_BYTES]
    if content.lower().count(b"boundary") > MAX_BOUNDARIES:
        return ParsedReport(
            _fingerprint(None, content), (ReportEntry(ReportKind.UNPARSED, text="too many parts"),)
        )
    try:
        message = message_from_bytes(content)
        entries = tuple(_entries(message))
        name = str(message.get("Message-ID", "")).strip()
    except Exception:  # noqa: BLE001 - untrusted bytes; the parser raises many types
        return ParsedReport(
            _fingerprint(None, content), (ReportEntry(ReportKind.UNPARSED, text="cannot be parsed"),)
        )
    paths = tuple(dict.fromkeys(find_return_paths(content.decode("ascii", "replace"))))[:MAX_RETURN_PATHS]
    return ParsedReport(_fingerprint(name, content), entries or (_unparsed(message),), paths)


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
    if (reason := _automatic_reason(message)) is not None:
        yield ReportEntry(ReportKind.IGNORED, text=reason)


def _parts(message: Message) -> Iterator[Message]:
    """The message and its parts, without the parts of attached messages."""
    queue = [message]
    while queue:
        part = queue.pop(0)
        yield part
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            queue += [each for each in payload if isinstance(each, Message)]


def _complaint(part: Message) -> ReportEntry:
    """The entry of a feedback report (RFC 5965 §3); the parser takes its fields for an attached message."""
    payload = part.get_payload()
    fields = payload[0] if isinstance(payload, list) and payload else part
    assert isinstance(fields, Message)
    kind = " ".join(str(fields.get("Feedback-Type", "")).split()).lower()
    text = f"feedback-report: {kind or 'without a type'}"
    if kind not in COMPLAINT_TYPES:
        return ReportEntry(ReportKind.IGNORED, text=text[:80])
    agent = " ".join(str(fields.get("User-Agent", "")).split())
    return ReportEntry(ReportKind.COMPLAINT, text=text, mta=agent[:255])


def _automatic_reason(message: Message) -> str | None:
    """The field that marks a message as an automatic reply (RFC 3834 §5, its predecessors, RFC 8098)."""
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
    """A digest of the Message-ID; without one, of the body, because trace headers differ between copies."""
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    what = name.encode("utf-8", "replace") if name else body or head
    return blake2b(what, digest_size=16, person=b"report").hexdigest()
