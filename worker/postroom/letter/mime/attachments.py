"""The rules of attachments: file names, content types, content IDs and base64.

Events and manifests share them. Each rule is a function that takes a text and returns the broken rule as a
sentence, or None. The caller adds the field.
"""

import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from postroom.letter.manifest_fields import control_character
from postroom.letter.problems import Code, Problem, Rejected

FILENAME_OCTETS = 255
CONTENT_ID_CHARACTERS = 128

_TYPE = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"({_TYPE})/{_TYPE}(?=;|\Z)", re.IGNORECASE)
_TOKEN = r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"""; *({_TOKEN})=({_TOKEN}|"(?:[ !#-\[\]-~]|\\[ -~])*")(?=;|\Z)""")
"""RFC 2045 §5.1; spaces are allowed only after the semicolon."""
_CONTENT_ID = re.compile(rf"[A-Za-z0-9._+=@~-]{{1,{CONTENT_ID_CHARACTERS}}}")
"""Characters that need no escape in a `cid:` URL (RFC 2392) and no quotes in a Content-ID."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """A parsed content type; `media_type` in lower case, parameters as they were written."""

    media_type: str
    parameters: tuple[tuple[str, str], ...] = ()
    """Names in lower case; values with their quotes."""

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, without quotes."""
        value = dict(self.parameters).get(name)
        if value is None or value[:1] != '"':
            return value
        return re.sub(r"\\(.)", r"\1", value[1:-1])


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


def content_type_rule(text: str) -> str | None:
    """The rule that an attachment's content type breaks, or None."""
    found = _MEDIA_TYPE.match(text)
    if not found or found.group(1).lower() in ("multipart", "message"):
        return (
            "is not a file's content type; write type/subtype like application/pdf, or with parameters like "
            "text/calendar; method=REQUEST (not multipart, not message)"
        )
    position, seen = found.end(), set[str]()
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if not parameter:
            way_out = 'write ; name=value or ; name="value" in ASCII (RFC 2045 section 5.1)'
            return f"has a parameter that cannot be read after {position} characters; {way_out}"
        name = parameter.group(1).lower()
        if name in seen:
            return f"has the parameter {name} twice; remove one"
        seen.add(name)
        position = parameter.end()
    return None


@lru_cache(maxsize=256)
def read_content_type(text: str) -> ContentType:
    """Parse a content type. Raises Rejected when it breaks a rule."""
    if rule := content_type_rule(text):
        raise Rejected(Problem(Code.ATTACHMENT_INVALID, "content type", rule))
    media_type, _, rest = text.partition(";")
    found = _PARAMETER.findall(f";{rest}") if rest else []
    return ContentType(media_type.lower(), tuple((name.lower(), value) for name, value in found))


def content_id_rule(text: str) -> str | None:
    """The rule that a content ID breaks, or None: it is the text after `cid:` in the html."""
    if _CONTENT_ID.fullmatch(text):
        return None
    hint = "; leave cid: and the angle brackets out" if text[:1] == "<" or text[:4].lower() == "cid:" else ""
    return (
        f"is not a content ID; 1 to {CONTENT_ID_CHARACTERS} letters, digits and . _ + = @ ~ - like logo or "
        f"logo@larkfield.example{hint}"
    )


def decode_base64(text: str) -> bytes:
    """Decode standard base64 (RFC 4648 §4), padded, without line ends. Raises ValueError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:
        raise ValueError("is not base64; use the standard alphabet with padding and no line ends") from None
