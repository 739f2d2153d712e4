"""Profiles in the form that the operator writes for workers, which may be of an earlier release.

Input: the text of a manifest. Output: its profiles, each with the names of the fields that this release does
not know and ignores. Unknown fields are ignored only in a text with the annotation `postroom.dev/format`: a
program has read its fields strictly before it wrote them, so an unknown field is not a misspelling. A
manifest that a person writes has no such annotation, and unknown fields in it are errors. Everything else is
validated strictly. A text in another format is rejected: a later release changes the format when a field must
not be ignored (docs/decisions/0032).
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from postroom.letter.manifest import (
    LocatedObject,
    Location,
    dotted_path,
    parse_object,
    read_manifests,
    validate_object,
)
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import SmtpProfile

FORMAT_ANNOTATION = "postroom.dev/format"
"""The annotation with the format in which a program wrote the manifest."""
PROFILE_FORMAT = "postroom.profile/1"


@dataclass(frozen=True, slots=True)
class ParsedProfile:
    """A profile, and the fields of its text that this release does not know and ignored."""

    profile: SmtpProfile
    unknown_fields: tuple[str, ...] = ()
    """Each as `shop/orders: spec.retry.budget`."""


def parse_profiles(text: str, name: str) -> list[ParsedProfile]:
    """Parse the profiles in a manifest's text. Raises Rejected; fields are positions such as
    `profile.yaml:12`.
    """
    parsed = [_parse_leniently(located) for located in read_manifests(text, name)]
    problems = [
        replace(problem, field=located.location(problem))
        for located, _ in parsed
        for problem in located.problems
    ]
    if problems:
        raise Rejected(*problems)
    return [
        _parsed_profile(located.object, unknown)
        for located, unknown in parsed
        if isinstance(located.object, SmtpProfile)
    ]


def _parsed_profile(profile: SmtpProfile, unknown: Iterable[Location]) -> ParsedProfile:
    name = f"{profile.metadata.namespace}/{profile.metadata.name}"
    return ParsedProfile(profile, tuple(sorted(f"{name}: {dotted_path(each)}" for each in unknown)))


def _parse_leniently(located: LocatedObject) -> tuple[LocatedObject, tuple[Location, ...]]:
    """Parse an object without the fields that this release does not know; return their locations."""
    is_profile = located.document and located.kind == "SmtpProfile" and not located.root
    value = located.document.value if located.document and is_profile else {}
    written = _written_format(value)
    if written is None:
        return located, ()
    if written != PROFILE_FORMAT:
        return replace(located, object=None, problems=(_format_problem(written),)), ()
    if located.object is not None:
        return located, ()
    unknown = tuple(_unknown_locations(value))
    profile, problems, _ = parse_object(_without(unknown, value), located.kind)
    return replace(located, object=profile, problems=problems), unknown


def _written_format(value: Any) -> Any:
    for step in ("metadata", "annotations", FORMAT_ANNOTATION):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _format_problem(written: Any) -> Problem:
    rule = f"is {str(written)[:80]!r}, and this release reads {PROFILE_FORMAT!r}"
    message = f"{rule}. A later release wrote it with fields that must not be ignored: run that release"
    return Problem(Code.MANIFEST_INVALID, f"metadata.annotations.{FORMAT_ANNOTATION}", message)


def _unknown_locations(value: dict[str, Any]) -> Iterator[Location]:
    """The locations of fields at any depth that the model does not know."""
    try:
        validate_object(SmtpProfile, value)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            if each["type"] == "extra_forbidden":
                yield each["loc"]


def _without(fields: Iterable[Location], value: dict[str, Any]) -> dict[str, Any]:
    copy = deepcopy(value)
    for *steps, name in fields:
        holder: Any = copy
        for step in steps:
            holder = holder[step]
        del holder[name]
    return copy
