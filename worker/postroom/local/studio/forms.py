"""A form for a template's data, made from its JSON Schema.

`build` turns a schema and data into fields that a page can show; `read` turns what a browser sends back
into data; `change` adds a row to a list or takes one away. Data that goes through a form unchanged comes
out unchanged: the form carries marks for what an empty input cannot say (an empty text that is there, a
list without rows, null). What the form has no inputs for (`oneOf`, maps, a value of another type than the
schema's) is a text area with JSON. Nothing is validated here; that is the template's `Contract`.

Names of inputs: `/items/0/name` (a JSON Pointer) holds a value, `json:…` a value as JSON, `rows:…` the
number of a list's rows, and `present` and `null` repeat the pointers that carry a mark.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from postroom.letter.data_schema import JsonSchema, resolve_ref

DEEPEST = 8
"""Levels of objects and lists that get inputs; what is below is JSON."""
MOST_ROWS = 500
LONG_TEXT = 72
"""Characters from which a text gets an area of several lines."""
A_DATE = "2026-01-05"
"""What a new row has where a date is required."""

Kind = Literal["group", "list", "text", "area", "number", "date", "choice", "json"]
Form = Mapping[str, Sequence[str]]
"""What a browser sends: each name with its values."""


class Absent:
    """The type of `ABSENT`: the data has no such member."""


ABSENT: Final = Absent()


class Unparsed(str):
    """The text of a JSON area that is not JSON."""

    __slots__ = ()

    @property
    def rule(self) -> str:
        """What is wrong with it."""
        try:
            json.loads(self)
        except ValueError as error:
            return f"is not JSON: {error}"
        return "is not JSON"


@dataclass(frozen=True, slots=True)
class Field:
    """One input, or a group of them."""

    kind: Kind
    pointer: str
    label: str
    hint: str
    required: bool = True
    value: str = ""
    placeholder: str = ""
    options: tuple[tuple[str, str], ...] = ()
    """Value and words of each choice."""
    children: tuple["Field", ...] = ()
    mark: str = ""
    """`present` or `null` where an empty input stands for a value."""
    row: bool = False
    """Whether it is a row of a list, which can be removed."""

    @property
    def path(self) -> str:
        """How problems name the place: `data.items.0.name`."""
        return ".".join(("data", *steps(self.pointer)))


@dataclass(frozen=True, slots=True)
class _Node:
    """A place in the schema."""

    schema: JsonSchema
    kind: Kind
    nullable: bool = False


def steps(pointer: str) -> list[str]:
    """The steps of a JSON Pointer."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def build(schema: JsonSchema, data: Any) -> Field:
    """The form of a whole event's data."""
    return _field(_Place(), schema, schema, data)


def read(schema: JsonSchema, form: Form) -> Any:
    """The data that a form holds. What is not JSON in a JSON area becomes `Unparsed`."""
    found = _FormReader(schema, form).value(schema, "", required=True)
    return {} if isinstance(found, Absent) else found


def change(schema: JsonSchema, data: Any, action: str, pointer: str) -> Any:
    """The data with a row added to the list at a pointer (`add`), or the row at it removed (`remove`)."""
    *above, last = steps(pointer) or [""]
    if action == "add":
        items = _node(_schema_at(schema, steps(pointer)), schema).schema.get("items", {})
        rows = _list_at(data, [*above, last], make=True)
        if rows is not None and len(rows) < MOST_ROWS:
            rows.append(example(items, schema))
    elif action == "remove" and last.isdigit():
        rows = _list_at(data, above, make=False)
        if rows is not None and int(last) < len(rows):
            del rows[int(last)]
    return data


def unparsed(data: Any, path: str = "data") -> Iterable[tuple[str, str]]:
    """Where data holds text that is not JSON, and the rule."""
    if isinstance(data, Unparsed):
        yield path, data.rule
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from unparsed(value, f"{path}.{name}")
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from unparsed(value, f"{path}.{index}")


def example(schema: Any, root: JsonSchema, depth: int = 0) -> Any:
    """A value for a new row that most schemas accept."""
    here = resolve_ref(schema, root) or {}
    if "default" in here:
        return here["default"]
    if here.get("enum"):
        return here["enum"][0]
    if "const" in here:
        return here["const"]
    node = _node(here, root)
    match node.kind:
        case "number":
            return max(node.schema.get("minimum", 0), 0)
        case "date":
            return A_DATE
        case "choice":
            return False
        case "list":
            least = int(node.schema.get("minItems", 0))
            return [example(node.schema["items"], root, depth + 1) for _ in range(min(least, MOST_ROWS))]
        case "group" if depth < DEEPEST:
            needed = node.schema.get("required", ())
            members = node.schema["properties"]
            return {name: example(members[name], root, depth + 1) for name in needed if name in members}
        case "group":
            return {}
        case _:
            return ""


# ---------- schema


