"""Which variables brought a character into a text that may not hold it: their names, never their values.

A template's source, the variables it was rendered with, and a pattern in; paths such as `order.title` out:
those whose own text holds the character, or, when none does, all that the source reads. Called only when
a letter has failed already, so that looking costs a good letter nothing.
"""

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import nodes

from postroom.letter.language.environment import TEXT


def origins(source: str, variables: Mapping[str, Any], pattern: re.Pattern[str]) -> list[str]:
    """The paths, in the order of the source."""
    read: dict[str, Any] = {}
    for node in TEXT.parse(source).find_all((nodes.Name, nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        value = _at(variables, path)
        if path and isinstance(value, str | int | float):
            read[".".join(path)] = value
    guilty = [name for name, value in read.items() if isinstance(value, str) and pattern.search(value)]
    return guilty or list(read)


def _path(node: nodes.Node) -> tuple[str, ...]:
    """`order["title"]` as `("order", "title")`; nothing for what is only known while it renders."""
    match node:
        case nodes.Name(name=name):
            return (str(name),)
        case (
            nodes.Getattr(node=owner, attr=name) | nodes.Getitem(node=owner, arg=nodes.Const(value=str(name)))
        ):
            above = _path(owner)
            return (*above, str(name)) if above else ()
        case _:
            return ()


def _at(variables: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = variables
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
