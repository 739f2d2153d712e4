"""Profiles from a later release: unknown fields are ignored and named; everything else is validated strictly.

`tests/golden/formats` holds the fields of each format. Adding a field to one is a decision: see ADVICE.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from postroom.letter.bundle import (
    BUNDLE_FORMAT,
    CompiledTemplate,
    LocaleVariant,
    TemplateFile,
    WeightedSubject,
)
from postroom.letter.manifest import dotted_path, read_manifests
from postroom.letter.problems import Code, Rejected
from postroom.letter.profile import SmtpProfile
from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT, parse_profiles

FORMATS = Path(__file__).parents[1] / "golden" / "formats"
FULL: dict[str, Any] = {
    "apiVersion": "postroom.dev/v1alpha1",
    "kind": "SmtpProfile",
    "metadata": {"name": "orders", "namespace": "shop", "annotations": {FORMAT_ANNOTATION: PROFILE_FORMAT}},
    "spec": {
        "mode": "SMTP",
        "from": {"address": "orders@larkfield.example"},
        "smtp": {
            "host": "relay.example",
            "tls": {"caRef": {"name": "ca"}, "clientCertSecretRef": {"name": "own"}},
            "auth": {"secretRef": {"name": "relay"}},
        },
        "limits": {"rate": {"count": 5}, "perRecipientRate": {"count": 1}},
        "retry": {"maxAttempts": 3},
        "circuitBreaker": {"failures": 3},
        "fallbackRef": {"name": "spare"},
        "dkim": [{"domain": "larkfield.example", "selector": "s", "secretRef": {"name": "dkim"}}],
        "bounces": {"domain": "bounce.larkfield.example", "secretRef": {"name": "bounces"}},
        "dedupe": {"window": "200h"},
        "suppression": {"hardBounces": "Ignore"},
        "kafka": {"partitions": 6},
        "connectionsSecretRef": {"name": "lines"},
        "workers": {"autoscaling": {"maxReplicas": 3}},
        "networkPolicy": {"peers": []},
        "callbacks": [
            {"name": "one", "url": "https://a.example/", "secretRef": {"name": "a"}, "caRef": {"name": "ca"}},
            {"name": "two", "url": "https://b.example/", "secretRef": {"name": "b"}},
        ],
    },
}


def parts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of the object's mappings, except in metadata, where unknown fields are allowed."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict) and path[:1] != ("metadata",):
        yield path
    for step, each in steps:
        yield from parts(each, (*path, step))


EVERY_PART = [pytest.param(path, id=dotted_path(path) or "whole") for path in parts(FULL)]


def with_a_later_field(*paths: tuple[str | int, ...]) -> dict[str, Any]:
    whole = deepcopy(FULL)
    for path in paths:
        part: Any = whole
        for step in path:
            part = part[step]
        part["later"] = {"any": ["thing", {"of": "a later release"}]}
    return whole


def changed(**spec: Any) -> str:
    whole = with_a_later_field(("spec",), ("spec", "smtp", "tls"))
    whole["spec"] |= spec
    return json.dumps(whole)


def test_the_full_profile_has_every_part() -> None:
    free = {"nodeSelector", "tolerations", "resources", "peers"}
    known = {place for place, part in _parts_of(SmtpProfile) if part}
    here = {".".join(str(step) for step in path if isinstance(step, str)) for path in parts(FULL)}
    assert {each for each in known if each.rpartition(".")[2] not in free} - {"metadata"} == here - {""}


@pytest.mark.parametrize("path", EVERY_PART)
def test_a_field_of_a_later_release_is_ignored_at_any_depth_and_named(path: tuple[str | int, ...]) -> None:
    [handed] = parse_profiles(json.dumps(with_a_later_field(path)), "profile.yaml")
    assert handed.profile == SmtpProfile.model_validate(FULL)
    assert handed.unknown_fields == (f"shop/orders: {dotted_path((*path, 'later'))}",)


def test_several_unknown_fields_are_ignored_together() -> None:
    every = list(parts(FULL))
    [handed] = parse_profiles(json.dumps(with_a_later_field(*every)), "profile.yaml")
    assert handed.profile == SmtpProfile.model_validate(FULL)
    assert len(handed.unknown_fields) == len(every)


def test_a_profile_of_this_release_has_no_unknown_fields() -> None:
    [handed] = parse_profiles(json.dumps(FULL), "profile.yaml")
    assert (handed.profile, handed.unknown_fields) == (SmtpProfile.model_validate(FULL), ())


@pytest.mark.parametrize("path", EVERY_PART)
def test_without_the_annotation_an_unknown_field_is_an_error(
    path: tuple[str | int, ...],
) -> None:
    whole = with_a_later_field(path)
    del whole["metadata"]["annotations"]
    with pytest.raises(Rejected) as refused:
        parse_profiles(json.dumps(whole), "profile.yaml")
    assert [each.code for each in refused.value.problems] == [Code.FIELD_UNKNOWN]


def test_read_manifests_rejects_unknown_fields_despite_the_annotation() -> None:
    [located] = read_manifests(json.dumps(with_a_later_field(("spec",))), "profile.yaml")
    assert [(each.code, each.field) for each in located.problems] == [(Code.FIELD_UNKNOWN, "spec.later")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mode": "Pigeon"}, "must be one of 'Sandbox', 'SMTP', 'Log'"),
        ({"onInDoubt": "Ask"}, "must be one of 'Resend', 'Park'"),
        ({"limits": {"connections": 0, "later": 1}}, "must be at least 1"),
        ({"smtp": {"port": 25, "later": 1}}, "is required"),
        ({"from": None, "form": {"address": "orders@larkfield.example"}}, "is required"),
        ({"dedupe": {"window": "1h", "later": 1}}, "1h is less than kafka.retention + retry.maxAge"),
    ],
)
def test_other_rules_stay_strict_beside_a_later_field(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_profiles(changed(**spec), "profile.yaml")
    [problem] = refused.value.problems
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    "whole", [FULL, with_a_later_field(("spec",))], ids=["known fields", "a later field"]
)
@pytest.mark.parametrize("mark", ["postroom.profile/2", "", 1, ["postroom.profile/1"]])
def test_another_format_is_rejected_with_any_content(whole: dict[str, Any], mark: Any) -> None:
    whole = whole | {"metadata": whole["metadata"] | {"annotations": {FORMAT_ANNOTATION: mark}}}
    with pytest.raises(Rejected, match=r"this release reads 'postroom\.profile/1'"):
        parse_profiles(json.dumps(whole), "profile.yaml")


def test_a_problem_beside_a_later_field_has_its_line() -> None:
    text = json.dumps(json.loads(changed(limits={"connections": 0})), indent=1)
    line = text[: text.index('"connections"')].count("\n") + 1
    with pytest.raises(Rejected) as refused:
        parse_profiles(text, "profile.yaml")
    assert refused.value.problems[0].field == f"profile.yaml:{line}"


ADVICE = """The fields of {format} have changed. A worker of an earlier release ignores a new field.
If it may, add the field to {file}; if it must not, write the next format: docs/decisions/0032."""


def test_the_fields_of_the_profile_format_are_recorded() -> None:
    same_as_kept(PROFILE_FORMAT, sorted(place for place, _ in _parts_of(SmtpProfile)))


def test_the_fields_of_the_bundle_format_are_recorded() -> None:
    of = {
        "": CompiledTemplate,
        "variants.": LocaleVariant,
        "variants.subjects.": WeightedSubject,
        "attachments.": TemplateFile,
    }
    same_as_kept(
        BUNDLE_FORMAT, sorted(path + each.name for path, part in of.items() for each in fields(part))
    )


def same_as_kept(form: str, found: list[str]) -> None:
    file = FORMATS / f"{form.replace('/', '-')}.txt"
    assert found == file.read_text().splitlines(), ADVICE.format(format=form, file=file.name)


def _parts_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, bool]]:
    """Every field of a model, and whether its value is a mapping."""
    for name, info in model.model_fields.items():
        place = f"{path}{info.alias or name}"
        inner = _models_in(info.annotation)
        yield place, bool(inner)
        for each in inner:
            yield from _parts_of(each, f"{place}.")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]
