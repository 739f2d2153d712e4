"""Compose a letter: its rendered parts in, the bytes that an SMTP client sends after DATA out.

`compose_letter` is deterministic: boundaries are derived from the Message-ID, and the date is an argument.
The bytes are in CRLF lines of at most 998 octets (RFC 5322 §2.1.1), dot-stuffed (RFC 5321 §4.5.2), end in
CRLF and lack only the final dot. A value that could begin another header raises Rejected. Header and body are
written without a message tree, which costs a twentieth of `email.message`.

Structure (docs/decisions/0040): text and HTML are alternatives; images that the HTML refers to by `cid:` (RFC
2392) stand beside it in multipart/related; files stand around both in multipart/mixed. A part with a content
ID is always inline. An image without one is inline when the page refers to it by its file name,
`cid:logo.png`. All other attachments are files.

Bodies get the simplest transfer encoding that every relay accepts (RFC 2045 §6): ASCII in short lines is
7bit. HTML writes other characters as character references. Text with a few other characters is
quoted-printable, with many it is base64.
"""

import re
from binascii import b2a_base64, b2a_qp
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from html import unescape
from urllib.parse import quote, unquote

from postroom.letter.catalog import RenderedLetter, SenderMailbox
from postroom.letter.event import Attachment
from postroom.letter.mailboxes import read_mailboxes
from postroom.letter.mime.attachments import content_id_rule, read_content_type
from postroom.letter.mime.headers import (
    header_field,
    mailbox_field,
    reject_control_characters,
    reject_invalid_address,
    template_header,
)
from postroom.letter.problems import Code, Problem, Rejected

CONTROL_OCTETS = bytes(octet for octet in (*range(32), 127) if octet not in (9, 10))
RAW_ELEMENTS = (b"style", b"script", b"xmp")
"""Elements in which HTML has no character references."""
MAX_LINE_OCTETS = 990
"""Below 998, with room for a stuffed dot and the line end."""
BASE64_LINE = 76
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FIXED_HEADERS = "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: OOF, AutoReply\r\n"
"""RFC 3834 §5, and its equivalent for Exchange: no automatic replies."""
CONTENT_TYPE_LINE = 62
"""The longest content type that fits on one line of 78 characters with the field's name."""


# --- bodies -------------------------------------------------------------------------------------------------


