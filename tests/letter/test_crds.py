"""The CRDs and the models have the same fields, bounds, choices and defaults; drift shows without a server.

What a CRD says in CEL, a model says in Python; tests/cluster/test_parity.py compares those verdicts.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from postroom.letter.manifest import KINDS
from tests.cluster.corpus import Case, cases

CRDS = Path(__file__).parents[2] / "charts" / "postroom" / "files" / "crds"
KEYWORDS = (
    *("type", "enum", "pattern", "required"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
)
PROSE = r"^[\P{Cc}\t\n\r]*$"
"""No control characters, for texts that are too many for CEL's budget; the models' `Prose`."""
Schema = dict[str, Any]


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


@cache
def model_spec(model: type[BaseModel]) -> Schema:
    """The model's own schema of its spec, with references followed and `or null` left out."""
    whole = model.model_json_schema(by_alias=True)
    found = followed(whole["properties"]["spec"], whole["$defs"])
    assert isinstance(found, dict)
    return found


def followed(schema: Any, parts: Schema) -> Any:
    if isinstance(schema, list):
        return [followed(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return followed({**parts[schema["$ref"].rpartition("/")[2]], **without(schema, "$ref")}, parts)
    if "anyOf" in schema:
        (some,) = [each for each in schema["anyOf"] if each != {"type": "null"}]
        return followed({**some, **without(schema, "anyOf")}, parts)
    return {name: followed(each, parts) for name, each in schema.items()}


def without(schema: Schema, *names: str) -> Schema:
    return {name: each for name, each in schema.items() if name not in names}


def is_free(schema: Schema) -> bool:
    """Whether any object is taken."""
    return schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("additionalProperties") is True


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every part of a schema with its path; what is inside a free object is nobody's business."""
    yield path, schema
    if is_free(schema):
        return
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + sign)


def facts(schema: Schema) -> dict[str, Any]:
    """What both say of one field."""
    kept = {name: schema[name] for name in KEYWORDS if name in schema}
    if is_free(schema):
        return {"type": "object", "free": True}
    if "required" in kept:
        kept["required"] = sorted(kept["required"])
    if kept.get("pattern") == PROSE:
        del kept["pattern"]
    return kept


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


def said(value: Any, *nothing: Any) -> Any:
    """A value without the members that are null, or `nothing`."""
    if isinstance(value, dict):
        kept = {name: said(each, *nothing) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each is not None and each not in nothing}
    return [said(each, *nothing) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS)
def test_fields_types_bounds_and_choices_are_the_same(kind: str) -> None:
    ours = {path: facts(each) for path, each in nodes(crd_spec(kind), "spec")}
    theirs = {path: facts(each) for path, each in nodes(model_spec(KINDS[kind]), "spec")}
    assert ours == theirs


@pytest.mark.parametrize("case", [each for each in cases() if each.verdict == "accepted"], ids=str)
def test_the_defaults_are_the_same(case: Case) -> None:
    spec = said(case.placed("tenant").manifest["spec"])
    filled = defaulted(crd_spec(case.kind), spec)
    manifest = {**case.placed("tenant").manifest, "spec": spec}
    whole = KINDS[case.kind].model_validate(manifest, strict=True, by_alias=True, by_name=False)
    held = whole.model_dump(by_alias=True)["spec"]
    assert lowered(said(held, "", [], {})) == lowered(said(filled, "", [], {}))


def lowered(value: Any) -> Any:
    """Addresses and domains are held normalized: what is left of them is that there is one."""
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
