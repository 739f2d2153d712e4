"""Durations as Kubernetes writes them: `5m`, `90s`, `1h30m`, `500ms`.

Text in, seconds out; a text that is no duration raises ValueError with the rule and an example.

What all manifests of the group postroom.dev have in common: field types, bounds, references.

Every text and every list has a bound, because the rules are mirrored as CEL in the CRDs, where the
API server prices a rule by the largest input it may meet. A rule over one field raises ValueError;
rules over several fields are collected with `broken` and raised in one piece, so that a person sees
all of them at once.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from postroom.letter.address import AddressText
from postroom.letter.problems import Code

MAX_DURATION_SECONDS = 366 * 24 * 3600.0
"""No duration of a manifest is longer than a leap year; more is a typing mistake."""

_DURATION_PARTS = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,8})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,12})ms)?", re.ASCII)


def duration_seconds(text: str) -> float:
    """The length of a duration in seconds; `h`, `m`, `s`, `ms`, in this order, whole numbers."""
    match = _DURATION_PARTS.fullmatch(text)
    if not text or not match:
        raise ValueError(
            f"{text[:40]!r} is not a duration; write whole hours, minutes, seconds like 1h30m, 90s or 500ms"
        )
    hours, minutes, secs, millis = (int(part or 0) for part in match.groups())
    total = hours * 3600.0 + minutes * 60.0 + secs + millis / 1000.0
    if total > MAX_DURATION_SECONDS:
        raise ValueError(f"{text} is longer than a year (8784h), the longest duration allowed")
    return total


def _positive(text: str) -> str:
    if duration_seconds(text) <= 0:
        raise ValueError(f"{text} is no time at all; the duration must be longer than zero")
    return text


Duration = Annotated[str, Field(max_length=32), AfterValidator(_positive)]
"""A field of a manifest: the text as it was written, known to parse and to be longer than zero."""


API_VERSION = "postroom.dev/v1alpha1"
GROUP = "postroom.dev"

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LANGUAGE_TAG = (
    r"^[A-Za-z]{2,8}(-[A-Za-z]{3}){0,3}"  # language, extended language
    r"(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"  # script, region
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"  # variants
    r"(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*(-[Xx](-[A-Za-z0-9]{1,8})+)?$"  # extensions, private use
)
"""The grammar of RFC 5646 §2.1; not whether a subtag is registered, which changes with the registry."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_BUT_LAYOUT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class ManifestModel(BaseModel):
    """The base of every part of a manifest: camelCase outside, unknown fields are errors, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, fields: Any) -> Any:
        """As the API server does: `headers:` with nothing behind it is a field that is not there."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


def control_character(text: str) -> str | None:
    """The first control character, line end or lone surrogate in `text` as `U+000A`, or None."""
    found = _CONTROL.search(text)
    return f"U+{ord(found[0]):04X}" if found else None


def rule_error(rule: str, code: Code = Code.MANIFEST_INVALID) -> PydanticCustomError:
    """The validation error for one field's broken rule, under a problem code."""
    return PydanticCustomError(code.value, "{rule}", {"rule": rule})


def _one_line(text: str) -> str:
    if found := control_character(text):
        hint = "; write it on one line, without the YAML sign | or >" if text.endswith("\n") else ""
        raise rule_error(f"holds a line end or control character ({found}){hint}", Code.CONTROL_CHARACTER)
    return text


def _multi_line(text: str) -> str:
    if found := _CONTROL_BUT_LAYOUT.search(text):
        raise rule_error(
            f"holds a control character (U+{ord(found[0]):04X}); remove it", Code.CONTROL_CHARACTER
        )
    return text


OneLine = AfterValidator(_one_line)
"""No line end, no control character."""
MultiLine = AfterValidator(_multi_line)
"""Lines and tabs are fine, other control characters are not."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_NAME)]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
"""A key in the data of a Secret."""
LocaleTag = Annotated[str, Field(min_length=2, max_length=35, pattern=LANGUAGE_TAG)]
"""A BCP 47 language tag such as `en`, `de-AT`, `zh-Hant-TW`."""
Label = Annotated[str, Field(min_length=1, max_length=63), OneLine]
"""A short name that people read: of a sample, a subject variant."""


class NameRef(ManifestModel):
    """A reference to an object in the same namespace; there is no namespace field on purpose."""

    name: ObjectName


class Mailbox(ManifestModel):
    """An address with an optional display name; the address is held normalized."""

    name: Annotated[str, Field(max_length=200), OneLine] = ""
    address: AddressText


class ObjectMetadata(BaseModel):
    """What Postroom reads of Kubernetes object metadata; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: ObjectName
    namespace: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    ] = "default"


BrokenRule = tuple[str, str]
"""A field, dotted from where the rule is written, and the message."""


def raise_broken_rules(rules: Iterable[BrokenRule], code: Code = Code.MANIFEST_INVALID) -> None:
    """Raise one validation error for all broken rules over several fields; none: do nothing."""
    found = list(rules)
    if found:
        text = "; ".join(f"{field}: {message}" for field, message in found)
        raise PydanticCustomError(code.value, "{rule}", {"rule": text, "broken_rules": found})


def find_duplicates(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Index and name of each element that an earlier one equals."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield index, name
        seen.add(name)
