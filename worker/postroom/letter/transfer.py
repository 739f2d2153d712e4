"""Bodies on the wire: the lightest transfer encoding that every relay carries (RFC 2045 §6).

Text in → (encoding, bytes in CRLF lines). ASCII in short lines goes as it is; HTML says its other letters
as character references, which readers see no different; text with some of them goes quoted-printable,
and what is mostly of them, base64. Lines are at most 998 octets (RFC 5322 §2.1.1), 76 when encoded.
"""

import re
from binascii import b2a_base64, b2a_qp

CONTROLS = bytes(octet for octet in (*range(32), 127) if octet not in (9, 10))
RAW = re.compile(r"<([sS][tT][yY][lL][eE]|[sS][cC][rR][iI][pP][tT]|[xX][mM][pP]|[nN][oO][sS][cC][rR])")
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
    if (len(html.encode()) - len(html)) * 8 > len(html):
        return False
    raw = RAW.search(html)
    while raw:
        end = html.find(f"</{raw.group(1)}", raw.end())
        if end < 0 or not html[raw.end() : end].isascii():
            return False
        raw = RAW.search(html, end + 2)
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
    if max(map(len, octets.split(b"\n"))) > LINE_OCTETS or len(octets.translate(None, CONTROLS)) < len(
        octets
    ):
        return None
    return "7bit", octets.replace(b"\n", b"\r\n")


def encode_file(content: bytes) -> bytes:
    """Base64 in lines of 76."""
    encoded = b2a_base64(content, newline=False)
    step = BASE64_LINE
    return b"".join(encoded[i : i + step] + b"\r\n" for i in range(0, len(encoded), step))
