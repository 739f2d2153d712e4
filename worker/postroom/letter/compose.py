"""The parts of a letter → the bytes that an SMTP client sends after DATA.

`compose` is deterministic: boundaries come from the Message-ID, the date is an argument. The bytes are in
CRLF lines of at most 998 octets, dot-stuffed (RFC 5321 §4.5.2), end in CRLF and lack only the final lone
dot. No message tree is built: header and body are written straight away, which costs a twentieth of
what `email.message` takes. Whatever could begin a header of its own is refused (`Rejected`).
"""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote

from postroom.letter.event import Attachment
from postroom.letter.mailboxes import read_mailboxes
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.render import Rendered, Sender
from postroom.letter.wire.encodedword import extra_field, field, mailbox, refuse_address, refuse_control
from postroom.letter.wire.transfer import encode_file, encode_html, encode_text

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FIXED = "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: OOF, AutoReply\r\n"
"""RFC 3834 §5, and the same for Exchange: no holiday notices, please."""


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
    inner, outer = boundaries(identity, (text, html))
    head = "".join(
        (
            _from(rendered.sender or sender),
            f"To: {to}\r\n",
            field("Subject", rendered.subject),
            f"\r\nDate: {format_date(date)}\r\nMessage-ID: <{identity}>\r\nMIME-Version: 1.0\r\n",
            _marks(rendered.template, rendered.revision, rendered.language),
            _options(rendered),
            _opening(inner, outer if rendered.attachments else None),
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {text_encoding}\r\n\r\n",
        )
    ).encode()
    middle = (
        f"\r\n--{inner}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {html_encoding}\r\n\r\n"
    ).encode()
    parts = [head, text, middle, html, f"\r\n--{inner}--\r\n".encode()]
    if rendered.attachments:
        parts += [_file(attachment, outer) for attachment in rendered.attachments]
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


def boundaries(identity: str, bodies: tuple[bytes, ...]) -> tuple[str, str]:
    """Two boundaries that no body contains, the same at every attempt."""
    salt = 0
    while True:
        stem = "=_" + blake2b(f"{salt}{identity}".encode(), digest_size=12).hexdigest()
        if not any(stem.encode() in body for body in bodies):
            return f"{stem}.a", f"{stem}.m"
        salt += 1


def format_date(date: datetime) -> str:
    """RFC 5322 §3.3, in UTC and in English whatever the locale."""
    d = date if date.tzinfo is UTC else date.astimezone(UTC)
    return (
        f"{DAYS[d.weekday()]}, {d.day:02d} {MONTHS[d.month - 1]} {d.year:04d}"
        f" {d.hour:02d}:{d.minute:02d}:{d.second:02d} +0000"
    )


def _file(attachment: Attachment, outer: str) -> bytes:
    name = attachment.filename
    refuse_control("attachment", name)
    refuse_control("attachment", attachment.content_type)
    head = (
        f"\r\n--{outer}\r\nContent-Type: {attachment.content_type}\r\n"
        f"Content-Disposition: attachment;\r\n {_filename(name)}\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + encode_file(attachment.content)


def _filename(name: str) -> str:
    """The parameter, in RFC 2231 form when it is not plain (§4), in one line."""
    if name.isascii() and '"' not in name and "\\" not in name and "=?" not in name:
        return f'filename="{name}"'
    return f"filename*=utf-8''{quote(name, safe='')}"
