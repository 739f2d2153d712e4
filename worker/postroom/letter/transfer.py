"""Bodies on the wire: the lightest transfer encoding that every relay carries (RFC 2045 §6).

Text in → (encoding, bytes in CRLF lines). ASCII in short lines goes as it is; HTML says its other letters
as character references, which readers see no different; text with some of them goes quoted-printable,
and what is mostly of them, base64. Lines are at most 998 octets (RFC 5322 §2.1.1), 76 when encoded.
"""

import re
from binascii import b2a_base64, b2a_qp

CONTROLS = bytes(octet for octet in (*range(32), 127) if octet not in (9, 10))
RAW = re.compile(r"<(?:style|script|xmp|plaintext|noscript|!--)", re.IGNORECASE)
"""Where HTML reads no character references."""
RAW_ELEMENT = re.compile(
    r"<!--.*?-->|<(style|script|xmp|plaintext|noscript)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
LINE_OCTETS = 990
"""Under 998, with room for a stuffed dot and the line end."""
BASE64_LINE = 76


def lines_of(text: str) -> str:
    """The text with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encode_html(html: str) -> tuple[str, bytes]:
    """Encode an HTML body."""
    html = lines_of(html)
    if not html.isascii() and _references_suffice(html):
        html = html.encode("ascii", "xmlcharrefreplace").decode("ascii")
    return encode_text(html)


def _references_suffice(html: str) -> bool:
    """Whether character references say it without doubling the letter, and are read where they stand."""
    if (len(html.encode()) - len(html)) * 4 > len(html):
        return False
    return not RAW.search(html) or all(raw.group().isascii() for raw in RAW_ELEMENT.finditer(html))


def encode_text(text: str) -> tuple[str, bytes]:
    """Encode a text body."""
    text = lines_of(text)
    if not text.endswith("\n"):
        text += "\n"
    octets = text.encode()
    if text.isascii() and _is_plain(octets):
        return "7bit", octets.replace(b"\n", b"\r\n")
    if len(octets) - len(text) > len(text) // 6:
        return "base64", encode_file(octets)
    return "quoted-printable", b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")


def _is_plain(octets: bytes) -> bool:
    """Short lines and no control characters."""
    short = max(map(len, octets.split(b"\n"))) <= LINE_OCTETS
    return short and len(octets.translate(None, CONTROLS)) == len(octets)


def encode_file(content: bytes) -> bytes:
    """Base64 in lines of 76."""
    encoded = b2a_base64(content, newline=False)
    step = BASE64_LINE
    return b"".join(encoded[i : i + step] + b"\r\n" for i in range(0, len(encoded), step))
