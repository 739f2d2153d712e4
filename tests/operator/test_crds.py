"""The CRDs in the chart are what the generator writes, and what the models declare is in them.

tests/cluster/test_parity.py asks a real API server for its verdicts on the same corpus as the models' tests.
"""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from postroom.letter.manifest import KINDS
from postroom.letter.profile import SmtpProfileSpec
from postroom_operator.crds import definitions, model_schema
from tests.cluster.corpus import Case, cases
from tests.fixtures.helm import CHART

CRDS = CHART / "files" / "crds"
Schema = dict[str, Any]


def test_the_definitions_in_the_chart_are_the_generated_ones(rewrite: bool) -> None:
    generated = definitions()
    for name, text in generated.items():
        if rewrite:
            (CRDS / name).write_text(text)
        assert (CRDS / name).read_text() == text, f"{name}: `make manifests` writes it"
    assert sorted(path.name for path in CRDS.iterdir()) == sorted(generated)


def test_a_new_optional_field_needs_nothing_but_its_line_in_the_model() -> None:
    class Extended(SmtpProfileSpec):
        quiet_hours: Annotated[str, Field(max_length=11, pattern="^[0-9:-]+$")] | None = None
        """When no letters are sent, as 22:00-06:00."""

    before, after = model_schema(SmtpProfileSpec), model_schema(Extended)
    assert after["properties"].pop("quietHours") == {
        "description": "When no letters are sent, as 22:00-06:00.",
        "type": "string",
        "maxLength": 11,
        "pattern": "^[0-9:-]+$",
    }
    assert after["properties"] == before["properties"]
    assert after["required"] == before["required"]


def test_a_bound_that_a_definition_cannot_express_is_an_error() -> None:
    class Extended(SmtpProfileSpec):
        multiple: Annotated[int, Field(multiple_of=5)] = 5

    with pytest.raises(ValueError, match="multipleOf"):
        model_schema(Extended)


@cache
def definition(kind: str) -> Schema:
    found: Schema = yaml.safe_load(next(CRDS.glob(f"*_{kind.lower()}s.yaml")).read_text())
    return found


def version(kind: str) -> Schema:
    (only,) = definition(kind)["spec"]["versions"]
    found: Schema = only
    return found


def crd_spec(kind: str) -> Schema:
    found: Schema = version(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def is_free(schema: Schema) -> bool:
    """Whether any object is accepted."""
    return schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("additionalProperties") is True


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every part of a schema with its path; the inside of a free object is skipped."""
    yield path, schema
    if is_free(schema):
        return
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + sign)


def defaulted(schema: Schema, value: Any) -> Any:
    """A value with the schema's defaults filled in, as the API server does it."""
    if isinstance(value, dict) and not is_free(schema):
        for name, each in schema.get("properties", {}).items():
            if name not in value and "default" in each:
                value = {**value, name: each["default"]}
        parts = schema.get("properties", {})
        return {name: defaulted(parts.get(name, {}), each) for name, each in value.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), each) for each in value]
    return value


def without_empty(value: Any, *nothing: Any) -> Any:
    """A value without the members that are null, or `nothing`."""
    if isinstance(value, dict):
        kept = {name: without_empty(each, *nothing) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each is not None and each not in nothing}
    return [without_empty(each, *nothing) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", [each for each in cases() if each.verdict == "accepted"], ids=str)
def test_the_defaults_are_the_same(case: Case) -> None:
    spec = without_empty(case.placed("tenant").manifest["spec"])
    filled = defaulted(crd_spec(case.kind), spec)
    manifest = {**case.placed("tenant").manifest, "spec": spec}
    whole = KINDS[case.kind].model_validate(manifest, strict=True, by_alias=True, by_name=False)
    held = whole.model_dump(by_alias=True)["spec"]
    assert lowered(without_empty(held, "", [], {})) == lowered(without_empty(filled, "", [], {}))


def lowered(value: Any) -> Any:
    """Models normalize addresses and domains: only their presence is compared."""
    if isinstance(value, dict):
        normal = ("address", "replyTo", "allowedFromDomains", "domain", "recipient")
        return {name: "…" if name in normal else lowered(each) for name, each in value.items()}
    return [lowered(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    schema = version(kind)["schema"]["openAPIV3Schema"]
    silent = [
        path
        for path, each in nodes(schema, kind)
        if not path.startswith(f"{kind}.metadata") and not path.endswith(("[]", "{}"))
        if not each.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_list_and_map_of_the_spec_is_bounded(kind: str) -> None:
    bounds = {"string": "maxLength", "array": "maxItems"}
    unbounded = [
        path
        for path, each in nodes(crd_spec(kind), "spec")
        if (bound := bounds.get(each["type"])) and bound not in each and "enum" not in each
        if not path.endswith(".variables.type")
    ]
    assert unbounded == []


@pytest.mark.parametrize(
    ("kind", "short"), [("EmailTemplate", "et"), ("EmailLayout", "el"), ("SmtpProfile", "smtp")]
)
def test_kubectl_knows_the_kind_by_its_names(kind: str, short: str) -> None:
    spec = definition(kind)["spec"]
    assert (spec["group"], spec["scope"], spec["names"]["kind"]) == ("postroom.dev", "Namespaced", kind)
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == ([short], ["postroom"])
    assert (version(kind)["served"], version(kind)["storage"]) == (True, True)
    assert version(kind)["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_status_has_conditions_by_type(kind: str) -> None:
    status = version(kind)["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    conditions = status["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert sorted(conditions["items"]["required"]) == [
        *("lastTransitionTime", "message", "reason", "status", "type"),
    ]
    assert status["observedGeneration"]["format"] == "int64"
    columns = [column["name"] for column in version(kind)["additionalPrinterColumns"]]
    assert columns[:2] == ["Ready", "Reason"]
    assert columns[-1] == "Message"
