"""The parts of a letter → the bytes that an SMTP client sends after DATA.

`compose` is deterministic: boundaries come from the Message-ID, the date is an argument. The bytes are in
CRLF lines of at most 998 octets, dot-stuffed (RFC 5321 §4.5.2), end in CRLF and lack only the final lone
dot. Images that the HTML refers to travel beside it in multipart/related, files around both in
multipart/mixed (docs/decisions/0040). No message tree is built: header and body are written straight away,
which costs a twentieth of what `email.message` takes. Whatever could begin a header of its own is refused
(`Rejected`).
"""

from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

from postroom.letter.event import Attachment
from postroom.letter.inline_parts import arrange
from postroom.letter.mailboxes import read_mailboxes
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.reading.attachment import content_id_rule, read_content_type
from postroom.letter.render import Rendered, Sender
from postroom.letter.wire.encodedword import extra_field, field, mailbox, refuse_address, refuse_control
from postroom.letter.wire.transfer import encode_file, encode_html, encode_text

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FIXED = "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: OOF, AutoReply\r\n"
"""RFC 3834 §5, and the same for Exchange: no holiday notices, please."""

CONTENT_TYPE_LINE = 62
"""Characters of a content type that stand on one line of 78 with the field's name."""


def compose(rendered: Rendered, *, to: str, sender: Sender, message_id: str, date: datetime) -> bytes:
    """The letter's bytes. `sender` is the profile's, for templates without a `from`. Raises Rejected.

    `to` is one bare address; `message_id` is `local@domain`, with or without its angle brackets; `date`
    is aware.
    """
    identity = message_id.strip("<>")
    refuse_address("Message-ID", identity)
    refuse_address("To", to)
    text_encoding, text = encode_text(rendered.text)
    html_encoding, html = encode_html(rendered.html)
    inner, outer, related = boundaries(identity, (text, html))
    arranged = arrange(rendered.html, rendered.attachments)
    invitation = next(filter(_is_invitation, arranged.files), None)
    head = "".join(
        (
            _from(rendered.sender or sender),
            f"To: {to}\r\n",
            field("Subject", rendered.subject),
            f"\r\nDate: {format_date(date)}\r\nMessage-ID: <{identity}>\r\nMIME-Version: 1.0\r\n",
            _marks(rendered.template, rendered.revision, rendered.language),
            _options(rendered),
            _opening(inner, outer if arranged.files else None),
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {text_encoding}\r\n\r\n",
        )
    ).encode()
    middle = (
        f"\r\n--{inner}\r\n{_related_opening(related) if arranged.inline else ''}"
        "Content-Type: text/html; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {html_encoding}\r\n\r\n"
    ).encode()
    parts = [head, text, middle, html]
    if arranged.inline:
        parts += [_inline_part(content_id, attachment, related) for content_id, attachment in arranged.inline]
        parts.append(f"--{related}--\r\n".encode())
    if invitation:
        parts.append(_invitation(invitation, inner))
    parts.append(f"\r\n--{inner}--\r\n".encode())
    if arranged.files:
        parts += [_file(attachment, outer) for attachment in arranged.files]
        parts.append(f"--{outer}--\r\n".encode())
    return b"".join(parts).replace(b"\r\n.", b"\r\n..")


@lru_cache(maxsize=256)
def _from(sender: Sender) -> str:
    return f"From: {mailbox('From', sender.name, sender.address)}\r\n"


@lru_cache(maxsize=1024)
def _marks(template: str, revision: str, language: str) -> str:
    """What is the same in every letter of a template."""
    lines = (field("X-Postroom-Template", f"{template}@{revision}"), field("Content-Language", language))
    return FIXED + "".join(f"{line}\r\n" for line in lines)


def _options(rendered: Rendered) -> str:
    lines = [extra_field(name, value) for name, value in rendered.headers]
    if rendered.reply_to:
        lines.append(_reply_to(rendered.reply_to))
    if rendered.unsubscribe:
        refuse_control("List-Unsubscribe", rendered.unsubscribe)
        if any(sign in rendered.unsubscribe for sign in "<> ") or len(rendered.unsubscribe) > 900:
            raise Rejected(Problem(Code.FIELD_INVALID, "List-Unsubscribe", "not a URL that fits a header"))
        lines.append(f"List-Unsubscribe: <{rendered.unsubscribe}>")
        lines.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    return "".join(f"{line}\r\n" for line in lines)


