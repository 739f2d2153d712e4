"""A profile as one program hands it to others, which may be of an earlier release: its mark, and its reading.

In: a manifest's text. Out: its profiles, each with the fields that were left out because this release does
not know them. Only a text that carries the mark is read so: whoever wrote it had read it strictly, so that
no field in it is a slip of the pen. What a person writes has no mark, and an unknown field is an error there.
All else is as strict as ever; another format than ours is refused, for that is how a later release says that
something in it must not be left out (docs/decisions/0032).
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
"""The annotation that says which format a program wrote a manifest in."""
PROFILE_FORMAT = "postroom.profile/1"


@dataclass(frozen=True, slots=True)
class ParsedProfile:
    """A profile, and the fields of its text that this release does not know."""

    profile: SmtpProfile
    unknown_fields: tuple[str, ...] = ()
    """As `shop/orders: spec.retry.budget`."""


def parse_profiles(text: str, name: str) -> list[ParsedProfile]:
    """The profiles of a manifest's text; raises Rejected with places such as `profile.yaml:12` for fields."""
    found = [_parse_leniently(one) for one in read_manifests(text, name)]
    broken = [replace(problem, field=one.location(problem)) for one, _ in found for problem in one.problems]
    if broken:
        raise Rejected(*broken)
    return [
        _parsed_profile(one.object, unknown) for one, unknown in found if isinstance(one.object, SmtpProfile)
    ]


def _parsed_profile(profile: SmtpProfile, unknown: Iterable[Location]) -> ParsedProfile:
    whose = f"{profile.metadata.namespace}/{profile.metadata.name}"
    return ParsedProfile(profile, tuple(sorted(f"{whose}: {dotted_path(each)}" for each in unknown)))


def _parse_leniently(one: LocatedObject) -> tuple[LocatedObject, tuple[Location, ...]]:
    """What a manifest says to this release, and the fields that were left out for that."""
    value = one.document.value if one.document and one.kind == "SmtpProfile" and not one.root else {}
    written = _written_format(value)
    if written is None:
        return one, ()
    if written != PROFILE_FORMAT:
        return replace(one, object=None, problems=(_format_problem(written),)), ()
    if one.object is not None:
        return one, ()
    unknown = tuple(_unknown_locations(value))
    profile, problems, _ = parse_object(_without(unknown, value), one.kind)
    return replace(one, object=profile, problems=problems), unknown


def _written_format(value: Any) -> Any:
    for step in ("metadata", "annotations", FORMAT_ANNOTATION):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _format_problem(written: Any) -> Problem:
    rule = f"is {str(written)[:80]!r}, and this release reads {PROFILE_FORMAT!r}"
    message = (
        f"{rule}. A later one wrote this, with something in it that must not be left out: run that release"
    )
    return Problem(Code.MANIFEST_INVALID, f"metadata.annotations.{FORMAT_ANNOTATION}", message)


def _unknown_locations(value: dict[str, Any]) -> Iterator[Location]:
    """Where the object has fields, at any depth, that the model does not know."""
    try:
        validate_object(SmtpProfile, value)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            if one["type"] == "extra_forbidden":
                yield one["loc"]


def _without(fields: Iterable[Location], value: dict[str, Any]) -> dict[str, Any]:
    left = deepcopy(value)
    for *steps, name in fields:
        holder: Any = left
        for step in steps:
            holder = holder[step]
        del holder[name]
    return left
