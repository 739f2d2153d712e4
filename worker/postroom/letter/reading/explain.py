"""What pydantic says of an object, as problems in the words of the people who write manifests.

A model and its ValidationError in; problems out, each with the dotted path of the field (`spec.smtp.port`,
`spec.samples[0].name`), a sentence and, for a name that is not there, the nearest one that is.
"""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from postroom.letter.hint import did_you_mean, nearest
from postroom.letter.problems import Code, Problem

Location = tuple[int | str, ...]

FILE_FIELDS = {"htmlFile": "html", "textFile": "text", "cssFile": "css"}
"""Fields that name a file beside the manifest, and the field that the file's text becomes.

They are resolved before validation where a manifest is read from a folder; no model has them.
"""
_IN_FOLDERS_ONLY = (
    "names a file, which only `postroom check DIR` and `postroom up DIR` read, from the manifest's folder; "
    "run `postroom build DIR` and use the manifest that it writes"
)

_MUST_BE = {
    "string_type": "text; put it in quotes if it looks like a number or yes/no",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_short": ("min_length", "at least {} characters long"),
    "string_too_long": ("max_length", "at most {} characters long"),
    "too_short": ("min_length", "a list of at least {}"),
    "too_long": ("max_length", "of at most {} entries"),
}
_PATTERNS = {
    "tag": "a BCP 47 language tag, like en or pt-BR",
    "locale": "a BCP 47 language tag, like en or pt-BR",
    "defaultLocale": "a BCP 47 language tag, like en or pt-BR",
    "topic": "a Kafka topic: letters, digits, dots, underscores, hyphens",
    "name": "a name of lower-case letters, digits, hyphens and dots, like order-receipt",
}


def explain(model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """One problem for each broken rule; of a required field that is there misspelt, only that it is."""
    found = error.errors(include_url=False)
    meant = {_meant(model, one["loc"]) for one in found if one["type"] == "extra_forbidden"}
    for one in found:
        if one["type"] == "missing" and one["loc"] in meant:
            continue
        location, context = one["loc"], one.get("ctx", {})
        if "broken" in context:
            for field, rule in context["broken"]:
                yield Problem(Code(one["type"]), _join(dotted(location), field), rule)
        else:
            yield _problem(model, location, one["type"], context, one["msg"])


def _meant(model: type[BaseModel], location: Location) -> Location:
    """Where an unknown field would stand if it were spelt as the nearest known one."""
    name = nearest(str(location[-1]), _known_fields(model, location))
    return (*location[:-1], name) if name else location


def dotted(location: Location) -> str:
    """`("spec", "samples", 0, "name")` as `spec.samples[0].name`."""
    path = ""
    for step in location:
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, step)
    return path


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _problem(
    model: type[BaseModel], location: Location, kind: str, context: dict[str, Any], said: str
) -> Problem:
    field = dotted(location)
    if kind == "extra_forbidden":
        known = _known_fields(model, location)
        if FILE_FIELDS.get(str(location[-1])) in known:
            return Problem(Code.FIELD_UNKNOWN, field, _IN_FOLDERS_ONLY)
        hint = did_you_mean(str(location[-1]), known)
        return Problem(Code.FIELD_UNKNOWN, field, f"is not a field here{hint}")
    if kind == "missing":
        return Problem(Code.FIELD_MISSING, field, "is required")
    if kind in set(Code):
        return Problem(Code(kind), field, said)
    return Problem(Code.MANIFEST_INVALID, field, _rule(location, kind, context, said))


def _rule(location: Location, kind: str, context: dict[str, Any], said: str) -> str:
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind]}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return "must be " + words.format(context[key])
    if kind == "literal_error":
        return f"must be one of {str(context['expected']).replace(' or ', ', ')}"
    if kind == "string_pattern_mismatch":
        names = [step for step in location if isinstance(step, str)]
        return (
            f"must be {_PATTERNS[names[-1]]}"
            if names[-1] in _PATTERNS
            else f"must match {context['pattern']}"
        )
    if kind == "value_error":
        return said.removeprefix("Value error, ")
    return said[:1].lower() + said[1:]


def _known_fields(model: type[BaseModel], location: Location) -> list[str]:
    """The fields of the part of the model that `location` points into."""
    part: type[BaseModel] | None = model
    for step in location[:-1]:
        if isinstance(step, str) and part:
            fields = (info for name, info in part.model_fields.items() if (info.alias or name) == step)
            part = next((_model_in(info.annotation) for info in fields), None)
    return [info.alias or name for name, info in part.model_fields.items()] if part else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
