"""The pages of the manifests: pydantic models in, a table for each model out."""

import json
from typing import Any

from pydantic import BaseModel

from writers.tables import Words, table

LONGEST_DEFAULT = 60


def kind_of(schema: dict[str, Any]) -> str:
    """The type of a field in YAML terms."""
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
    """The bounds of a schema, as short text."""
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


def prose(text: str) -> str:
    """A docstring as Markdown on one line."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*")


def fields(name: str, schema: dict[str, Any], models: dict[str, Any], words: Words) -> str:
    """One table: the fields of one model, described by their docstrings."""
    required = set(schema.get("required", ()))
    rows = []
    for field, each in schema.get("properties", {}).items():
        kind = ", ".join(filter(None, (kind_of(each), bounds_of(each))))
        model = models.get(each.get("$ref", "").rsplit("/", 1)[-1], {})
        text = each.get("description") or model.get("description")
        meaning = prose(text) if text else words.of(name, field)
        see = words.find("see", f"{name}.{field}")
        rows.append(
            (f"`{field}`", kind, default_of(each, required=field in required), f"{meaning} {see}".strip())
        )
    return table(("Field", "Type", "Default", "Meaning"), rows)


def manifest(model: type[BaseModel], words: Words) -> str:
    """One kind: its spec first, then each nested model."""
    schema = model.model_json_schema(by_alias=True)
    models = schema.get("$defs", {})
    spec = f"{model.__name__}Spec"
    lines = [f"# {model.__name__}\n", prose(schema["description"]), "\n## spec\n"]
    lines.append(fields(spec, models[spec], models, words))
    for name in (each for each in models if each != spec):
        text = prose(models[name].get("description", ""))
        lines += [f"## {name}\n", text + "\n", fields(name, models[name], models, words)]
    return "\n".join(lines)
