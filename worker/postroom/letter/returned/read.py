"""A message that came to a return path → Report: delivery status, complaint, somebody's program, or unread.

In: bytes from a stranger, the whole message or the beginning of it. Out: a Report, always: what cannot be
read is of kind UNPARSED, and no input makes this raise. What is attached (the letter that came back, above
all) is never looked into for reports: it is for the search of return paths alone.
"""

from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from hashlib import blake2b

from postroom.letter.returned import delivery_status
from postroom.letter.returned.report import Kind, Report, Said
from postroom.letter.returnpath import paths_in

READ_BYTES = 256 * 1024
"""So much of a message is read: reports come before what they return."""
MOST_PARTS = 24
"""Boundaries that a message may declare: the parser's cost grows with their depth."""
MOST_PATHS = 8
COMPLAINTS = frozenset({"abuse", "fraud", "opt-out", "opt-out-list"})
"""RFC 5965 §3.1 and its registry: what a person said, unlike virus, auth-failure and not-spam."""

_SAYS_NOTHING = frozenset({"multipart/report; disposition-notification"})


def read_report(content: bytes) -> Report:
    """What a message says; never raises."""
    content = content[:READ_BYTES]
    if content.lower().count(b"boundary") > MOST_PARTS:
        return Report(_fingerprint(None, content), (Said(Kind.UNPARSED, text="too many parts"),))
    try:
        message = message_from_bytes(content)
        said, name = tuple(_said(message)), str(message.get("Message-ID", "")).strip()
    except Exception:  # noqa: BLE001 - a stranger's bytes; the library raises what it likes
        return Report(_fingerprint(None, content), (Said(Kind.UNPARSED, text="not legible"),))
    paths = tuple(dict.fromkeys(paths_in(content.decode("ascii", "replace"))))[:MOST_PATHS]
    return Report(_fingerprint(name, content), said or (_unparsed(message),), paths)


def _said(message: Message) -> Iterator[Said]:
    parts = list(_parts(message))
    for part in parts:
        if part.get_content_type() in delivery_status.TYPES:
            yield from delivery_status.said_in(part)
            return
    for part in parts:
        if part.get_content_type() == "message/feedback-report":
            yield _complaint(part)
            return
    if (why := _is_automatic(message)) is not None:
        yield Said(Kind.IGNORED, text=why)


def _parts(message: Message) -> Iterator[Message]:
    """The message and its parts, not what is inside an attached message."""
    waiting = [message]
    while waiting:
        part = waiting.pop(0)
        yield part
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            waiting += [each for each in payload if isinstance(each, Message)]


def _complaint(part: Message) -> Said:
    """RFC 5965 §3: the fields are the attached message's headers, as the parser sees it."""
    payload = part.get_payload()
    fields = payload[0] if isinstance(payload, list) and payload else part
    assert isinstance(fields, Message)
    kind = " ".join(str(fields.get("Feedback-Type", "")).split()).lower()
    told = f"feedback-report: {kind or 'of no type'}"
    if kind not in COMPLAINTS:
        return Said(Kind.IGNORED, text=told[:80])
    agent = " ".join(str(fields.get("User-Agent", "")).split())
    return Said(Kind.COMPLAINT, text=told, mta=agent[:255])


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
    return kind if kind in _SAYS_NOTHING else None


def _unparsed(message: Message) -> Said:
    return Said(Kind.UNPARSED, text=f"{message.get_content_type()[:80]} without a report that can be read")


def _fingerprint(name: str | None, content: bytes) -> str:
    """By the Message-ID; by the content without its header where there is none, for a trace grows on the
    way.
    """
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    what = name.encode("utf-8", "replace") if name else body or head
    return blake2b(what, digest_size=16, person=b"report").hexdigest()
