"""The pages of the manifests: pydantic models in, a table for each part out."""

import json
from typing import Any

from pydantic import BaseModel

from writers.tables import Words, table

LONGEST_DEFAULT = 60


def kind_of(schema: dict[str, Any]) -> str:
    """A field's type as a reader of YAML thinks of it."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(kind_of(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    kind = str(schema.get("type", "any"))
    return "map" if kind == "object" else kind


def bounds_of(schema: dict[str, Any]) -> str:
    """The bounds that a schema states, in few words."""
    inner = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), schema)
    signs = {"minimum": "≥ {}", "maximum": "≤ {}", "minLength": "≥ {} characters"}
    signs |= {"maxLength": "≤ {} characters", "minItems": "≥ {} items", "maxItems": "≤ {} items"}
    found = [
        sign.format(f"{inner[key]:,}") for key, sign in signs.items() if inner.get(key) not in {None, 0, 1}
    ]
    return ", ".join(found)


def default_of(schema: dict[str, Any], *, required: bool) -> str:
    """A field's default, as short YAML."""
    default = schema.get("default")
    if required:
        return "**required**"
    if default in (None, [], {}, ""):
        return "–"
    text = json.dumps(default, ensure_ascii=False) if not isinstance(default, str) else default
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see its own table"


def fields(name: str, schema: dict[str, Any], words: Words) -> str:
    """One table: the fields of one model."""
    required = set(schema.get("required", ()))
    rows = []
    for field, each in schema.get("properties", {}).items():
        kind = ", ".join(filter(None, (kind_of(each), bounds_of(each))))
        rows.append((f"`{field}`", kind, default_of(each, required=field in required), words.of(name, field)))
    return table(("Field", "Type", "Default", "What it says"), rows)


def manifest(model: type[BaseModel], words: Words) -> str:
    """One kind: its spec first, then every part it is made of."""
    definitions = model.model_json_schema(by_alias=True).get("$defs", {})
    spec = f"{model.__name__}Spec"
    introduction = words.of("kinds", model.__name__)
    lines = [f"# {model.__name__}\n", introduction, "\n## spec\n"]
    lines.append(fields(spec, definitions.pop(spec), words))
    for name, schema in definitions.items():
        text = schema.get("description", "")
        lines += [f"## {name}\n", text + "\n", fields(name, schema, words)]
    return "\n".join(lines)
