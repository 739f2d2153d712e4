"""Which variables a template reads, told from its syntax tree, against those that its schema declares.

An undeclared variable would fail at the first letter; here it fails in the proof, with its line and the
name that was probably meant. Paths are followed into objects (`order.total`) and through loops
(`item in order.items`), as far as the schema says what is there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes

from postroom.letter.hint import did_you_mean
from postroom.letter.live import FACTS
from postroom.letter.problems import Code, Problem
from postroom.letter.schema import Schema, resolve

LETTER: Schema = {"properties": {name: {} for name in FACTS}}
FEW = 8
"""Up to so many declared variables are listed in a message."""
BUILT_IN = frozenset(("range", "t"))
ALWAYS = frozenset(("items", "keys", "values", "get"))
"""dict's methods, which any object has."""


@dataclass(slots=True)
class Reading:
    """What was found in one or more templates."""

    used: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


class Reader:
    """Follows names through a tree. `schema` None means: nothing is known of what is there."""

    def __init__(self, variables: Schema, place: str) -> None:
        self._root = variables
        self._place = place
        self._known = {**dict(variables.get("properties", {})), "letter": LETTER}
        self._open = bool(variables.get("additionalProperties")) or "patternProperties" in variables
        self.reading = Reading()

    def read(self, tree: nodes.Template) -> Reading:
        """Read a whole template."""
        self._all(tree.body, dict(self._known))
        return self.reading

    def _all(self, found: Iterable[nodes.Node], scope: dict[str, Any]) -> None:
        for node in found:
            self._visit(node, scope)

    def _visit(self, node: nodes.Node, scope: dict[str, Any]) -> None:
        match node:
            case nodes.For():
                self._loop(node, scope)
            case nodes.If():
                self._visit(node.test, scope)
                for branch in (node.body, node.elif_, node.else_):
                    self._all(branch, scope)
            case nodes.With():
                inner = dict(scope)
                for target, value in zip(node.targets, node.values, strict=True):
                    self._bind(target, self._schema(value, scope), inner)
                    self._visit(value, scope)
                self._all(node.body, inner)
            case nodes.Assign():
                self._visit(node.node, scope)
                self._bind(node.target, self._schema(node.node, scope), scope)
            case nodes.Getattr() | nodes.Getitem() | nodes.Name():
                self._schema(node, scope, report=True)
            case _:
                self._all(node.iter_child_nodes(), scope)

    def _loop(self, node: nodes.For, scope: dict[str, Any]) -> None:
        self._visit(node.iter, scope)
        source = self._schema(node.iter, scope)
        inner = {**scope, "loop": None}
        items = source.get("items") if isinstance(source, Mapping) else None
        self._bind(node.target, resolve(items, self._root), inner)
        if node.test:
            self._visit(node.test, inner)
        self._all(node.body, inner)
        self._all(node.else_, scope)

    def _bind(self, target: nodes.Node, schema: Any, scope: dict[str, Any]) -> None:
        if isinstance(target, nodes.Name):
            scope[target.name] = schema
        else:
            scope.update({name.name: None for name in target.find_all(nodes.Name)})

    def _schema(self, node: nodes.Node, scope: dict[str, Any], *, report: bool = False) -> Any:
        """The schema of an expression's value, or None when it is not known."""
        match node:
            case nodes.Name(name=name):
                return self._name(name, node.lineno, scope, report=report)
            case nodes.Getattr(node=inner, attr=attribute):
                owner = self._schema(inner, scope, report=report)
                return self._attribute(owner, attribute, node.lineno, report=report)
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str(key))):
                owner = self._schema(inner, scope, report=report)
                return self._attribute(owner, key, node.lineno, report=report)
            case nodes.Getitem(node=inner, arg=argument):
                owner = self._schema(inner, scope, report=report)
                if report:
                    self._visit(argument, scope)
                items = owner.get("items") if isinstance(owner, Mapping) else None
                return resolve(items, self._root)
            case _:
                if report:
                    self._visit(node, scope)
                return None

    def _name(self, name: str, line: int, scope: dict[str, Any], *, report: bool) -> Any:
        if name in scope:
            self.reading.used.add(name)
            return resolve(scope[name], self._root)
        if report and not self._open and name not in BUILT_IN:
            hint = did_you_mean(name, self._known) or self._way_out(name)
            self._report(f"`{name}` is not declared in `variables`{hint}", line)
        return None

    def _attribute(self, owner: Any, name: str, line: int, *, report: bool) -> Any:
        properties = owner.get("properties") if isinstance(owner, Mapping) else None
        if not isinstance(properties, Mapping):
            return None
        if name in properties:
            return resolve(properties[name], self._root)
        closed = owner is LETTER or owner.get("additionalProperties") is False
        if report and closed and name not in ALWAYS:
            message = f"`{name}` is not among the declared properties{did_you_mean(name, properties)}"
            self._report(message, line)
        return None

    def _way_out(self, name: str) -> str:
        """What there is instead, when it is few, and where the name would be declared."""
        there = [known for known in self._known if known != "letter"]
        listed = f", which has {', '.join(there)}" if 0 < len(there) <= FEW else ""
        return f"{listed}; declare it as spec.variables.properties.{name}"

    def _report(self, message: str, line: int) -> None:
        problem = Problem(Code.VARIABLE_UNDECLARED, self._place, message, line)
        if problem not in self.reading.problems:
            self.reading.problems.append(problem)


def unused(variables: Schema, used: set[str]) -> Iterator[str]:
    """Declared variables that nothing reads."""
    return (name for name in variables.get("properties", {}) if name not in used)
