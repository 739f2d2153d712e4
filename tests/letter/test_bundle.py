"""Bundles: a packed template is loaded unchanged; other texts are rejected."""

import json
from dataclasses import replace
from hashlib import sha256
from time import perf_counter
from typing import Any

import pytest

from postroom.letter import bundle
from postroom.letter.bundle import has_unknown_format, pack_bundle, unknown_bundle_fields, unpack_bundle
from postroom.letter.problems import Code, Rejected
from postroom.letter.renderer import load_catalog
from tests.letter.factories import compiled, event

FULL: dict[str, Any] = {
    "category": "Subscription",
    "unsubscribeUrl": "https://x.org/u?r={{ letter.recipient|urlencode }}",
    "preheader": "Hi {{ name }}",
    "css": "p { color: #111111 }",
    "locales": [{"tag": "de", "subject": "Hallo {{ name }}"}],
    "from": {"name": "Zoë", "address": "zoe@larkfield.example"},
    "replyTo": "help@larkfield.example",
    "headers": [{"name": "X-Kind", "value": "{{ name }}"}],
    "subjectVariants": [{"name": "a", "subject": "A"}, {"name": "b", "subject": "B", "weight": 3}],
    "attachments": [{"filename": "a.txt", "contentType": "text/plain", "content": "aGk="}],
    "expiresAfter": "10m",
}


def test_a_template_is_read_as_it_was_packed() -> None:
    template = compiled(**FULL)
    assert unpack_bundle(pack_bundle([template])) == [template]


def test_a_bundle_is_json_in_order_of_names() -> None:
    first = compiled()
    text = pack_bundle([replace(first, name="b"), replace(first, name="a")])
    assert [template["name"] for template in json.loads(text)["templates"]] == ["a", "b"]


def test_the_same_manifest_has_the_same_revision_and_another_has_another() -> None:
    assert compiled().revision == compiled().revision
    assert len(compiled().revision) == 12
    others = [compiled(subject="Other"), compiled("<p>Other {{ name }}</p>"), compiled(expiresAfter="5m")]
    assert len({compiled().revision, *(other.revision for other in others)}) == 4


def test_suspending_a_template_does_not_change_its_revision() -> None:
    assert compiled(suspend=True).revision == compiled().revision


def test_a_catalog_finds_a_template_by_event_type() -> None:
    catalog = load_catalog([pack_bundle([compiled(eventTypes=["a.b", "c.d"])])])
    found = catalog.find("c.d")
    assert found is not None
    assert (found.name, found.suspended) == ("test", False)
    assert catalog.find("a.b") is found
    assert catalog.find("e.f") is None


def test_of_two_shards_the_first_has_an_event_type() -> None:
    one, two = compiled(), replace(compiled(), name="other", event_types=("shop.test", "shop.more"))
    catalog = load_catalog([pack_bundle([one]), pack_bundle([two])])
    assert [catalog.find(name).name for name in ("shop.test", "shop.more")] == ["test", "other"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ([], "later"),
        (["variants", 1], "variants.later"),
        (["variants", 0, "subjects", 1], "variants.subjects.later"),
        (["attachments", 0], "attachments.later"),
    ],
)
def test_a_field_of_a_later_release_is_ignored_at_any_depth_and_named(
    path: list[str | int], named: str
) -> None:
    template = compiled(**FULL)
    text = pack_bundle([template])
    whole = json.loads(text)
    part = whole["templates"][0]
    for step in path:
        part = part[step]
    part["later"] = {"of": ["a later release"]}
    newer = json.dumps(whole)
    assert unpack_bundle(newer) == [template]
    assert unknown_bundle_fields(newer) == frozenset({named})
    assert unknown_bundle_fields(text) == frozenset()


def test_another_format_is_rejected_by_its_name() -> None:
    text = pack_bundle([compiled()]).replace("bundle/1", "bundle/9")
    with pytest.raises(Rejected, match=r"its format is 'postroom\.bundle/9', and this release reads"):
        unpack_bundle(text)


MESSAGES: dict[str, Any] = {"messages": {"hi": "Hello {name}"}, "subject": '{{ t("hi", name=name) }}'}


def test_a_bundle_with_messages_is_read_unchanged() -> None:
    templates = [compiled(), compiled(**MESSAGES)]
    text = pack_bundle(templates)
    assert unpack_bundle(text) == templates
    assert not has_unknown_format(text)
    assert has_unknown_format(text.replace("bundle/1", "bundle/9"))


def test_messages_count_for_the_revision() -> None:
    other = compiled(subject='{{ t("hi", name=name) }}', messages={"hi": "x {name}"})
    assert compiled(**MESSAGES).revision != other.revision


def test_an_unset_later_field_does_not_change_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LATER_FIELDS", ("messages",))
    template = compiled()
    assert template.revision != compiled(**MESSAGES).revision
    whole = {name: value for name, value in template.to_json().items() if name not in ("revision", "suspend")}
    for variant in whole["variants"]:
        del variant["messages"]
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert template.revision == sha256(canonical.encode()).hexdigest()[:12]
    declared = compiled(variables={"type": "object", "properties": {"name": {"messages": {}}}})
    assert declared.revision != template.revision, "a variable of that name counts"


NO_BUNDLES = [
    "",
    "{}",
    "[]",
    "null",
    '{"format": "x"}',
    "[" * 100_000,
    '{"format": "postroom.bundle/1", "templates": [{}]}',
]


@pytest.mark.parametrize("text", NO_BUNDLES)
def test_a_text_that_is_not_a_bundle_is_rejected(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        load_catalog([text])
    assert caught.value.code is Code.MANIFEST_INVALID


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ["a"]), ("namespace", 5), ("revision", {}), ("event_types", [{}]), ("name", "half a \ud800")],
)
def test_names_that_are_not_text_are_rejected(field: str, value: Any) -> None:
    """A person may edit the ConfigMap, and templates are looked up by these fields."""
    written = json.loads(pack_bundle([compiled()]))
    written["templates"][0][field] = value
    with pytest.raises(Rejected, match="not a bundle"):
        unpack_bundle(json.dumps(written))


def test_a_bundle_with_half_a_surrogate_pair_is_rejected() -> None:
    template = compiled()
    evil = replace(template.variants[0], html="{{ ''.__class__ }}")
    found = load_catalog([pack_bundle([replace(template, variants=(evil,))])]).find("shop.test")
    assert found is not None
    with pytest.raises(Rejected) as caught:
        found.render(event(name="x"))
    assert caught.value.code is Code.TEMPLATE_UNSAFE


def test_a_hundred_templates_load_within_a_second() -> None:
    template = compiled("<p>Hello {{ name }}</p>" * 200)
    text = pack_bundle([replace(template, name=f"t{n}", event_types=(f"shop.{n}",)) for n in range(100)])
    start = perf_counter()
    assert len(load_catalog([text]).templates) == 100
    assert perf_counter() - start < 1
