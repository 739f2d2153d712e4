"""What may travel with a letter as a file: the rules of names, content types and base64.

Each rule is a function from the text to the sentence that says what is wrong, or None; events and
manifests put their own field in front of it.
"""

import binascii
import re

from postroom.letter.reading.spec import control_character

FILENAME_OCTETS = 255

_TOKEN = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(
    rf"(?!multipart/|message/){_TOKEN}/{_TOKEN}(?:; ?charset=[a-z0-9._-]{{1,40}})?", re.IGNORECASE
)


def filename_rule(name: str) -> str | None:
    """The rule that a file name breaks, or None: it is a bare name, never a path."""
    if not name or name in (".", "..") or name != name.strip():
        return "is not a file name; give a name like invoice.pdf"
    if "/" in name or "\\" in name:
        return "holds a path; give the bare file name"
    if found := control_character(name):
        return f"holds a control character ({found}); remove it"
    if len(name.encode()) > FILENAME_OCTETS:
        return f"is longer than {FILENAME_OCTETS} octets"
    return None


def media_type_rule(text: str) -> str | None:
    """The rule that an attachment's content type breaks, or None."""
    if _MEDIA_TYPE.fullmatch(text):
        return None
    return (
        "is not a file's content type; write type/subtype like application/pdf (not multipart, not message)"
    )


def decode_base64(text: str) -> bytes:
    """Standard base64 (RFC 4648 §4), padded, without line ends; raises ValueError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:
        raise ValueError("is not base64; use the standard alphabet with padding and no line ends") from None