def _node(schema: Any, root: JsonSchema, depth: int = 0) -> _Node:
    """What kind of input a schema asks for."""
    here = resolve_ref(schema, root)
    if here is None or depth > DEEPEST:
        return _Node(here or {}, "json")
    either = here.get("anyOf") or here.get("oneOf")
    if isinstance(either, list) and len(either) == 2 and {"type": "null"} in either:
        inner = _node(either[either[0] == {"type": "null"}], root, depth + 1)
        return _Node({**inner.schema, **_words(here)}, inner.kind, nullable=True)
    if any(word in here for word in ("anyOf", "oneOf", "allOf", "not", "if", "patternProperties")):
        return _Node(here, "json")
    types = here.get("type")
    nullable = isinstance(types, list) and len(types) == 2 and "null" in types
    kind = next(each for each in here["type"] if each != "null") if nullable else types
    return _Node(here, _kind(here, kind), nullable)


def _words(schema: JsonSchema) -> dict[str, Any]:
    return {name: schema[name] for name in ("title", "description", "default") if name in schema}


def _kind(schema: JsonSchema, kind: Any) -> Kind:
    if "const" in schema or schema.get("enum"):
        return "choice"
    if kind == "string":
        return "date" if schema.get("format") == "date" else "text"
    if kind in ("number", "integer"):
        return "number"
    if kind == "boolean":
        return "choice"
    if isinstance(schema.get("properties"), dict) and kind in ("object", None):
        return "group"
    if kind == "array" and isinstance(schema.get("items"), dict) and "prefixItems" not in schema:
        return "list"
    return "json"


def _fits(node: _Node, value: Any) -> bool:
    """Whether the inputs of a kind can hold a value without loss."""
    if isinstance(value, Absent) or (value is None and node.nullable):
        return True
    match node.kind:
        case "group":
            return isinstance(value, dict) and value.keys() <= node.schema["properties"].keys()
        case "list":
            return isinstance(value, list) and len(value) <= MOST_ROWS
        case "number":  # a text that is no number stays as it was typed
            return isinstance(value, int | float | str) and not isinstance(value, bool)
        case "choice":
            return any(_same(value, option) for option in _choices(node.schema))
        case "text" | "date":
            return isinstance(value, str) and "\r" not in value and not isinstance(value, Unparsed)
        case _:
            return False


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: `true` is not `1`."""
    return type(one) is type(other) and bool(one == other)


def _choices(schema: JsonSchema) -> list[Any]:
    if "const" in schema:
        return [schema["const"]]
    return list(schema.get("enum") or (True, False))


def _schema_at(root: JsonSchema, path: Iterable[str]) -> Any:
    here: Any = root
    for step in path:
        node = _node(here, root)
        here = (
            node.schema.get("items", {})
            if node.kind == "list"
            else node.schema.get("properties", {}).get(step, {})
        )
    return here


# ---------- data → fields


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field stands in the data."""

    pointer: str = ""
    label: str = "data"
    required: bool = True
    depth: int = 0

    def below(self, step: str, label: str, *, required: bool) -> "_Place":
        return _Place(_below(self.pointer, step), label, required, self.depth + 1)


def _field(place: _Place, schema: Any, root: JsonSchema, value: Any) -> Field:
    node = _node(schema, root, place.depth)
    hint = _hint(node, required=place.required)
    plain = Field("json", place.pointer, place.label, hint, place.required)
    if isinstance(value, Unparsed) or node.kind == "json" or not _fits(node, value):
        return replace(plain, value=_as_json(value))
    plain = replace(plain, kind=node.kind, mark="null" if value is None else "")
    match node.kind:
        case "group":
            return _group(plain, place, node, root, value)
        case "list":
            rows = value if isinstance(value, list) else []
            children = tuple(
                replace(
                    _field(
                        place.below(str(index), str(index + 1), required=True),
                        node.schema["items"],
                        root,
                        row,
                    ),
                    row=True,
                )
                for index, row in enumerate(rows)
            )
            mark = plain.mark or ("present" if value == [] and not place.required else "")
            return replace(plain, children=children, mark=mark)
        case "choice":
            options = tuple((_as_json(each), _as_words(each)) for each in _choices(node.schema))
            left_out = isinstance(value, Absent) or (value is None and node.nullable)
            return replace(plain, value="" if left_out else _as_json(value), options=options)
        case _:
            return _input(node, value, plain)


def _group(plain: Field, place: _Place, node: _Node, root: JsonSchema, value: Any) -> Field:
    inner = value if isinstance(value, dict) else {}
    needed = node.schema.get("required", ())
    children = tuple(
        _field(place.below(name, name, required=name in needed), each, root, inner.get(name, ABSENT))
        for name, each in node.schema["properties"].items()
    )
    hollow = isinstance(value, dict) and all(each == "" for each in value.values())
    mark = plain.mark or ("present" if hollow and not place.required else "")
    return replace(plain, children=children, mark=mark)


