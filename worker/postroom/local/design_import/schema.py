"""The variables that a translated page uses, as a JSON Schema, and one sample that fits it.

Types come from use: what is looped over is a list, what `money` or `number` formats is a number, what `date`
formats a date, what only a condition asks is true or false, what is the whole of an `href` an address. The
sample's values are plausible and of example domains. A name that a condition asks for is optional.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes

from postroom.letter.language.environment import TEXT

_NUMBER_FILTERS = frozenset(
    ("money", "number", "percent", "round", "abs", "plural", "int", "float", "sum", "filesizeformat")
)
_DATE_FILTERS = frozenset(("date", "time", "datetime"))
_LIST_FILTERS = frozenset(
    ("join", "first", "last", "batch", "sort", "reverse", "unique", "map", "select", "sum")
)
_KNOWN = frozenset(("letter", "loop", "range", "namespace", "true", "false", "none", "cycler"))
_ADDRESS = re.compile(
    r"(?:href|src|action|background)\s*=\s*[\"']\s*\{\{-?\s*([\w.]+)(?:\|[^{}]*)?\s*-?\}\}", re.IGNORECASE
)


@dataclass(slots=True)
class Variable:
    """What is known of one value."""

    members: dict[str, "Variable"] = field(default_factory=dict)
    element: "Variable | None" = None
    kinds: set[str] = field(default_factory=set)
    printed: bool = False
    asked: bool = False
    """Whether a condition asks if it is there."""
    optional: bool = False
    constants: list[Any] = field(default_factory=list)

    def member(self, name: str) -> "Variable":
        return self.members.setdefault(name, Variable())

    def items(self) -> "Variable":
        self.element = self.element or Variable()
        return self.element


class Reader:
    """Collects the variables of one or more sources."""

    def __init__(self) -> None:
        self.root = Variable()
        self._addresses: set[str] = set()

    def read(self, source: str) -> None:
        """Read a source; raises TemplateSyntaxError."""
        self._body(TEXT.parse(source).body, {})
        for found in _ADDRESS.finditer(source):
            self._addresses.add(found[1])

    def schema(self) -> dict[str, Any]:
        return _object(self.root, "", self._addresses)

    def sample(self) -> dict[str, Any]:
        return {name: _example(each, name, name, self._addresses) for name, each in self.root.members.items()}

    def _body(self, found: Iterable[nodes.Node], scope: dict[str, Variable | None]) -> None:
        for node in found:
            self._visit(node, scope)

    def _visit(self, node: nodes.Node, scope: dict[str, Variable | None]) -> None:
        match node:
            case nodes.For():
                self._loop(node, scope)
            case nodes.If():
                self._test(node.test, scope)
                for branch in (node.body, node.elif_, node.else_):
                    self._body(branch, scope)
            case nodes.CondExpr():
                self._test(node.test, scope)
                self._use(node.expr1, scope)
                if node.expr2:
                    self._use(node.expr2, scope)
            case nodes.Assign(target=nodes.Name(name=name)):
                scope[name] = self._variable(node.node, scope)
                self._use(node.node, scope)
            case nodes.AssignBlock(target=nodes.Name(name=name)):
                self._body(node.body, scope)
                scope[name] = None
            case nodes.With():
                inner = dict(scope)
                for target, value in zip(node.targets, node.values, strict=True):
                    if isinstance(target, nodes.Name):
                        inner[target.name] = self._variable(value, scope)
                    self._use(value, scope)
                self._body(node.body, inner)
            case nodes.Output():
                for each in node.nodes:
                    self._print(each, scope)
            case nodes.Expr():
                self._use(node, scope)
            case _:
                self._body(node.iter_child_nodes(), scope)

    def _loop(self, node: nodes.For, scope: dict[str, Variable | None]) -> None:
        listed = node.iter
        inner = {**scope, "loop": None}
        if (
            isinstance(listed, nodes.Call)
            and isinstance(listed.node, nodes.Getattr)
            and listed.node.attr == "items"
        ):
            owner = self._variable(listed.node.node, scope)
            if owner:
                owner.kinds.add("map")
                names = list(node.target.find_all(nodes.Name))
                inner |= {name.name: None for name in names}
                if len(names) > 1:
                    inner[names[-1].name] = owner.items()
        else:
            owner = self._variable(listed, scope)
            if owner:
                owner.kinds.add("list")
                owner.printed = True
            self._use(listed, scope)
            if isinstance(node.target, nodes.Name):
                inner[node.target.name] = owner.items() if owner else None
        self._body(node.body, inner)
        self._body(node.else_, scope)
        if node.else_ and owner:
            owner.asked = True

    def _print(self, node: nodes.Node, scope: dict[str, Variable | None]) -> None:
        found = self._variable(node, scope)
        if found is not None:
            found.printed = True
        if not isinstance(node, nodes.TemplateData):
            self._use(node, scope)

    def _test(self, node: nodes.Node, scope: dict[str, Variable | None]) -> None:
        match node:
            case nodes.Not(node=inner):
                self._test(inner, scope)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                self._test(left, scope)
                self._test(right, scope)
            case _:
                found = self._variable(node, scope)
                if found is not None and isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
                    found.asked = True
                self._use(node, scope)

    def _use(self, node: nodes.Node, scope: dict[str, Variable | None]) -> None:
        """Learn types from filters, comparisons and arithmetic."""
        match node:
            case nodes.CondExpr():
                self._visit(node, scope)
            case nodes.Filter(node=nodes.Expr() as inner, name=name, args=arguments):
                found = self._variable(inner, scope)
                if found is not None:
                    found.printed = True
                    if name == "percent":
                        found.constants.append(0.2)
                    if name in _NUMBER_FILTERS:
                        found.kinds.add("number")
                    elif name in _DATE_FILTERS:
                        found.kinds.add("date" if name == "date" else "moment")
                    elif name in _LIST_FILTERS:
                        found.kinds.add("list")
                    elif name == "default":
                        found.optional = True
                        found.constants += [
                            each.value for each in arguments[:1] if isinstance(each, nodes.Const)
                        ]
                for each in (inner, *arguments):
                    self._use(each, scope)
            case nodes.Compare(expr=left, ops=operands):
                for each in (left, *(operand.expr for operand in operands)):
                    found = self._variable(each, scope)
                    if found is not None:
                        found.printed = True
                        others = [
                            other.value
                            for other in (left, *(operand.expr for operand in operands))
                            if isinstance(other, nodes.Const)
                        ]
                        if each is not left and operands[0].op in ("in", "notin"):
                            found.kinds.add("list")
                            found.items().constants += others
                        else:
                            found.constants += others
                    self._use(each, scope)
            case nodes.BinExpr(left=left, right=right) if isinstance(
                node, nodes.Add | nodes.Sub | nodes.Mul | nodes.Div | nodes.Mod
            ):
                for side in (left, right):
                    found = self._variable(side, scope)
                    if found is not None:
                        found.kinds.add("number")
                        found.printed = True
                    self._use(side, scope)
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                self._variable(node, scope)
            case _:
                for child in node.iter_child_nodes():
                    found = self._variable(child, scope)
                    if found is not None:
                        found.printed = True
                    self._use(child, scope)

    def _variable(self, node: nodes.Node, scope: Mapping[str, Variable | None]) -> Variable | None:
        """The variable that an expression is; None for what is none."""
        match node:
            case nodes.Name(name=name):
                if name in scope:
                    return scope[name]
                return None if name in _KNOWN else self.root.member(name)
            case nodes.Getattr(node=inner, attr=name):
                owner = self._variable(inner, scope)
                if owner is None or _is_letter(inner):
                    return None
                owner.printed = True
                return owner.member(name)
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str(name))):
                owner = self._variable(inner, scope)
                return owner.member(name) if owner else None
            case nodes.Getitem(node=inner):
                owner = self._variable(inner, scope)
                if owner is None:
                    return None
                owner.kinds.add("list")
                return owner if isinstance(node.arg, nodes.Slice) else owner.items()
            case nodes.Filter(node=nodes.Expr() as inner, name="default" | "reverse" | "sort" | "first"):
                found = self._variable(inner, scope)
                return found.items() if found and getattr(node, "name", "") == "first" else found
            case _:
                return None


def _is_letter(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name in _KNOWN


def _object(variable: Variable, place: str, addresses: set[str]) -> dict[str, Any]:
    members = {
        name: _typed(each, name, f"{place}.{name}" if place else name, addresses)
        for name, each in variable.members.items()
    }
    required = [
        name
        for name, each in variable.members.items()
        if not (each.asked or each.optional) and "default" not in members[name]
    ]
    found: dict[str, Any] = {"type": "object"}
    if required:
        found["required"] = required
    found["properties"] = members
    return found


def _typed(variable: Variable, name: str, place: str, addresses: set[str]) -> dict[str, Any]:
    kind = _kind(variable, place, addresses)
    match kind:
        case "list":
            items = (
                _typed(variable.element, _one(name), place, addresses)
                if variable.element
                else {"type": "string"}
            )
            return {"type": "array", "items": items, **({"default": []} if variable.asked else {})}
        case "map":
            element = (
                _typed(variable.element, name, place, addresses) if variable.element else {"type": "string"}
            )
            return {"type": "object", "additionalProperties": element}
        case "object":
            return _object(variable, place, addresses)
        case "boolean":
            return {"type": "boolean", "default": False}
        case "integer" | "number":
            return {"type": kind, **({"default": 0} if variable.asked or variable.optional else {})}
        case _:
            found: dict[str, Any] = {"type": "string"}
            if kind in ("date", "moment"):
                found["format"] = "date" if kind == "date" else "date-time"
            elif kind == "address":
                found["format"] = "uri"
            if (variable.asked or variable.optional) and kind == "text":
                found["default"] = ""
            return found


def _kind(variable: Variable, place: str, addresses: set[str]) -> str:
    """list, map, object, boolean, integer, number, date, moment, address or text."""
    for kind in ("map", "list"):
        if kind in variable.kinds:
            return kind
    if variable.members:
        return "object"
    for kind in ("number", "moment", "date"):
        if kind in variable.kinds:
            return kind
    constants = [each for each in variable.constants if each is not None]
    if any(isinstance(each, bool) for each in constants):
        return "boolean"
    if constants and all(isinstance(each, int | float) for each in constants):
        return "number" if any(isinstance(each, float) for each in constants) else "integer"
    if variable.asked and not variable.printed:
        return "boolean"
    last = place.rpartition(".")[2]
    if place in addresses or (
        any(each.rpartition(".")[2] == last for each in addresses)
        and re.search(r"url|link|href|src|image", last, re.IGNORECASE)
    ):
        return "address"
    if re.search(r"(?:^|_)(?:quantity|qty|count)$", _snake(last)):
        return "integer"
    return "text"


def _example(variable: Variable, name: str, place: str, addresses: set[str]) -> Any:
    kind = _kind(variable, place, addresses)
    match kind:
        case "list":
            element = variable.element or Variable()
            return [_example(element, _one(name), place, addresses)] * (1 if "list" in element.kinds else 2)
        case "map":
            return {"first": _example(variable.element or Variable(), name, place, addresses)}
        case "object":
            return {
                each: _example(member, each, f"{place}.{each}", addresses)
                for each, member in variable.members.items()
            }
        case "boolean":
            return True
        case "integer":
            return next((each for each in variable.constants if isinstance(each, int)), 2)
        case "number":
            return next((each for each in variable.constants if isinstance(each, float)), _amount(name))
        case "date":
            return "2026-03-14"
        case "moment":
            return "2026-03-14T09:30:00Z"
        case "address":
            return f"https://example.com/{_snake(name).replace('_', '-')}" + (
                ".png" if re.search(r"image|img|logo|photo|avatar|src", name, re.IGNORECASE) else ""
            )
        case _:
            return next((each for each in variable.constants if isinstance(each, str) and each), _text(name))


_TEXTS = (
    (r"(?:^|_)first_?name|fname|given", "Ada"),
    (r"(?:^|_)last_?name|lname|surname|family", "Lovelace"),
    (r"e?_?mail", "ada@example.com"),
    (r"(?:^|_)(?:url|link|href|website|site)", "https://example.com/"),
    (r"image|logo|photo|avatar|icon|src$", "https://example.com/image.png"),
    (r"company|organi[sz]ation|brand|store|shop|sender", "Example Ltd"),
    (r"user_?name|customer_?name|(?:^|_)(?:name|user|customer|recipient)$", "Ada Lovelace"),
    (r"phone|tel(?:ephone)?$", "+44 20 7946 0000"),
    (r"zip|postal|postcode", "SW1A 1AA"),
    (r"street|address|line_?1", "12 Example Street"),
    (r"city|town", "London"),
    (r"country", "United Kingdom"),
    (r"currency", "EUR"),
    (r"(?:price|amount|total|subtotal|tax|vat|shipping|discount|balance|cost|fee)s?$", "24.90"),
    (r"(?:^|_)(?:minutes|hours|days|count|quantity|qty)", "30"),
    (r"date|_at$|day$|due|expires", "14 March 2026"),
    (r"time|hour", "09:30"),
    (r"year", "2026"),
    (r"month", "March"),
    (r"code|otp|pin|token", "492087"),
    (r"order_?(?:id|number|no)|invoice|number|_id$|^id$|reference|sku", "A-1042"),
    (r"title|subject|headline|product|item|description|message|body|text|comment|note", "Earl Grey, 100 g"),
)


def _text(name: str) -> str:
    snake = _snake(name)
    return next((text for pattern, text in _TEXTS if re.search(pattern, snake)), name.replace("_", " "))


def _amount(name: str) -> float | int:
    return 2 if re.search(r"(?:^|_)(?:count|quantity|qty|items|minutes|hours|days)", _snake(name)) else 24.9


def _one(name: str) -> str:
    return name.removesuffix("s")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
