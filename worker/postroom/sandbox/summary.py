"""What the list shows of a letter: envelope and raw bytes → `Summary`.

This runs once for every captured letter, in the writer's thread, so it reads the header block only and takes
the letter apart only when a header speaks of a file.
"""

import re
from dataclasses import dataclass, field

from postroom.sandbox.mime import Headers, read_headers, readable, take_apart

MAX_FIELD = 2000

# Searched in the letter in lower case, behind a line end: a literal beginning makes that ten times quicker.
_NAMES_A_FILE = re.compile(
    rb"\ncontent-(?:disposition|type):[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*?(?:name|attachment)"
)
_NO_TEXT = re.compile(rb"\ncontent-type:[ \t]*(?!text/|multipart/)")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the SMTP dialogue said: who wrote, to whom, and from which network address it came."""

    mail_from: str
    recipients: tuple[str, ...]
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the inbox. Times are milliseconds since 1970, UTC; `id` is 0 until the letter is stored."""

    id: int
    received_at: int
    mail_from: str
    recipients: tuple[str, ...]
    sender: str
    subject: str
    message_id: str
    date: str
    template: str
    revision: str
    size: int
    attachments: int
    read: bool = False
    peer: str = field(default="")


def summarize(envelope: Envelope, raw: bytes, received_at: int) -> Summary:
    """Read the header block of a letter; a malformed one gives empty fields, never an error."""
    headers, _ = read_headers(raw)
    template, _, revision = _value(headers, "x-postroom-template").partition("@")
    return Summary(
        id=0,
        received_at=received_at,
        mail_from=envelope.mail_from,
        recipients=envelope.recipients,
        sender=_value(headers, "from"),
        subject=_value(headers, "subject"),
        message_id=_value(headers, "message-id"),
        date=_value(headers, "date"),
        template=template,
        revision=revision,
        size=len(raw),
        attachments=_count_attachments(raw),
        peer=envelope.peer,
    )


def _value(headers: Headers, name: str) -> str:
    found = next((value for key, value in headers if key.lower() == name), "")
    return readable(found[: 4 * MAX_FIELD])[:MAX_FIELD]


def _count_attachments(raw: bytes) -> int:
    lowered = b"\n" + raw.lower()
    if not (_NAMES_A_FILE.search(lowered) or _NO_TEXT.search(lowered)):
        return 0
    return len(take_apart(raw).attachments)