def _input(node: _Node, value: Any, field: Field) -> Field:
    """A text, number or date."""
    empty = isinstance(value, Absent) or value is None
    text = "" if empty else value if isinstance(value, str) else _as_json(value)
    default = node.schema.get("default")
    placeholder = "" if default is None else default if isinstance(default, str) else _as_json(default)
    kind: Kind = node.kind
    if node.kind == "text" and ("\n" in text or len(text) > LONG_TEXT):
        kind = "area"
    if node.kind == "date" and text and not _is_date(text):
        kind = "text"  # a browser would not show it in a date's input
    mark = field.mark or ("present" if value == "" and not field.required else "")
    return replace(field, kind=kind, value=text, placeholder=placeholder, mark=mark)


def _is_date(text: str) -> bool:
    parts = text.split("-")
    return [len(part) for part in parts] == [4, 2, 2] and all(part.isdigit() for part in parts)


def _hint(node: _Node, *, required: bool) -> str:
    schema = node.schema
    what = str(schema.get("format") or _type_words(schema, node.kind))
    parts = [what, "required" if required else "optional"]
    if "default" in schema and not required:
        parts.append(f"{_as_words(schema['default']) or 'empty'} when left out")
    described = schema.get("description") or schema.get("title")
    return ", ".join(parts) + (f". {described}" if isinstance(described, str) else "")


def _type_words(schema: JsonSchema, kind: Kind) -> str:
    words = {"group": "object", "list": "list", "choice": "choice", "text": "text", "json": "JSON"}
    if kind == "number":
        return "whole number" if schema.get("type") == "integer" else "number"
    if kind == "choice" and not schema.get("enum") and "const" not in schema:
        return "yes or no"
    return words.get(kind, kind)


def _as_json(value: Any) -> str:
    if isinstance(value, Absent):
        return ""
    return str(value) if isinstance(value, Unparsed) else json.dumps(value, ensure_ascii=False, indent=2)


def _as_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _below(pointer: str, step: str) -> str:
    return f"{pointer}/{step.replace('~', '~0').replace('/', '~1')}"


# ---------- form → data


@dataclass(frozen=True, slots=True)
class _FormReader:
    """Reads a form by its schema."""

    root: JsonSchema
    form: Form

    def value(self, schema: Any, pointer: str, *, required: bool, depth: int = 0) -> Any:
        """The value at a place, or `ABSENT`."""
        if (text := _first(self.form, f"json:{pointer}")) is not None:
            return _parsed(text)
        node = _node(schema, self.root, depth)
        match node.kind:
            case "group":
                return self._group(node, pointer, required=required, depth=depth)
            case "list":
                return self._list(node, pointer, required=required, depth=depth)
            case "json":
                return ABSENT
            case _:
                return _read_value(node, self.form, pointer, required=required)

    def _group(self, node: _Node, pointer: str, *, required: bool, depth: int) -> Any:
        needed = node.schema.get("required", ())
        found = {}
        for name, schema in node.schema["properties"].items():
            below = _below(pointer, name)
            value = self.value(schema, below, required=name in needed, depth=depth + 1)
            if not isinstance(value, Absent):
                found[name] = value
        marked = self.form.get("present", ())
        filled = any(value != "" or _below(pointer, name) in marked for name, value in found.items())
        if required or filled or pointer in marked:
            return found
        return None if pointer in self.form.get("null", ()) else ABSENT

    def _list(self, node: _Node, pointer: str, *, required: bool, depth: int) -> Any:
        rows = _first(self.form, f"rows:{pointer}") or "0"
        number = min(int(rows), MOST_ROWS) if rows.isascii() and rows.isdigit() else 0
        items = node.schema["items"]
        found = [
            self.value(items, _below(pointer, str(index)), required=True, depth=depth + 1)
            for index in range(number)
        ]
        if found:
            return ["" if isinstance(value, Absent) else value for value in found]
        if pointer in self.form.get("null", ()):
            return None
        return [] if required or pointer in self.form.get("present", ()) else ABSENT


def _read_value(node: _Node, form: Form, pointer: str, *, required: bool) -> Any:
    text = _first(form, pointer)
    if not text:
        if pointer in form.get("null", ()):
            return None
        if pointer in form.get("present", ()):
            return ""
        if required and node.nullable:
            return None
        return "" if required and node.kind == "text" and text is not None else ABSENT
    if node.kind == "choice":
        chosen = _parsed(text)
        return text if isinstance(chosen, Unparsed) else chosen
    if node.kind == "number":
        number = _parsed(text.strip())
        return number if isinstance(number, int | float) and not isinstance(number, bool) else text
    return text.replace("\r\n", "\n")


def _first(form: Form, name: str) -> str | None:
    return next(iter(form.get(name, ())), None)


def _parsed(text: str) -> Any:
    if not text.strip():
        return ABSENT
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return Unparsed(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _list_at(data: Any, path: Sequence[str], *, make: bool) -> list[Any] | None:
    """The list at a path of the data; with `make` it is put there when the last step leads nowhere."""
    here = data
    for index, step in enumerate(path):
        if isinstance(here, list) and step.isdigit() and int(step) < len(here):
            here = here[int(step)]
        elif isinstance(here, dict):
            if here.get(step) is None and make:
                here[step] = [] if index == len(path) - 1 else {}
            here = here.get(step)
        else:
            return None
    return here if isinstance(here, list) else None