def normalize_line_ends(text: str) -> str:
    """Replace CRLF and CR by LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encode_html(html: str) -> tuple[str, bytes]:
    """Encode an HTML body: its transfer encoding, and bytes in CRLF lines."""
    html = normalize_line_ends(html)
    if html.isascii() or not _references_suffice(html):
        return encode_text(html)
    octets = html.encode("ascii", "xmlcharrefreplace")
    return _plain(octets) or encode_text(html)


def _references_suffice(html: str) -> bool:
    """Whether character references can replace all non-ASCII characters at little cost in size."""
    octets = html.encode().lower()
    if (len(octets) - len(html)) * 16 > len(html):
        return False
    return all(_is_ascii_within(octets, name) for name in RAW_ELEMENTS)


def _is_ascii_within(page: bytes, name: bytes) -> bool:
    start = page.find(b"<" + name)
    while start >= 0:
        end = page.find(b"</" + name, start)
        if end < 0 or not page[start:end].isascii():
            return False
        start = page.find(b"<" + name, end)
    return True


def encode_text(text: str) -> tuple[str, bytes]:
    """Encode a text body: its transfer encoding, and bytes in CRLF lines."""
    text = normalize_line_ends(text)
    octets = text.encode()
    plain = _plain(octets) if len(octets) == len(text) else None
    if plain:
        return plain
    if len(octets) - len(text) > len(text) // 6:
        return "base64", encode_file(octets)
    return "quoted-printable", b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")


def _plain(octets: bytes) -> tuple[str, bytes] | None:
    """ASCII unchanged, if its lines are short and without control characters; else None."""
    if _has_long_line(octets) or len(octets.translate(None, CONTROL_OCTETS)) < len(octets):
        return None
    return "7bit", octets.replace(b"\n", b"\r\n")


def _has_long_line(octets: bytes) -> bool:
    """Whether a line exceeds MAX_LINE_OCTETS; looks for the last line end within each such stretch."""
    start = 0
    while len(octets) - start > MAX_LINE_OCTETS:
        start = octets.rfind(b"\n", start, start + MAX_LINE_OCTETS + 1) + 1
        if start == 0:
            return True
    return False


def encode_file(content: bytes) -> bytes:
    """Encode bytes as base64 in CRLF lines of 76 characters."""
    encoded = b2a_base64(content, newline=False)
    step = BASE64_LINE
    return b"".join(encoded[i : i + step] + b"\r\n" for i in range(0, len(encoded), step))


# --- inline parts -------------------------------------------------------------------------------------------

_REFERENCE = re.compile(r"""(?i)["'=(,]\s*cid:([^\s"'<>()\\,;]{1,300})""")
"""A reference in an attribute, quoted or not, in `url(…)`, or after the comma of a srcset."""


@dataclass(frozen=True, slots=True)
class AttachmentPlacement:
    """The attachments of a letter: inline parts and files."""

    inline: tuple[tuple[str, Attachment], ...]
    """Pairs of content ID and part."""
    files: tuple[Attachment, ...]


def cid_references(html: str) -> tuple[str, ...]:
    """The content IDs that a page refers to, each once, in order, without escapes."""
    if "cid:" not in html.lower():
        return ()
    found = _REFERENCE.findall(unescape(html))
    return tuple(dict.fromkeys(unquote(each) for each in found))


def place_attachments(html: str, attachments: Iterable[Attachment]) -> AttachmentPlacement:
    """Divide the attachments of a letter into inline parts and files."""
    files = tuple(attachments)
    referenced = frozenset(cid_references(html)) if files else frozenset[str]()
    named = {id(file): name for file in files if (name := placed_content_id(file, referenced))}
    return AttachmentPlacement(
        tuple((named[id(file)], file) for file in files if id(file) in named),
        tuple(file for file in files if id(file) not in named),
    )


def placed_content_id(file: Attachment, referenced: frozenset[str]) -> str | None:
    """The Content-ID of an attachment if it is inline, given the page's references; None for a file."""
    if file.content_id:
        return file.content_id
    return file.filename if file.filename in referenced and can_be_named_by_file(file) else None


def can_be_named_by_file(file: Attachment) -> bool:
    """Whether `cid:` may refer to it by its file name: it is an image, and the name needs no escape."""
    is_image = read_content_type(file.content_type).media_type.startswith("image/")
    return is_image and content_id_rule(file.filename) is None


# --- the message --------------------------------------------------------------------------------------------


def compose_letter(
    rendered: RenderedLetter, *, to: str, sender: SenderMailbox, message_id: str, date: datetime
) -> bytes:
    """Compose the letter's bytes. `sender` is the profile's, for templates without a `from`. Raises Rejected.

    `to` is one bare address; `message_id` is `local@domain`, with or without its angle brackets; `date`
    is aware.
    """
    identity = message_id.strip("<>")
    reject_invalid_address("Message-ID", identity)
    reject_invalid_address("To", to)
    text_encoding, text = encode_text(rendered.text)
    html_encoding, html = encode_html(rendered.html)
    inner, outer, related = boundaries(identity, (text, html))
    placement = place_attachments(rendered.html, rendered.attachments)
    invitation = next(filter(_is_invitation, placement.files), None)
    head = "".join(
        (
            _from(rendered.sender or sender),
            f"To: {to}\r\n",
            header_field("Subject", rendered.subject),
            f"\r\nDate: {format_date(date)}\r\nMessage-ID: <{identity}>\r\nMIME-Version: 1.0\r\n",
            _template_headers(rendered.template, rendered.revision, rendered.language),
            _optional_headers(rendered),
            _multipart_opening(inner, outer if placement.files else None),
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {text_encoding}\r\n\r\n",
        )
    ).encode()
    middle = (
        f"\r\n--{inner}\r\n{_related_opening(related) if placement.inline else ''}"
        "Content-Type: text/html; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {html_encoding}\r\n\r\n"
    ).encode()
    parts = [head, text, middle, html]
    if placement.inline:
        parts += [
            _inline_part(content_id, attachment, related) for content_id, attachment in placement.inline
        ]
        parts.append(f"--{related}--\r\n".encode())
    if invitation:
        parts.append(_invitation(invitation, inner))
    parts.append(f"\r\n--{inner}--\r\n".encode())
    if placement.files:
        parts += [_file(attachment, outer) for attachment in placement.files]
        parts.append(f"--{outer}--\r\n".encode())
    return b"".join(parts).replace(b"\r\n.", b"\r\n..")


@lru_cache(maxsize=256)
def _from(sender: SenderMailbox) -> str:
    return f"From: {mailbox_field('From', sender.name, sender.address)}\r\n"


@lru_cache(maxsize=1024)
def _template_headers(template: str, revision: str, language: str) -> str:
    """The headers that all letters of a template revision in one language share."""
    lines = (
        header_field("X-Postroom-Template", f"{template}@{revision}"),
        header_field("Content-Language", language),
    )
    return FIXED_HEADERS + "".join(f"{line}\r\n" for line in lines)


def _optional_headers(rendered: RenderedLetter) -> str:
    lines = [template_header(name, value) for name, value in rendered.headers]
    if rendered.reply_to:
        lines.append(_reply_to(rendered.reply_to))
    if rendered.unsubscribe:
        reject_control_characters("List-Unsubscribe", rendered.unsubscribe)
        if any(character in rendered.unsubscribe for character in "<> ") or len(rendered.unsubscribe) > 900:
            raise Rejected(Problem(Code.FIELD_INVALID, "List-Unsubscribe", "not a URL that fits a header"))
        lines.append(f"List-Unsubscribe: <{rendered.unsubscribe}>")
        lines.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    return "".join(f"{line}\r\n" for line in lines)


@lru_cache(maxsize=256)
def _reply_to(text: str) -> str:
    """The Reply-To field, each mailbox on its own line."""
    mailboxes = read_mailboxes(text, "Reply-To", quote=False)
    return "Reply-To: " + ",\r\n ".join(
        mailbox_field("Reply-To", name, address) for name, address in mailboxes
    )


def _multipart_opening(inner: str, outer: str | None) -> str:
    alternative = f'Content-Type: multipart/alternative; boundary="{inner}"\r\n\r\n--{inner}\r\n'
    if outer is None:
        return alternative
    return f'Content-Type: multipart/mixed; boundary="{outer}"\r\n\r\n--{outer}\r\n{alternative}'


def _related_opening(boundary: str) -> str:
    """The head of the multipart/related part; its root is the HTML (RFC 2387 §3.2)."""
    field_body = f'multipart/related; boundary="{boundary}";\r\n type="text/html"'
    return f"Content-Type: {field_body}\r\n\r\n--{boundary}\r\n"


def boundaries(identity: str, bodies: tuple[bytes, ...]) -> tuple[str, str, str]:
    """Three boundaries that occur in no body and are equal on every attempt."""
    salt = 0
    while True:
        stem = "=_" + blake2b(f"{salt}{identity}".encode(), digest_size=12).hexdigest()
        if not any(stem.encode() in body for body in bodies):
            return f"{stem}.a", f"{stem}.m", f"{stem}.r"
        salt += 1


def format_date(date: datetime) -> str:
    """A date in the format of RFC 5322 §3.3, in UTC and in English, independent of the process's locale."""
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
    """Whether it is a calendar object with a method (RFC 6047 §2.4), for which clients offer a reply."""
    kind = read_content_type(attachment.content_type)
    return kind.media_type == "text/calendar" and bool(kind.parameter("method"))


def _invitation(attachment: Attachment, boundary: str) -> bytes:
    """The calendar object a second time, as an alternative to text and HTML: Outlook reads it only there."""
    kind = read_content_type(attachment.content_type)
    # a name would make clients show this copy as a second file
    unnamed = [f"{name}={value}" for name, value in kind.parameters if name != "name"]
    content_type = "; ".join([kind.media_type, *unnamed])
    return _part(replace(attachment, content_type=content_type), boundary, "")


def _part(attachment: Attachment, boundary: str, lines: str) -> bytes:
    reject_control_characters("attachment", attachment.filename)
    reject_control_characters("attachment", attachment.content_type)
    head = (
        f"\r\n--{boundary}\r\nContent-Type: {_content_type(attachment.content_type)}\r\n{lines}"
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + encode_file(attachment.content)


def _content_type(text: str) -> str:
    """The value as it was written; a long value has each parameter on its own line."""
    if len(text) <= CONTENT_TYPE_LINE:
        return text
    kind = read_content_type(text)
    return ";\r\n ".join([kind.media_type, *(f"{name}={value}" for name, value in kind.parameters)])


def _filename(name: str) -> str:
    """The filename parameter on one line; in the form of RFC 2231 §4 when the name is not plain ASCII."""
    if name.isascii() and '"' not in name and "\\" not in name and "=?" not in name:
        return f'filename="{name}"'
    return f"filename*=utf-8''{quote(name, safe='')}"
