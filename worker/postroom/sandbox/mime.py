"""Parse captured letters, which may be malformed or hostile: headers, MIME parts, and a summary.

Input: raw bytes. Output: `ParsedLetter` with its parts in document order and readable header texts, or
`StoredLetter`, the summary. Depth, number of parts, and number and length of headers are bounded; what lies
beyond a bound is left out, and `ParsedLetter.truncated` is true. Malformed letters (RFC 2045, 2046, 2047,
2231) raise no error: whatever can be parsed is returned.

The parser of the standard library is not used: it nests a generator for every multipart and ends deep letters
with a RecursionError. The summary is made for every captured letter, in the writer's thread: it reads only
the header block, and parses the whole letter only when a header mentions a file.
"""

import binascii
import codecs
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message

MAX_DEPTH = 16
MAX_PARTS = 250
MAX_HEADERS = 400
MAX_HEADER_BYTES = 32_768
MAX_HEAD_BYTES = 262_144
MAX_NAME_CHARACTERS = 200
MAX_FIELD_CHARACTERS = 2000

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_NAME = re.compile(r"[!-9;-~]{1,200}\Z")
# Codecs that are not charsets of mail: they take quadratic time or evaluate escapes.
_UNFIT_CODECS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})

# Matched against the letter in lower case, after a line end: the literal prefix makes the search ten times
# faster.
_NAMES_A_FILE = re.compile(
    rb"\ncontent-(?:disposition|type):[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*?(?:name|attachment)"
)
_NO_TEXT = re.compile(rb"\ncontent-type:[ \t]*(?!text/|multipart/)")

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MimePart:
    """One MIME part. `path` is its position (`1.2`: part 2 of part 1); `body` is still transfer-encoded."""

    path: str
    depth: int
    content_type: str
    charset: str
    encoding: str
    disposition: str
    filename: str
    content_id: str
    body: bytes

    @property
    def is_attachment(self) -> bool:
        """Whether the part is offered as a file: it is marked as attachment, has a file name, or is not text.

        An inline part with a content ID is not an attachment.
        """
        if self.content_type.startswith("multipart/") or (self.disposition == "inline" and self.content_id):
            return False
        if self.disposition == "attachment" or self.filename:
            return True
        return not self.content_type.startswith("text/") and not self.content_id

    def payload(self) -> bytes:
        """The part's bytes with the transfer encoding decoded."""
        if self.encoding == "base64":
            return _from_base64(self.body)
        if self.encoding == "quoted-printable":
            return binascii.a2b_qp(self.body)
        return self.body

    def text(self) -> str:
        """The part as text; bytes that are invalid in its charset become U+FFFD."""
        return decode_text(self.payload(), self.charset)


@dataclass(frozen=True, slots=True)
class ParsedLetter:
    """Headers and parts. `truncated` is true when a bound was reached and something was left out."""

    headers: Headers
    parts: tuple[MimePart, ...]
    truncated: bool = False

    def header(self, name: str) -> str:
        """The value of the first header of that name, or an empty string."""
        lowered = name.lower()
        return next((value for key, value in self.headers if key.lower() == lowered), "")

    def first(self, content_type: str) -> MimePart | None:
        """The first part of that type that is neither an attachment nor named as a file."""
        return next(
            (
                p
                for p in self.parts
                if p.content_type == content_type and p.disposition != "attachment" and not p.filename
            ),
            None,
        )

    @property
    def attachments(self) -> tuple[MimePart, ...]:
        """The parts that are offered as files, in order."""
        return tuple(part for part in self.parts if part.is_attachment)

    def by_content_id(self, content_id: str) -> MimePart | None:
        """The part that a `cid:` URL refers to (RFC 2392)."""
        return next((part for part in self.parts if part.content_id == content_id), None)


@dataclass(slots=True)
class _PartWalker:
    raw: bytes
    parts: list[MimePart] = field(default_factory=list)
    truncated: bool = False

    def walk(self, start: int, end: int, path: str, depth: int) -> None:
        """Add the part in raw[start:end] and, for a multipart, its children."""
        if len(self.parts) >= MAX_PARTS:
            self.truncated = True
            return
        headers, body = read_headers(self.raw, start, end)
        part = _part_of(headers, path, depth)
        boundary = _boundary(headers) if part.content_type.startswith("multipart/") else ""
        if not boundary or depth >= MAX_DEPTH:
            self.truncated = self.truncated or bool(boundary)
            self.parts.append(_with_body(part, self.raw[body:end]))
            return
        self.parts.append(part)
        for number, (begin, stop) in enumerate(_children(self.raw, body, end, boundary), start=1):
            self.walk(begin, stop, f"{path}.{number}" if path else str(number), depth + 1)
            if len(self.parts) >= MAX_PARTS:
                self.truncated = True
                return


def parse_letter(raw: bytes) -> ParsedLetter:
    """Parse a raw letter; never raises."""
    walker = _PartWalker(raw)
    walker.walk(0, len(raw), "", 0)
    return ParsedLetter(read_headers(raw)[0], tuple(walker.parts), walker.truncated)


