"""Data goes through a form and comes out as it went in; what is typed becomes what the schema asks for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.data_schema import DataSchema
from postroom.letter.template import EmailTemplate
from postroom.local.manifests import read_manifest_folder
from postroom.local.studio import forms

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "note": {"type": "string"},
        "nick": {"type": ["string", "null"]},
        "born": {"type": "string", "format": "date"},
        "age": {"type": "integer"},
        "height": {"type": "number", "default": 1.8},
        "member": {"type": "boolean"},
        "size": {"enum": ["S", "M", 3]},
        "kind": {"const": "reader"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"$ref": "#/$defs/address"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "free": {"type": "object"},
        "odd": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        "a/b~c": {"type": "string"},
        "orders": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "paid"],
                "properties": {"id": {"type": "string"}, "paid": {"type": "boolean"}},
            },
        },
    },
    "$defs": {
        "address": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}, "zip": {"type": "string"}},
        }
    },
}
TEXT = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs", "Cc"]), max_size=90)
DATA = st.fixed_dictionaries(
    {"name": TEXT},
    optional={
        "note": TEXT,
        "nick": TEXT | st.none(),
        "born": st.dates().map(str) | TEXT,
        "age": st.integers(-(10**20), 10**20),
        "height": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
        "member": st.booleans(),
        "size": st.sampled_from(["S", "M", 3]),
        "kind": st.just("reader"),
        "tags": st.lists(TEXT, max_size=3),
        "address": st.fixed_dictionaries({"city": TEXT}, optional={"zip": TEXT}),
        "either": st.integers() | st.none(),
        "free": st.dictionaries(TEXT, st.integers() | TEXT, max_size=2),
        "odd": TEXT | st.integers(),
        "a/b~c": TEXT,
        "orders": st.lists(st.fixed_dictionaries({"id": TEXT, "paid": st.booleans()}), max_size=3),
    },
)


def sent(field: forms.Field) -> Iterator[tuple[str, str]]:
    """What a browser sends of an unchanged form."""
    if field.mark:
        yield field.mark, field.pointer
    if field.kind == "list":
        yield f"rows:{field.pointer}", str(len(field.children))
    for child in field.children:
        yield from sent(child)
    if field.kind == "json":
        yield f"json:{field.pointer}", field.value.replace("\n", "\r\n")
    elif field.kind not in ("group", "list"):
        yield field.pointer, field.value.replace("\n", "\r\n")


def form_of(schema: dict[str, Any], data: Any, **changed: str) -> dict[str, list[str]]:
    form: dict[str, list[str]] = {}
    for name, value in sent(forms.build(schema, data)):
        form.setdefault(name, []).append(value)
    return form | {f"/{name}": [value] for name, value in changed.items()}


@given(DATA)
def test_unchanged_data_comes_out_as_it_went_in(data: dict[str, Any]) -> None:
    found = forms.read(SCHEMA, form_of(SCHEMA, data))
    assert json.dumps(found, sort_keys=True) == json.dumps(data, sort_keys=True)  # `1` is not `1.0` here


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param((item.spec.variables, sample.data), id=f"{item.metadata.name}-{sample.name}")
        for item in read_manifest_folder(EXAMPLES).objects
        if isinstance(item, EmailTemplate)
        for sample in item.spec.samples
    ],
)
def test_every_sample_of_the_examples_has_a_form(sample: tuple[dict[str, Any], dict[str, Any]]) -> None:
    schema, data = sample
    assert forms.read(schema, form_of(schema, data)) == data


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("name", "Mira", "Mira"),
        ("name", "two\r\nlines", "two\nlines"),
        ("name", "", ""),
        ("note", "x", "x"),
        ("age", "42", 42),
        ("age", " 42 ", 42),
        ("height", "1.50", 1.5),
        ("age", "forty", "forty"),
        ("age", "true", "true"),
        ("member", "false", False),
        ("size", '"M"', "M"),
        ("size", "3", 3),
        ("born", "2026-01-05", "2026-01-05"),
        ("a~1b~0c", "x", "x"),
    ],
)
def test_what_is_typed_becomes_what_the_schema_asks_for(name: str, typed: str, value: Any) -> None:
    found = forms.read(SCHEMA, form_of(SCHEMA, {"name": "Ada"}, **{name: typed}))
    assert found[name.replace("~1", "/").replace("~0", "~")] == value
    assert type(found[name.replace("~1", "/").replace("~0", "~")]) is type(value)


def test_what_is_left_empty_is_left_out_unless_it_is_required() -> None:
    assert forms.read(SCHEMA, form_of(SCHEMA, {})) == {"name": ""}


def test_an_emptied_optional_object_goes_and_an_emptied_required_number_too() -> None:
    form = form_of(SCHEMA, {"name": "x", "address": {"city": "Ghent"}})
    form["/address/city"] = [""]
    assert "address" not in forms.read(SCHEMA, form)
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}
    assert forms.read(schema, {"/n": [""]}) == {}


def test_a_value_of_another_type_than_the_schemas_is_shown_as_json() -> None:
    form = forms.build(SCHEMA, {"name": ["a", "list"], "tags": "no list"})
    kinds = {child.label: child.kind for child in form.children}
    assert (kinds["name"], kinds["tags"]) == ("json", "json")


def test_members_that_the_schema_does_not_name_are_not_lost() -> None:
    data = {"name": "x", "other": 1}
    assert forms.read(SCHEMA, form_of(SCHEMA, data)) == data


def test_text_that_is_not_json_is_kept_and_named() -> None:
    data = forms.read(SCHEMA, {"/name": ["x"], "json:/free": ['{"a": ']})
    ((path, rule),) = forms.unparsed(data)
    assert path == "data.free"
    assert rule.startswith("is not JSON")
    (field,) = (child for child in forms.build(SCHEMA, data).children if child.label == "free")
    assert field.value == '{"a": '


def test_nan_is_not_json() -> None:
    assert list(forms.unparsed(forms.read(SCHEMA, {"json:/free": ["NaN"]})))


def test_rows_are_added_where_they_are_asked_for_and_pass_the_schema() -> None:
    data: dict[str, Any] = {"name": "x"}
    forms.change(SCHEMA, data, "add", "/orders")
    forms.change(SCHEMA, data, "add", "/tags")
    assert data == {"name": "x", "orders": [{"id": "", "paid": False}], "tags": [""]}
    DataSchema(SCHEMA).validate(data)


def test_a_row_is_removed_by_its_number_and_no_other() -> None:
    data = {"name": "x", "tags": ["a", "b", "c"]}
    assert forms.change(SCHEMA, data, "remove", "/tags/1") == {"name": "x", "tags": ["a", "c"]}
    for nonsense in ("/tags/7", "/tags/x", "/name/0", "", "/nothing/0"):
        assert forms.change(SCHEMA, data, "remove", nonsense) == {"name": "x", "tags": ["a", "c"]}


@pytest.mark.parametrize("pointer", ["/name", "/nothing", "", "/tags/0", "/orders/9/id"])
def test_a_row_for_what_is_no_list_changes_nothing_that_is_there(pointer: str) -> None:
    data: dict[str, Any] = {"name": "x", "tags": ["a"]}
    found = forms.change(SCHEMA, data, "add", pointer)
    assert (found["name"], found["tags"]) == ("x", ["a"])


def test_rows_that_cannot_be_typed_are_not_made() -> None:
    assert len(forms.read(SCHEMA, {"/name": ["x"], "rows:/tags": ["999999999"]})["tags"]) == forms.MOST_ROWS
    assert "tags" not in forms.read(SCHEMA, {"/name": ["x"], "rows:/tags": ["-1"]})


def test_a_schema_that_contains_itself_ends_in_json() -> None:
    schema = {
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/node"}},
        "$defs": {"node": {"type": "object", "properties": {"node": {"$ref": "#/$defs/node"}}}},
    }
    data: dict[str, Any] = {"node": {"node": {}}}
    assert forms.read(schema, form_of(schema, data)) == data


def test_hints_say_kind_need_default_and_description() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "default": 3, "description": "How many."}},
    }
    (field,) = forms.build(schema, {}).children
    assert (field.hint, field.placeholder) == ("whole number, optional, 3 when left out. How many.", "3")
