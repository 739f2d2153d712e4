"""The base model and the field types that the manifests of the group postroom.dev share.

The pydantic models in `profile` and `template` are the only source of the custom resources: field types,
bounds, defaults, CEL rules (`custom_resource`) and descriptions. The docstring below a field is its
description in the CRD and in the reference.

Every text and every list has a bound: the API server prices a CEL rule by the largest input that the schema
allows. A Python rule over one field raises ValueError. Rules over several fields are collected and raised
together with `raise_broken_rules`, so that an author sees all of them at once.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError

from postroom.letter.address import normalize_address
from postroom.letter.custom_resource import CelRule, CelRules, FieldRule, JsonSchema, add_cel_rules
from postroom.letter.problems import Code, Rejected

API_VERSION = "postroom.dev/v1alpha1"
GROUP = "postroom.dev"


# --- models -------------------------------------------------------------------------------------------------


class ManifestModel(BaseModel):
    """The base of every part of a manifest: camelCase outside, unknown fields are errors, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    cel_rules: ClassVar[tuple[CelRule, ...]] = ()
    """The rules over several fields, as the API server checks them; the Python rules are validators."""

    @model_validator(mode="before")
    @classmethod
    def _drop_null_fields(cls, fields: Any) -> Any:
        """Treat `headers:` without a value as an absent field, as the API server does."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        schema = handler(core)
        if cls.cel_rules:
            add_cel_rules(handler.resolve_ref_schema(schema), cls.cel_rules)
        return schema


BrokenRule = tuple[str, str]
"""A field, dotted from where the rule is written, and the message."""


def raise_broken_rules(rules: Iterable[BrokenRule], code: Code = Code.MANIFEST_INVALID) -> None:
    """Raise one validation error for all broken rules over several fields; without any, do nothing."""
    found = list(rules)
    if found:
        text = "; ".join(f"{field}: {message}" for field, message in found)
        raise PydanticCustomError(code.value, "{rule}", {"rule": text, "broken_rules": found})


def rule_error(rule: str, code: Code = Code.MANIFEST_INVALID) -> PydanticCustomError:
    """The validation error for the broken rule of one field, under a problem code."""
    return PydanticCustomError(code.value, "{rule}", {"rule": rule})


def find_duplicates(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Index and name of each element that equals an earlier one."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield index, name
        seen.add(name)


# --- texts --------------------------------------------------------------------------------------------------

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LANGUAGE_TAG = (
    r"^[A-Za-z]{2,8}(-[A-Za-z]{3}){0,3}"  # language, extended language
    r"(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"  # script, region
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"  # variants
    r"(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*(-[Xx](-[A-Za-z0-9]{1,8})+)?$"  # extensions, private use
)
"""The grammar of RFC 5646 §2.1. Whether a subtag is registered is not checked: the registry changes."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_BUT_LAYOUT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_NO_LINE_END = r"!self.matches(r'[\p{Cc}\p{Zl}\p{Zp}]')"


def control_character(text: str) -> str | None:
    """The first control character, line end or lone surrogate in `text` as `U+000A`, or None."""
    found = _CONTROL.search(text)
    return f"U+{ord(found[0]):04X}" if found else None


def _one_line(text: str) -> str:
    if found := control_character(text):
        hint = "; write it on one line, without the YAML sign | or >" if text.endswith("\n") else ""
        raise rule_error(f"holds a line end or control character ({found}){hint}", Code.CONTROL_CHARACTER)
    return text


def _multi_line(text: str) -> str:
    if found := _CONTROL_BUT_LAYOUT.search(text):
        rule = f"holds a control character (U+{ord(found[0]):04X}); remove it"
        raise rule_error(rule, Code.CONTROL_CHARACTER)
    return text


def no_line_end(message: str = "holds a line end or control character") -> CelRule:
    """The CEL rule of a text on one line."""
    return CelRule(_NO_LINE_END, message)


OneLine = FieldRule(_one_line, no_line_end())
"""A text without line ends and control characters."""
MultiLine = FieldRule(
    _multi_line, CelRule(r"!self.matches(r'[^\P{Cc}\t\n\r]')", "holds a control character; remove it")
)
"""A text that may hold line ends and tabs, but no other control characters."""
MULTI_LINE_PATTERN = r"^[\P{Cc}\t\n\r]*$"


class MultiLineInList(FieldRule):
    """The same for texts in lists and maps: they are too many for CEL's budget, so the CRD has a pattern."""

    def __init__(self) -> None:
        super().__init__(_multi_line)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {**handler(core), "pattern": MULTI_LINE_PATTERN}


ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_NAME)]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
"""A key in the data of a Secret."""
LocaleTag = Annotated[str, Field(min_length=2, max_length=35, pattern=LANGUAGE_TAG)]
"""A BCP 47 language tag such as `en`, `de-AT`, `zh-Hant-TW`."""
Label = Annotated[str, Field(min_length=1, max_length=63), OneLine]
"""A short name for people: of a sample, of a subject variant."""


