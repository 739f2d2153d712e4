"""Header fields on the wire: RFC 5322 folding and RFC 2047 encoded words, written so that nothing slips in.

The standard library's own writer turns the subject `=?utf-8?q?a=0ABcc:_evil@x.org?=` into a `Bcc` line,
because it decodes what it was given and writes the outcome. Here a value is opaque: it is refused when it
holds a control character, and encoded when it is not plain ASCII or when it looks encoded already.
Every function gives text without a line end of its own, in lines of at most 78 characters where that is
possible and 998 always.
"""

import re
from base64 import b64encode

from postroom.letter.header import header_rule
from postroom.letter.problems import Code, Problem, Rejected

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")
"""Printable ASCII words with single spaces: what can be folded at any space and comes back the same."""
ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
"""A display name that needs no quotes (RFC 5322 §3.2.3)."""
LINE = 76
LONGEST_WORD = 900
WORD_BYTES = 45
"""Bytes of text in one encoded word: 60 characters of base64, 72 with what is around them (limit 75)."""


def refuse_control(name: str, value: str) -> None:
    """Raise Rejected (control_character) when the value could end its line."""
    found = CONTROL.search(value)
    if found:
        message = f"control character U+{ord(found.group()):04X}, which could begin another header"
        raise Rejected(Problem(Code.CONTROL_CHARACTER, name, message))


def field(name: str, value: str) -> str:
    """An unstructured field, `Name: value`, folded and encoded as needed."""
    refuse_control(name, value)
    start = len(name) + 2
    if "=?" in value or not PLAIN.fullmatch(value):
        return f"{name}: {encode(value, start)}" if value else f"{name}: "
    if start + len(value) <= LINE + 2:
        return f"{name}: {value}"
    return f"{name}: {fold(value, start)}"


def extra_field(name: str, value: str) -> str:
    """A field that a template adds; its name is on the allow-list. Raises Rejected."""
    rule = header_rule(name)
    if rule:
        raise Rejected(Problem(Code.HEADER_NOT_ALLOWED, name, rule))
    return field(name, value)


def fold(value: str, start: int) -> str:
    """Break plain text at its spaces."""
    words = value.split(" ")
    if max(map(len, words)) > LONGEST_WORD:
        return encode(value, start)
    lines = [words[0]]
    length = start + len(words[0])
    for word in words[1:]:
        if length + 1 + len(word) <= LINE:
            lines[-1] += f" {word}"
            length += 1 + len(word)
        else:
            lines.append(word)
            length = 1 + len(word)
    return "\r\n ".join(lines)


def encode(value: str, start: int) -> str:
    """Encoded words in UTF-8 and base64, never broken inside a character (RFC 2047 §5)."""
    octets = value.encode()
    words = []
    position = 0
    room = max(12, min(WORD_BYTES, (LINE - start - 12) // 4 * 3))
    while position < len(octets):
        end = min(position + room, len(octets))
        while end < len(octets) and octets[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{b64encode(octets[position:end]).decode()}?=")
        position, room = end, WORD_BYTES
    return "\r\n ".join(words)


def mailbox(header: str, name: str, address: str) -> str:
    """`Name <address>`; the address is checked again, since a bracket in it would make two."""
    refuse_address(header, address)
    refuse_control(header, name)
    if not name:
        return address
    start = len(header) + 2
    if "=?" in name or not name.isascii():
        shown = encode(name, start)
    elif ATOMS.fullmatch(name):
        shown = fold(name, start)
    else:
        shown = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    last = len(shown.rpartition("\r\n")[2]) + (start if "\r\n" not in shown else 0)
    return f"{shown}{' ' if last + len(address) + 3 <= LINE else chr(13) + chr(10) + ' '}<{address}>"


ADDRESS = re.compile(
    r"""[^\s@<>(),;:\\"\[\]\x00-\x20\x7f-\xa0]{1,64}@[^\s@<>(),;:\\"\[\]\x00-\x20\x7f-\xa0]{1,255}"""
)


def refuse_address(header: str, address: str) -> None:
    """Raise Rejected (recipient_invalid) for what is not exactly one bare address."""
    if not ADDRESS.fullmatch(address) or CONTROL.search(address):
        raise Rejected(Problem(Code.RECIPIENT_INVALID, header, "not one bare address like name@example.org"))
