"""Header fields: which ones a template may add, and how fields are folded and encoded.

`header_rule` is an allow-list. Headers that address, route, sign or describe the letter belong to Postroom or
the relay, and an unknown header is rejected.

The other functions write fields with RFC 5322 folding and RFC 2047 encoded words, and prevent header
injection. The standard library's writer turns the subject `=?utf-8?q?a=0ABcc:_evil@x.org?=` into a `Bcc`
line, because it decodes its input and writes the result. Here a value is opaque: it is rejected when it holds
a control character, and encoded when it is not plain ASCII or looks encoded already. Every function returns
text without a final line end, in lines of at most 78 characters where that is possible and of at most 998
always.
"""

import re
from base64 import b64encode

from postroom.letter.problems import Code, Problem, Rejected

ALLOWED_HEADERS = frozenset(
    {
        "feedback-id",
        "importance",
        "keywords",
        "list-archive",
        "list-help",
        "list-id",
        "list-owner",
        "organization",
        "precedence",
        "priority",
        "sensitivity",
    }
)
"""In lower case. `X-…` names are allowed as well, except for RESERVED_PREFIXES."""

RESERVED_PREFIXES = ("x-auto-response-suppress", "x-envelope-", "x-forwarded-", "x-original-", "x-postroom-")
"""Prefixes of X- names that Postroom writes itself or that relays act upon."""

_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


def header_rule(name: str) -> str | None:
    """The rule that the name of an additional header breaks, or None when it is allowed."""
    if not _NAME.fullmatch(name):
        return "is not a header name; letters, digits and single hyphens only"
    lower = name.lower()
    if lower.startswith(RESERVED_PREFIXES):
        return f"{name} is written by Postroom or read by relays; choose another X- name"
    if lower.startswith("x-") or lower in ALLOWED_HEADERS:
        return None
    allowed = ", ".join(sorted(header.title() for header in ALLOWED_HEADERS))
    return f"{name} is not among the headers a template may set: X-…, {allowed}"


CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
FOLDABLE_TEXT = re.compile(r"[!-~]+(?: [!-~]+)*")
"""Printable ASCII words with single spaces: such text can be folded at any space and unfolds unchanged."""
ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
"""A display name that needs no quotes (RFC 5322 §3.2.3)."""
MAX_LINE = 76
MAX_WORD = 900
WORD_BYTES = 45
"""Bytes of text in one encoded word: 60 characters of base64, 72 with its delimiters (the limit is 75)."""


def reject_control_characters(name: str, value: str) -> None:
    """Raise Rejected (control_character) when the value holds a character that could end its line."""
    found = CONTROL_CHARACTERS.search(value)
    if found:
        message = f"control character U+{ord(found.group()):04X}, which could begin another header"
        raise Rejected(Problem(Code.CONTROL_CHARACTER, name, message))


def header_field(name: str, value: str) -> str:
    """Write an unstructured field, `Name: value`, folded and encoded as needed."""
    reject_control_characters(name, value)
    start = len(name) + 2
    if "=?" in value or not FOLDABLE_TEXT.fullmatch(value):
        return f"{name}: {encode_words(value, start)}" if value else f"{name}: "
    if start + len(value) <= MAX_LINE + 2:
        return f"{name}: {value}"
    return f"{name}: {fold_text(value, start)}"


def template_header(name: str, value: str) -> str:
    """Write a field that a template adds. Raises Rejected when its name is not on the allow-list."""
    rule = header_rule(name)
    if rule:
        raise Rejected(Problem(Code.HEADER_NOT_ALLOWED, name, rule))
    return header_field(name, value)


def fold_text(value: str, start: int) -> str:
    """Fold plain text at its spaces; `start` is the column of its first character."""
    words = value.split(" ")
    if max(map(len, words)) > MAX_WORD:
        return encode_words(value, start)
    lines = [words[0]]
    length = start + len(words[0])
    for word in words[1:]:
        if length + 1 + len(word) <= MAX_LINE:
            lines[-1] += f" {word}"
            length += 1 + len(word)
        else:
            lines.append(word)
            length = 1 + len(word)
    return "\r\n ".join(lines)


def encode_words(value: str, start: int) -> str:
    """Write encoded words in UTF-8 and base64, never split inside a character (RFC 2047 §5)."""
    octets = value.encode()
    words = []
    position = 0
    room = max(12, min(WORD_BYTES, (MAX_LINE - start - 12) // 4 * 3))
    while position < len(octets):
        end = min(position + room, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b64encode(octets[position:end]).decode()}?=")
        position, room = end, WORD_BYTES
    return "\r\n ".join(words)


def mailbox_field(header: str, name: str, address: str) -> str:
    """Write `Name <address>`; the address is checked again: a bracket in it would make two."""
    reject_invalid_address(header, address)
    reject_control_characters(header, name)
    if not name:
        return address
    start = len(header) + 2
    if "=?" in name or not name.isascii():
        shown = encode_words(name, start)
    elif ATOMS.fullmatch(name):
        shown = fold_text(name, start)
    else:
        shown = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    last = len(shown.rpartition("\r\n")[2]) + (start if "\r\n" not in shown else 0)
    return f"{shown}{' ' if last + len(address) + 3 <= MAX_LINE else chr(13) + chr(10) + ' '}<{address}>"


BARE_ADDRESS = re.compile(
    r"""[^\s@<>(),;:\\"\[\]\x00-\x20\x7f-\xa0]{1,64}@[^\s@<>(),;:\\"\[\]\x00-\x20\x7f-\xa0]{1,255}"""
)


def reject_invalid_address(header: str, address: str) -> None:
    """Raise Rejected (recipient_invalid) unless the text is exactly one bare address."""
    if not BARE_ADDRESS.fullmatch(address) or CONTROL_CHARACTERS.search(address):
        raise Rejected(Problem(Code.RECIPIENT_INVALID, header, "not one bare address like name@example.org"))
