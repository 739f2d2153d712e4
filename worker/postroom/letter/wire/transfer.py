"""Bodies on the wire: the lightest transfer encoding that every relay carries (RFC 2045 §6).

Text in → (encoding, bytes in CRLF lines). ASCII in short lines goes as it is; HTML says its other letters
as character references, which readers see no different; text with some of them goes quoted-printable,
and what is mostly of them, base64. Lines are at most 998 octets (RFC 5322 §2.1.1), 76 when encoded.
"""

from binascii import b2a_base64, b2a_qp

CONTROLS = bytes(octet for octet in (*range(32), 127) if octet not in (9, 10))
RAW_ELEMENTS = (b"style", b"script", b"xmp")
"""Elements in which HTML reads no character references."""
LINE_OCTETS = 990
"""Under 998, with room for a stuffed dot and the line end."""
BASE64_LINE = 76


def lines_of(text: str) -> str:
    """The text with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encode_html(html: str) -> tuple[str, bytes]:
    """Encode an HTML body."""
    html = lines_of(html)
    if html.isascii() or not _references_suffice(html):
        return encode_text(html)
    octets = html.encode("ascii", "xmlcharrefreplace")
    return _plain(octets) or encode_text(html)


def _references_suffice(html: str) -> bool:
    """Whether character references say it without bloating the letter, and are read where they stand."""
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
    """Encode a text body."""
    text = lines_of(text)
    octets = text.encode()
    plain = _plain(octets) if len(octets) == len(text) else None
    if plain:
        return plain
    if len(octets) - len(text) > len(text) // 6:
        return "base64", encode_file(octets)
    return "quoted-printable", b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")


def _plain(octets: bytes) -> tuple[str, bytes] | None:
    """ASCII as it is, when its lines are short and hold no control characters."""
    if _has_long_line(octets) or len(octets.translate(None, CONTROLS)) < len(octets):
        return None
    return "7bit", octets.replace(b"\n", b"\r\n")


def _has_long_line(octets: bytes) -> bool:
    """Hop from line end to line end, as far as one may."""
    start = 0
    while len(octets) - start > LINE_OCTETS:
        start = octets.rfind(b"\n", start, start + LINE_OCTETS + 1) + 1
        if start == 0:
            return True
    return False


def encode_file(content: bytes) -> bytes:
    """Base64 in lines of 76."""
    encoded = b2a_base64(content, newline=False)
    step = BASE64_LINE
    return b"".join(encoded[i : i + step] + b"\r\n" for i in range(0, len(encoded), step))