@lru_cache(maxsize=256)
def _reply_to(text: str) -> str:
    """The mailboxes, each on a line of its own."""
    mailboxes = read_mailboxes(text, "Reply-To", quote=False)
    return "Reply-To: " + ",\r\n ".join(mailbox("Reply-To", name, address) for name, address in mailboxes)


def _opening(inner: str, outer: str | None) -> str:
    alternative = f'Content-Type: multipart/alternative; boundary="{inner}"\r\n\r\n--{inner}\r\n'
    if outer is None:
        return alternative
    return f'Content-Type: multipart/mixed; boundary="{outer}"\r\n\r\n--{outer}\r\n{alternative}'


def _related_opening(boundary: str) -> str:
    """The head of the part that holds the HTML, which is its root (RFC 2387 §3.2), and its images."""
    field_body = f'multipart/related; boundary="{boundary}";\r\n type="text/html"'
    return f"Content-Type: {field_body}\r\n\r\n--{boundary}\r\n"


def boundaries(identity: str, bodies: tuple[bytes, ...]) -> tuple[str, str, str]:
    """Three boundaries that no body contains, the same at every attempt."""
    salt = 0
    while True:
        stem = "=_" + blake2b(f"{salt}{identity}".encode(), digest_size=12).hexdigest()
        if not any(stem.encode() in body for body in bodies):
            return f"{stem}.a", f"{stem}.m", f"{stem}.r"
        salt += 1


def format_date(date: datetime) -> str:
    """RFC 5322 §3.3, in UTC and in English whatever the locale."""
    d = date if date.tzinfo is UTC else date.astimezone(UTC)
    return (
        f"{DAYS[d.weekday()]}, {d.day:02d} {MONTHS[d.month - 1]} {d.year:04d}"
        f" {d.hour:02d}:{d.minute:02d}:{d.second:02d} +0000"
    )


def _file(attachment: Attachment, boundary: str) -> bytes:
    disposition = f"Content-Disposition: attachment;\r\n {_filename(attachment.filename)}\r\n"
    return _part(attachment, boundary, disposition)


def _inline_part(content_id: str, attachment: Attachment, boundary: str) -> bytes:
    """A part that the HTML refers to by `cid:` (RFC 2392)."""
    if rule := content_id_rule(content_id):
        raise Rejected(Problem(Code.ATTACHMENT_INVALID, "Content-ID", rule))
    disposition = f"Content-Disposition: inline;\r\n {_filename(attachment.filename)}\r\n"
    return _part(attachment, boundary, f"Content-ID: <{content_id}>\r\n{disposition}")


def _is_invitation(attachment: Attachment) -> bool:
    """Whether it is a calendar object with a method (RFC 6047 §2.4), which a client offers to answer."""
    kind = read_content_type(attachment.content_type)
    return kind.media_type == "text/calendar" and bool(kind.parameter("method"))


def _invitation(attachment: Attachment, boundary: str) -> bytes:
    """The calendar object once more as an alternative to text and HTML: Outlook looks for it nowhere else."""
    kind = read_content_type(attachment.content_type)
    # a name would make clients show this copy as a second file
    unnamed = [f"{name}={value}" for name, value in kind.parameters if name != "name"]
    content_type = "; ".join([kind.media_type, *unnamed])
    return _part(replace(attachment, content_type=content_type), boundary, "")


def _part(attachment: Attachment, boundary: str, lines: str) -> bytes:
    refuse_control("attachment", attachment.filename)
    refuse_control("attachment", attachment.content_type)
    head = (
        f"\r\n--{boundary}\r\nContent-Type: {_content_type(attachment.content_type)}\r\n{lines}"
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + encode_file(attachment.content)


def _content_type(text: str) -> str:
    """The value as it was written; a long one with each parameter on a line of its own."""
    if len(text) <= CONTENT_TYPE_LINE:
        return text
    kind = read_content_type(text)
    return ";\r\n ".join([kind.media_type, *(f"{name}={value}" for name, value in kind.parameters)])


def _filename(name: str) -> str:
    """The parameter, in RFC 2231 form when it is not plain (§4), in one line."""
    if name.isascii() and '"' not in name and "\\" not in name and "=?" not in name:
        return f'filename="{name}"'
    return f"filename*=utf-8''{quote(name, safe='')}"
