"""A template's `variables`: the JSON Schema against which an event's data is validated before rendering.

`DataSchema` compiles a schema (jsonschema-rs) and validates data: data in, the same with defaults filled in
out, or Rejected with every broken rule. The regex engine takes linear time. Nothing is fetched: a `$ref` may
point only into the schema itself. A variable that the schema does not name is an error unless the schema has
`additionalProperties`. Messages name the variable and the rule, never the value.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import jsonschema_rs

from postroom.letter.problems import Code, Problem, Rejected, did_you_mean

MAX_SCHEMA_DEPTH = 16
VALUE_MASK = "the value"

JsonSchema = Mapping[str, Any]
DefaultFiller = Callable[[Any], Any]


class DataSchema:
    """A compiled schema."""

    __slots__ = ("_fill", "_validator", "schema")

    def __init__(self, variables: JsonSchema) -> None:
        """Compile a schema. Raises Rejected (schema_invalid) with the place in `spec.variables`."""
        self.schema: JsonSchema = {"additionalProperties": False, **variables}
        reject_remote_refs(variables)
        try:
            self._validator = jsonschema_rs.validator_for(
                dict(self.schema),
                offline=True,
                validate_formats=True,
                mask=VALUE_MASK,
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise Rejected(_explain_schema(error)) from None
        self._fill = default_filler(self.schema, self.schema)

    def validate(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Validate data and return it with defaults filled in. Raises Rejected with every broken rule."""
        filled = dict(data) if self._fill is None else self._fill(dict(data))
        if not self._validator.is_valid(filled):
            raise Rejected(*self._problems(filled))
        return filled

    def _problems(self, data: Any) -> Iterator[Problem]:
        for error in self._validator.iter_errors(data):
            place = ".".join(("data", *map(str, error.instance_path)))
            known = properties_at(self.schema, error.instance_path)
            match error.kind.name:
                case "required":
                    name = str(error.kind.value)
                    message = (
                        f"`{name}` is required and absent{_likely_name(name, data, error.instance_path)}"
                    )
                    yield Problem(Code.VARIABLE_MISSING, f"{place}.{name}", message)
                case "additionalProperties" | "unevaluatedProperties":
                    for name in error.kind.value:
                        message = f"`{name}` is not declared in the template's variables"
                        yield Problem(
                            Code.VARIABLE_UNKNOWN, f"{place}.{name}", message + did_you_mean(name, known)
                        )
                case _:
                    yield Problem(Code.VARIABLE_INVALID, place, error.message)


def _likely_name(name: str, data: Any, path: list[str | int]) -> str:
    for step in path:
        data = data[step]
    hint = did_you_mean(name, data) if isinstance(data, dict) else ""
    return hint.replace("did you mean", "is it") if hint.startswith("; did") else "; add it"


def reject_remote_refs(schema: Any, path: str = "spec.variables", depth: int = 0) -> None:
    """Reject references that point out of the schema, and schemas that are nested too deeply."""
    if depth > MAX_SCHEMA_DEPTH * 4:
        raise Rejected(Problem(Code.SCHEMA_INVALID, path, "the schema is nested too deeply"))
    if isinstance(schema, Mapping):
        for key in ("$ref", "$dynamicRef"):
            target = schema.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                message = f"`{key}: {target[:80]}` leaves the schema, and nothing is fetched; use `#/$defs/…`"
                raise Rejected(Problem(Code.SCHEMA_INVALID, f"{path}.{key}", message))
        for key, value in schema.items():
            reject_remote_refs(value, f"{path}.{key}", depth + 1)
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            reject_remote_refs(value, f"{path}[{index}]", depth + 1)


def _explain_schema(error: Exception) -> Problem:
    path = getattr(error, "instance_path", None) or []
    place = ".".join(("spec.variables", *map(str, path)))
    message = getattr(error, "message", None) or str(error).splitlines()[0]
    return Problem(Code.SCHEMA_INVALID, place, f"not a JSON Schema: {message}")


def resolve_ref(schema: Any, root: JsonSchema, depth: int = 0) -> JsonSchema | None:
    """Follow local references to a schema; None if there is none or the references form a cycle."""
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
        if depth > MAX_SCHEMA_DEPTH:
            return None
        depth += 1
        target: Any = root
        for step in schema["$ref"].removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, Mapping) else None
        schema = target
    return schema if isinstance(schema, Mapping) else None


def properties_at(schema: JsonSchema, path: list[str | int]) -> Mapping[str, Any]:
    """The properties that the schema declares at a path in the data."""
    here: JsonSchema | None = resolve_ref(schema, schema)
    for step in path:
        if here is None:
            return {}
        inner = here.get("items") if isinstance(step, int) else here.get("properties", {}).get(step)
        here = resolve_ref(inner, schema)
    found = (here or {}).get("properties", {})
    return found if isinstance(found, Mapping) else {}


def default_filler(schema: JsonSchema, root: JsonSchema, depth: int = 0) -> DefaultFiller | None:
    """A function that fills defaults into a value, or None if the schema has no defaults."""
    here = resolve_ref(schema, root)
    if here is None or depth > MAX_SCHEMA_DEPTH:
        return None
    inner = {name: default_filler(each, root, depth + 1) for name, each in here.get("properties", {}).items()}
    nested = {name: fill for name, fill in inner.items() if fill}
    defaults = {
        name: each["default"]
        for name, each in here.get("properties", {}).items()
        if isinstance(each, Mapping) and "default" in each
    }
    each_item = (
        default_filler(here["items"], root, depth + 1) if isinstance(here.get("items"), Mapping) else None
    )
    if not (defaults or nested or each_item):
        return None

    deep = any(isinstance(default, list | dict) for default in defaults.values())

    def fill(value: Any) -> Any:
        if isinstance(value, dict) and (defaults or nested):
            value = {**(deepcopy(defaults) if deep else defaults), **value}
            for name, function in nested.items():
                if name in value:
                    value[name] = function(value[name])
        elif isinstance(value, list) and each_item:
            value = [each_item(item) for item in value]
        return value

    return fill
