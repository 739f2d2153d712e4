"""Delivery status notifications (RFC 3464, RFC 6533): the parts of a message in, what each recipient's
group says out.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import HeaderParser
from quopri import decodestring

from postroom.letter.returned.report import ACTIONS, Kind, Said, more_telling

TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
MOST_GROUPS = 16
"""A letter has one recipient; a list that it went to may have had more."""
LONGEST_TEXT = 500

_ACTIONS = {kind.value: kind for kind in ACTIONS}
_OF_CLASS = {"5": Kind.FAILED, "4": Kind.DELAYED}
"""Where an action is missing, which it must not be."""
_BLANK_LINES = re.compile(r"\n[ \t]*\n")


def said_in(part: Message) -> Iterator[Said]:
    """What a part of one of TYPES says: its first group is of the whole message, each other of a
    recipient.
    """
    groups = [group for group in _groups(part) if group.keys()]
    mta = _value(groups[0], "Reporting-MTA") if groups else ""
    for group in groups[: MOST_GROUPS + 1]:
        if (said := _said(group, mta)) is not None:
            yield said


def _said(group: Message, mta: str) -> Said | None:
    diagnostic, status = _field(group, "Diagnostic-Code"), _field(group, "Status")
    told = more_telling(status, diagnostic)
    action = _field(group, "Action").partition("(")[0].strip().lower()
    kind = _ACTIONS.get(action) or (None if action else _OF_CLASS.get(told[:1]))
    if kind is None:
        return None
    _, _, words = diagnostic.partition(";")
    return Said(
        kind,
        told,
        (words or diagnostic).strip()[:LONGEST_TEXT],
        _value(group, "Remote-MTA") or mta,
        tuple(dict.fromkeys(filter(None, (_address(group, name) for name in ("Final", "Original"))))),
    )


def _groups(part: Message) -> Sequence[Message]:
    """The groups of fields, however the parser has left them."""
    payload = part.get_payload()
    blocks = payload if isinstance(payload, list) else []
    found = [each for each in blocks if isinstance(each, Message)]
    if part.get_content_type() == "message/global-delivery-status":  # taken for a letter: groups in its body
        return [*found, *(group for each in found for group in _read(str(each.get_payload())))]
    if any(name in each for each in found for name in ("Action", "Status")):
        return found
    return _read(_decoded(part, "\n\n".join(str(each.get_payload()) for each in found)))


def _decoded(part: Message, text: str) -> str:
    """The text of a part that was encoded, which the standard forbids and some do."""
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    raw = text.encode("ascii", "replace")
    if encoding == "base64":
        return b64decode(raw).decode("utf-8", "replace")
    return decodestring(raw).decode("utf-8", "replace") if encoding == "quoted-printable" else text


def _read(text: str) -> list[Message]:
    blocks = _BLANK_LINES.split(text.replace("\r\n", "\n"))
    return [HeaderParser().parsestr(block.strip("\n")) for block in blocks if block.strip()]


def _field(group: Message, name: str) -> str:
    """A field's value on one line; the first where it is repeated."""
    return " ".join(str(group.get(name, "")).split())


def _value(group: Message, name: str) -> str:
    """What is behind the type of a typed field: `dns; mx.example.org`."""
    field = _field(group, name)
    _, semicolon, value = field.partition(";")
    return (value if semicolon else field).strip()[:255]


def _address(group: Message, which: str) -> str:
    return _value(group, f"{which}-Recipient").strip("<>").lower()