# --- addresses and domains ----------------------------------------------------------------------------------

_HOST_LABEL = (
    r"[A-Za-z0-9\x{a1}-\x{10ffff}]([A-Za-z0-9\x{a1}-\x{10ffff}-]{0,61}[A-Za-z0-9\x{a1}-\x{10ffff}])?"
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x{a1}-\x{10ffff}-]+"


def _normalized_address(text: str) -> str:
    try:
        return str(normalize_address(text, "address", Code.FIELD_INVALID))
    except Rejected as rejected:
        raise ValueError(rejected.problems[0].message) from None


def _normalized_domain(text: str) -> str:
    try:
        return normalize_address(f"a@{text}", "domain", Code.FIELD_INVALID).domain
    except Rejected:
        raise ValueError("is not a domain name; write it like example.org, without @ and wildcard") from None


AddressText = Annotated[
    str,
    Field(min_length=3, max_length=320),
    FieldRule(
        _normalized_address,
        CelRule("!self.matches('[,;].*@.*@|@.*[,;].*@|@.*@.*[,;]')", "holds several addresses; give one"),
        CelRule("!self.matches('[<>]')", "holds a name or brackets; give the bare address only"),
        CelRule(
            "bytes(self.split('@')[0]).size() <= 64 && self.size() <= 254",
            "is too long; 64 octets before the @ and 254 in all are allowed (RFC 5321 section 4.5.3.1)",
        ),
        CelRule(
            rf'self.matches(r"^{_ATOM}(\.{_ATOM})*@")'
            rf" && self.matches(r'^[^@]*@{_HOST_LABEL}(\.{_HOST_LABEL})*$')"
            " && !self.matches('@(.*[.])?([^.xX][^.]|[xX][^.nN])--')",
            "is not a valid address; give one like ada@example.org",
        ),
    ),
]
"""One address; the model holds it normalized."""
DomainText = Annotated[
    str,
    Field(min_length=1, max_length=253),
    FieldRule(
        _normalized_domain,
        CelRule(
            rf"self.matches(r'^{_HOST_LABEL}(\.{_HOST_LABEL})*$')"
            " && !self.matches('^(.*[.])?([^.xX][^.]|[xX][^.nN])--')",
            "is not a domain name; write it like example.org, without @ and wildcard",
        ),
    ),
]
"""One domain; the model holds it as a lower-case A-label."""


# --- durations ----------------------------------------------------------------------------------------------

MAX_DURATION_SECONDS = 366 * 24 * 3600.0
"""A leap year. A longer duration in a manifest is a typing mistake."""

_DURATION_PARTS = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,8})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,12})ms)?", re.ASCII)
IS_DURATION = "^([0-9]{1,6}(h|ms|m|s))+$"
"""What CEL's `duration()` takes: a rule over durations applies only to texts of this form."""


def duration_seconds(text: str) -> float:
    """The length in seconds of a duration as Kubernetes writes it: `5m`, `90s`, `1h30m`, `500ms`.

    The units `h`, `m`, `s`, `ms` come in this order, each a whole number. Raises ValueError with the rule.
    """
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
        raise ValueError(f"{text} is zero; the duration must be longer")
    return text


def longest_duration(limit: str, message: str) -> CelRule:
    """The CEL rule of a duration that is at most `limit`."""
    return CelRule(f"!self.matches('{IS_DURATION}') || duration(self) <= duration('{limit}')", message)


PositiveDuration = Annotated[
    str,
    Field(max_length=32),
    FieldRule(
        _positive,
        CelRule(
            "self != '' && self.matches('^([0-9]{1,6}h)?([0-9]{1,8}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$')",
            "is not a duration; write whole hours, minutes, seconds like 1h30m, 90s or 500ms",
        ),
        CelRule(
            f"!self.matches('{IS_DURATION}') || duration(self) > duration('0s')",
            "is zero; the duration must be longer",
        ),
    ),
]
"""A duration longer than zero, for a field that has an upper bound of its own."""
Duration = Annotated[
    PositiveDuration,
    CelRules(longest_duration("8784h", "is longer than a year (8784h), the longest duration allowed")),
]
"""A duration longer than zero and at most a year; the model holds the text as it was written."""


# --- parts that several kinds have --------------------------------------------------------------------------


class NameRef(ManifestModel):
    """A reference to an object in the same namespace. It has no namespace field on purpose."""

    name: ObjectName
    """The name of an object in the same namespace."""


class Mailbox(ManifestModel):
    """An address with an optional display name; the model holds the address normalized."""

    name: Annotated[str, Field(max_length=200), OneLine] = ""
    """The display name."""
    address: AddressText
    """The bare address, such as post@example.org."""


class ObjectMetadata(BaseModel):
    """The Kubernetes object metadata that Postroom reads; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: ObjectName
    namespace: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    ] = "default"
