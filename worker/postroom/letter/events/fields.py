"""Check the fields of an event, each by its own rule.

Input: the unchecked members of an event. Output: values; broken rules are collected in
`EventFields.problems`. A field that breaks a rule gives a harmless value, so that one pass finds every
mistake in an event.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from postroom.letter.address import EmailAddress, normalize_address
from postroom.letter.mailboxes import read_mailboxes, write_mailboxes
from postroom.letter.manifest_fields import LANGUAGE_TAG, control_character
from postroom.letter.problems import Code, Problem, Rejected

LOCALE_CHARACTERS = 35
METADATA_ENTRIES = 32
METADATA_KEY_CHARACTERS = 64
METADATA_VALUE_CHARACTERS = 512

_PLACEHOLDER_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_LANGUAGE = re.compile(LANGUAGE_TAG)
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


class EventFields:
    """The members of one event (null counts as absent), the publisher's names for them, and the problems."""

    __slots__ = ("_members", "_names", "problems")

    def __init__(self, members: Mapping[str, Any], names: Mapping[str, str], problems: list[Problem]) -> None:
        self._members = members
        self._names = names
        self.problems = problems

    def refuse(self, name: str, rule: str, code: Code = Code.FIELD_INVALID, below: str = "") -> None:
        """Add the problem of a field of `Event`, or of a part `below` it."""
        self.problems.append(Problem(code, self._names.get(name, name) + below, rule))

    def text(self, name: str, longest: int) -> str:
        """A required text of 1 to `longest` characters on one line."""
        text = self.optional_text(name, longest)
        if text is None:
            self.refuse(name, "is required", Code.FIELD_MISSING)
            return ""
        return text

    def optional_text(self, name: str, longest: int) -> str | None:
        """The same for an optional text; None if it is absent."""
        value = self._members.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            self.refuse(name, "must be text")
        elif not 0 < len(value) <= longest:
            self.refuse(name, f"has {len(value)} characters; 1 to {longest} are allowed")
        elif not value.isprintable() and (found := control_character(value)):
            self.refuse(name, f"holds a control character ({found}); remove it", Code.CONTROL_CHARACTER)
        return value if isinstance(value, str) else ""

    def time(self, name: str, default: datetime | None) -> datetime:
        """A time (RFC 3339, with its offset) in UTC. It is required when `default` is None."""
        time = self.optional_time(name) or default
        if time is None:
            self.refuse(name, "is required", Code.FIELD_MISSING)
        return time or _PLACEHOLDER_TIME

    def optional_time(self, name: str) -> datetime | None:
        """A time in UTC; None if it is absent."""
        value = self._members.get(name)
        if value is None:
            return None
        try:
            if _RFC3339.fullmatch(value):
                return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            pass
        self.refuse(name, "must be an RFC 3339 time with its offset, like 2026-11-23T20:15:30Z")
        return _PLACEHOLDER_TIME

    def recipient(self) -> EmailAddress | None:
        """The recipient; None after a problem."""
        value = self._members.get("recipient")
        if value is None or value == []:
            self.refuse("recipient", "no recipient; give one address", Code.RECIPIENT_MISSING)
        elif isinstance(value, list):
            rule = f"is a list of {len(value)}; give one address, and publish one event for each recipient"
            self.refuse("recipient", rule, Code.ONE_ADDRESS_PER_ITEM)
        elif not isinstance(value, str):
            self.refuse("recipient", "must be text: one address", Code.RECIPIENT_INVALID)
        else:
            return self._address("recipient", value, Code.RECIPIENT_INVALID)
        return None

    def reply_to(self) -> str | None:
        """The mailboxes for replies as one text, addresses normalized; None if they are absent."""
        value = self._members.get("reply_to")
        if value is None:
            return None
        if not isinstance(value, str):
            rule = "must be text: an address or Name <name@example.org>, several with commas between them"
            self.refuse("reply_to", rule)
            return None
        try:
            return write_mailboxes(read_mailboxes(value, self._names["reply_to"], quote=False))
        except Rejected as rejected:
            self.problems.extend(rejected.problems)
            return None

    def _address(self, name: str, text: str, code: Code) -> EmailAddress | None:
        try:
            return normalize_address(text, self._names.get(name, name), code)
        except Rejected as rejected:
            self.problems.extend(rejected.problems)
            return None

    def locale(self) -> str | None:
        """A BCP 47 language tag; None if it is absent."""
        text = self.optional_text("locale", LOCALE_CHARACTERS)
        if text and not _LANGUAGE.fullmatch(text):
            self.refuse("locale", "is not a BCP 47 language tag; write en or pt-BR, with a hyphen")
        return text

    def traceparent(self) -> str | None:
        """A W3C trace context; a malformed value counts as absent, as the specification requires."""
        value = self._members.get("traceparent")
        return (
            value if isinstance(value, str) and len(value) < 256 and _TRACEPARENT.fullmatch(value) else None
        )

    def data(self) -> dict[str, Any]:
        """The data for the template: an object."""
        value = self._members.get("data")
        if value is None:
            rule = "is required: an object with the letter's values, {} when there are none"
            self.refuse("data", rule, Code.FIELD_MISSING)
        elif not isinstance(value, dict):
            self.refuse("data", "must be an object with the letter's values")
        return value if isinstance(value, dict) else {}

    def metadata(self) -> dict[str, str]:
        """Texts that are stored with the letter."""
        value = self._members.get("metadata")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.refuse("metadata", "must be an object of texts")
            return {}
        if len(value) > METADATA_ENTRIES:
            self.refuse("metadata", f"has {len(value)} entries; at most {METADATA_ENTRIES} are allowed")
            return {}
        for key, text in value.items():
            if rule := _metadata_rule(key, text):
                self.refuse("metadata", f"entry {key[:METADATA_KEY_CHARACTERS]!a} {rule}")
        return value

    def items(self, name: str) -> list[Any]:
        """A list; empty if it is absent."""
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(name, "must be a list")
            return []
        return value


def _metadata_rule(key: str, text: Any) -> str | None:
    if not 0 < len(key) <= METADATA_KEY_CHARACTERS or control_character(key):
        return f"needs a name of 1 to {METADATA_KEY_CHARACTERS} characters on one line"
    if not isinstance(text, str):
        return "must be text"
    if len(text) > METADATA_VALUE_CHARACTERS:
        return f"has {len(text)} characters; at most {METADATA_VALUE_CHARACTERS} are allowed"
    return "holds a control character; remove it" if control_character(text) else None
