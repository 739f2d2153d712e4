"""How a value of an event becomes text, and which values do not.

`text_of` is used wherever a template prints, joins or filters: a text stands as it is, a number in plain
digits, null as nothing. Booleans, lists and maps have no text that readers should see (`True`, `{'a': 1}`),
so that they raise `Unsuitable`, whose message has the expression and the way out and never the value.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Macro, Undefined
from markupsafe import Markup, escape

from postroom.letter.language.bounds import Unsuitable

SIGNIFICANT = 15
"""Digits of a binary fraction that are sure; with 17, `0.1 + 0.2` would be 0.30000000000000004."""


def write_html(value: Any, expression: str) -> str:
    """What `{{ … }}` puts into HTML. Called for thousands of values of a letter: usual cases come first."""
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str:
        return escape(value)
    if isinstance(value, Markup):
        return value
    return escape(text_of(value, expression))


def write_text(value: Any, expression: str) -> str:
    """What `{{ … }}` puts into a subject, a header or a text part."""
    return value if type(value) is str else text_of(value, expression)


def text_of(value: Any, expression: str) -> str:
    """A value's text. `expression` is the template's way of writing it, or empty when that is not known."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            raise Unsuitable(_refused(expression, "is a boolean", '{{ "yes" if %s else "no" }}'))
        case int():
            return str(value)
        case float():
            return number_text(value)
        case Undefined():
            return str(value)  # raises, with its name
        case Mapping():
            way_out = "print one of its values, or loop over its `items()`"
            raise Unsuitable(f"{_subject(expression)} is a map, which is not printed; {way_out}")
        case Macro():
            raise Unsuitable(f"{_subject(expression)} is a macro; call it with ()")
        case _ if hasattr(value, "__iter__"):
            raise Unsuitable(_refused(expression, "is a list", '{{ %s|join(", ") }}') + " or a loop")
        case _:
            raise Unsuitable(f"{_subject(expression)} is not a text or a number, and is not printed")


def _subject(expression: str) -> str:
    return f"`{expression}`" if expression else "a value"


def _refused(expression: str, kind: str, way_out: str) -> str:
    shown = way_out % (expression or "x")
    return f"{_subject(expression)} {kind}, which is not printed; write `{shown}`"


def number_text(value: float) -> str:
    """Plain digits, without an exponent: 1.0 and 1 are one JSON number and have one text."""
    text = format(value, f".{SIGNIFICANT}g")
    if "n" in text:  # inf, nan
        raise Unsuitable("a number is out of range")
    return format(Decimal(text), "f") if "e" in text else text if text != "-0" else "0"


def source_of(node: nodes.Node) -> str:
    """An expression as a template writes it, for messages: names, attributes and items; else nothing."""
    match node:
        case nodes.Name(name=name):
            return str(name)
        case nodes.Getattr(node=owner, attr=name):
            inner = source_of(owner)
            return f"{inner}.{name}" if inner else ""
        case nodes.Getitem(node=owner, arg=nodes.Const(value=str(key))) if key.isidentifier():
            inner = source_of(owner)
            return f"{inner}.{key}" if inner else ""
        case nodes.Getitem(node=owner, arg=nodes.Const(value=int(index))):
            inner = source_of(owner)
            return f"{inner}[{index}]" if inner else ""
        case _:
            return ""
