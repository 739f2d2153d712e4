"""Bundles: what is packed is what is loaded, and nothing else is."""

import json
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest

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


def test_a_template_comes_back_as_it_was_packed() -> None:
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


def test_holding_a_template_back_does_not_change_its_revision() -> None:
    assert compiled(suspend=True).revision == compiled().revision


def test_a_catalog_finds_a_template_by_event_type() -> None:
    catalog = load_catalog([pack_bundle([compiled(eventTypes=["a.b", "c.d"])])])
    found = catalog.find("c.d")
    assert found is not None
    assert (found.name, found.suspended) == ("test", False)
    assert catalog.find("a.b") is found
    assert catalog.find("e.f") is None


def test_shards_are_read_together_and_the_first_claim_counts() -> None:
    one, two = compiled(), replace(compiled(), name="other", event_types=("shop.test", "shop.more"))
    catalog = load_catalog([pack_bundle([one]), pack_bundle([two])])
    assert [catalog.find(name).name for name in ("shop.test", "shop.more")] == ["test", "other"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ([], "later"),
        (["editions", 1], "editions.later"),
        (["editions", 0, "subjects", 1], "editions.subjects.later"),
        (["attachments", 0], "attachments.later"),
    ],
)
def test_a_field_of_a_later_release_is_left_out_at_any_depth_and_named(
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


def test_another_format_is_refused_by_its_name() -> None:
    text = pack_bundle([compiled()]).replace("bundle/1", "bundle/9")
    with pytest.raises(Rejected, match=r"its format is 'postroom\.bundle/9', and this release reads"):
        unpack_bundle(text)


MESSAGES: dict[str, Any] = {"messages": {"hi": "Hello {name}"}, "subject": '{{ t("hi", name=name) }}'}


def test_a_bundle_with_messages_is_of_the_second_format_and_comes_back() -> None:
    plain, with_messages = compiled(), compiled(**MESSAGES)
    assert json.loads(pack_bundle([plain]))["format"] == "postroom.bundle/1"
    text = pack_bundle([plain, with_messages])
    assert json.loads(text)["format"] == "postroom.bundle/2"
    assert unpack_bundle(text) == [plain, with_messages]
    assert not has_unknown_format(text)
    assert has_unknown_format(text.replace("bundle/2", "bundle/9"))


def test_fields_that_came_later_change_no_revision_while_they_are_not_set() -> None:
    whole = compiled().to_json()
    written = json.dumps({name: whole[name] for name in whole if name not in ("revision", "suspend")})
    assert "messages" in written
    template = compiled(variables={"type": "object", "properties": {"name": {"messages": {}}}})
    assert template.revision != compiled().revision
    assert (
        compiled(**MESSAGES).revision
        != compiled(subject='{{ t("hi", name=name) }}', messages={"hi": "x {name}"}).revision
    )


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
def test_what_is_not_a_bundle_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        load_catalog([text])
    assert caught.value.code is Code.MANIFEST_INVALID


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ["a"]), ("namespace", 5), ("revision", {}), ("event_types", [{}]), ("name", "half a \ud800")],
)
def test_names_that_are_no_text_are_refused(field: str, value: Any) -> None:
    """Whoever may edit a ConfigMap may write them, and everybody looks templates up by them."""
    written = json.loads(pack_bundle([compiled()]))
    written["templates"][0][field] = value
    with pytest.raises(Rejected, match="not a bundle"):
        unpack_bundle(json.dumps(written))


def test_a_bundle_cannot_carry_what_a_manifest_may_not() -> None:
    template = compiled()
    evil = replace(template.editions[0], html="{{ ''.__class__ }}")
    found = load_catalog([pack_bundle([replace(template, editions=(evil,))])]).find("shop.test")
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