def read_headers(raw: bytes, start: int = 0, end: int | None = None) -> tuple[Headers, int]:
    """Parse the header block at `start`: pairs of name and unfolded raw value, and the offset of the body."""
    end = len(raw) if end is None else end
    if raw[start : start + 2] == b"\r\n" or raw[start : start + 1] == b"\n":
        return (), raw.index(b"\n", start) + 1
    blank = _BLANK_LINE.search(raw, start, end)
    stop, body = (blank.start(), blank.end()) if blank else (end, end)
    head = _FOLD.sub(b"", raw[start : min(stop, start + MAX_HEAD_BYTES)])
    found = []
    for line in head.splitlines()[:MAX_HEADERS]:
        name, colon, value = line[:MAX_HEADER_BYTES].decode("utf-8", "replace").partition(":")
        if colon and _NAME.match(name := name.rstrip()):
            found.append((name, value.strip()))
    return tuple(found), body


def decode_header_text(value: str) -> str:
    """A header's value with encoded words decoded (RFC 2047) and control characters replaced by U+FFFD."""
    if "=?" in value:
        with contextlib.suppress(HeaderParseError, LookupError, ValueError):
            value = str(make_header(decode_header(value)))
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in value)


def decode_text(data: bytes, charset: str) -> str:
    """Decode bytes in the charset that a letter names; an unknown charset is read as UTF-8."""
    try:
        codec = codecs.lookup(charset or "utf-8").name
        return data.decode("utf-8" if codec in _UNFIT_CODECS else codec, "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _children(raw: bytes, start: int, end: int, boundary: str) -> Iterator[tuple[int, int]]:
    delimiter = re.compile(
        rb"^--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(--)?[ \t]*\r?(?:\n|\Z)", re.MULTILINE
    )
    begin: int | None = None
    for line in delimiter.finditer(raw, max(start - 1, 0), end):
        if begin is not None:
            # The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
            stop = line.start() - (2 if raw[line.start() - 2 : line.start()] == b"\r\n" else 1)
            yield begin, max(begin, stop)
        if line.group(1):
            return
        begin = line.end()
    if begin is not None:
        yield begin, max(begin, end)


def _part_of(headers: Headers, path: str, depth: int) -> MimePart:
    message = _content_headers(headers)
    filename = _value_or_none(message.get_filename) or ""
    return MimePart(
        path=path or "0",
        depth=depth,
        content_type=_value_or_none(message.get_content_type) or "text/plain",
        charset=_value_or_none(message.get_content_charset) or "utf-8",
        encoding=str(message.get("content-transfer-encoding", "")).strip().lower(),
        disposition=_value_or_none(message.get_content_disposition) or "",
        filename=safe_filename(decode_header_text(filename)),
        content_id=str(message.get("content-id", "")).strip().strip("<>"),
        body=b"",
    )


def _with_body(part: MimePart, body: bytes) -> MimePart:
    return MimePart(
        part.path, part.depth, part.content_type, part.charset, part.encoding,
        part.disposition, part.filename, part.content_id, body,
    )  # fmt: skip


def _content_headers(headers: Headers) -> Message:
    message = Message()
    for name, value in headers:
        if name.lower().startswith("content-") and name not in message:
            message[name] = value[:4096]
    return message


def _boundary(headers: Headers) -> str:
    boundary = _value_or_none(_content_headers(headers).get_boundary) or ""
    return boundary if len(boundary) <= MAX_NAME_CHARACTERS else ""


def _value_or_none(read: Callable[[], str | None]) -> str | None:
    """The value that the standard library reads from a header, or None when it raises an error."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - hostile parameters raise several kinds of errors; each means "unreadable"
        return None


def safe_filename(name: str) -> str:
    """A file name without path, control and directional characters, safe as the name of a download."""
    name = name.replace("\\", "/").rpartition("/")[2]
    clean = "".join(c for c in name if c.isprintable() and not "\u2000" <= c <= "\u206f").strip(" .")
    return clean[:MAX_NAME_CHARACTERS]


def _from_base64(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        trimmed = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        return binascii.a2b_base64(trimmed[: len(trimmed) // 4 * 4])


@dataclass(frozen=True, slots=True)
class SmtpEnvelope:
    """The envelope of the SMTP session; `peer` is the client's network address."""

    mail_from: str
    recipients: tuple[str, ...]
    peer: str = ""


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """The summary of a letter, as in a row of the inbox.

    Times are milliseconds since 1970; `id` is 0 before the letter is stored.
    """

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


def summarize_letter(envelope: SmtpEnvelope, raw: bytes, received_at: int) -> StoredLetter:
    """Summarize a letter; a malformed header gives an empty field, never an error."""
    headers, _ = read_headers(raw)
    template, _, revision = _header_value(headers, "x-postroom-template").partition("@")
    return StoredLetter(
        id=0,
        received_at=received_at,
        mail_from=envelope.mail_from,
        recipients=envelope.recipients,
        sender=_header_value(headers, "from"),
        subject=_header_value(headers, "subject"),
        message_id=_header_value(headers, "message-id"),
        date=_header_value(headers, "date"),
        template=template,
        revision=revision,
        size=len(raw),
        attachments=_count_attachments(raw),
        peer=envelope.peer,
    )


def _header_value(headers: Headers, name: str) -> str:
    found = next((value for key, value in headers if key.lower() == name), "")
    return decode_header_text(found[: 4 * MAX_FIELD_CHARACTERS])[:MAX_FIELD_CHARACTERS]


def _count_attachments(raw: bytes) -> int:
    lowered = b"\n" + raw.lower()
    if not (_NAMES_A_FILE.search(lowered) or _NO_TEXT.search(lowered)):
        return 0
    return len(parse_letter(raw).attachments)
