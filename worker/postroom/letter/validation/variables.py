"""Which variables a template reads, told from its syntax tree, against those that its schema declares.

Errors: a name that is not declared, with its line and the name that was probably meant; a value that has no
text (a boolean, a list, a map) where it is printed. Advice: a variable that the schema lets be absent or null
and that is printed where nothing has asked for it. Paths are followed into objects (`order.total`), through
loops (`item in order.items`) and through names that are set, as far as the schema says what is there. Facts
that a test gives hold in its branch: `{% if nick %}`, `nick is defined and …`, `nick if nick else …`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jinja2 import nodes

from postroom.letter.data_schema import JsonSchema, resolve_ref
from postroom.letter.language.functions import FUNCTIONS
from postroom.letter.language.other_languages import attribute_message, name_message
from postroom.letter.language.printing import source_of
from postroom.letter.language.vocabulary import METHODS
from postroom.letter.problems import Code, Problem, Severity, did_you_mean
from postroom.letter.renderer import LETTER_FACTS

LETTER_SCHEMA: JsonSchema = {
    "properties": {name: {} for name in LETTER_FACTS},
    "required": list(LETTER_FACTS),
}
MAX_LISTED = 8
"""Up to so many declared variables are listed in a message."""
DICT_METHODS = frozenset(("items", "keys", "values", "get"))
"""dict's methods, which any object has."""
IN_MACROS = ("caller", "varargs", "kwargs")
MAX_NESTED_SCHEMAS = 8
"""Schemas in one another that are followed."""
ANY_ITEM = "*"
"""In a path: an item of a list, whichever."""
CONDITIONAL_KEYWORDS = (
    "if",
    "then",
    "else",
    "anyOf",
    "oneOf",
    "not",
    "dependentRequired",
    "dependentSchemas",
)
"""Keywords that may require a property in some cases; of such properties nothing is said."""
UNPRINTABLE = {"boolean": "is a boolean", "array": "is a list", "object": "is a map"}
OF_TYPE: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "array": (list,),
    "number": (float,),
    "integer": (int,),
}
PRESENCE_TESTS = frozenset(
    ("defined", "undefined", "none", "eq", "equalto", "==", "ne", "!=", "true", "false")
)
"""Tests that take what is missing or null."""
TYPE_TESTS = frozenset(("string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable"))
ITEM_FILTERS = frozenset(
    ("default", "d", "sort", "reverse", "list", "unique", "select", "selectattr", "reject", "rejectattr")
)
"""Filters whose result has the items of their value."""
FALSY_FILTERS = frozenset(
    ("length", "count", "trim", "list", "string", "int", "float", "first", "last", "upper", "lower")
)
"""Filters whose result is false when their value is."""

Path = tuple[str | int, ...]
Fact = tuple[Path, Literal["there", "not null"]]
Facts = frozenset[Fact]
NO_FACTS: Facts = frozenset()


@dataclass(slots=True)
class VariableUse:
    """What was found in one or more templates."""

    used: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    lint_warnings: list[Problem] = field(default_factory=list)
    optional: dict[Path, str] = field(default_factory=dict)
    """What is read and may be absent or null, and is asked for before it is used; with its source."""
    required: dict[Path, str] = field(default_factory=dict)
    """What is used as if it were required, in objects whose schema requires nothing; with its source."""

    def add(self, other: "VariableUse") -> None:
        """What was found in another template too."""
        self.used |= other.used
        self.problems += other.problems
        self.lint_warnings += other.lint_warnings
        self.optional = other.optional | self.optional
        self.required = other.required | self.required


class KnownValue(NamedTuple):
    """What is known of an expression's value."""

    schema: JsonSchema | None = None
    path: Path | None = None
    absent: bool = False
    """Whether the schema lets it be absent where its owner is there."""
    vague: bool = False
    """Whether the schema lets it only because it requires nothing."""
    owner: "KnownValue | None" = None
    true: Facts = NO_FACTS
    """What holds when it is true, of a name that a test was given to."""
    false: Facts = NO_FACTS


UNKNOWN = KnownValue()
FUNCTION = KnownValue(true=frozenset({(("a function",), "there")}))
Scope = dict[str, KnownValue]


class VariableCollector:
    """Follows names through a tree."""

    def __init__(self, variables: JsonSchema, place: str) -> None:
        self._root = variables
        self._place = place
        self._whole = KnownValue(variables, ())
        self._known = list(variables.get("properties", {}))
        self._open = bool(variables.get("additionalProperties")) or "patternProperties" in variables
        self.use = VariableUse()

    def read(self, tree: nodes.Template) -> VariableUse:
        """Read a whole template."""
        scope = {name: self._property(self._whole, name) for name in self._known}
        self._all(tree.body, {**scope, "letter": KnownValue(LETTER_SCHEMA, ("letter",))}, NO_FACTS)
        return self.use

    # --- statements -------------------------------------------------------------------------------

    def _all(self, found: Iterable[nodes.Node], scope: Scope, facts: Facts) -> None:
        for node in found:
            self._visit(node, scope, facts)

    def _visit(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    self._use(part, scope, facts)
                    self._printed(part, scope)
            case nodes.For():
                self._loop(node, scope, facts)
            case nodes.If():
                self._branches(node, scope, facts)
            case nodes.With():
                inner = dict(scope)
                for target, value in zip(node.targets, node.values, strict=True):
                    self._assign(target, value, scope, inner, facts)
                self._all(node.body, inner, facts)
            case nodes.Assign():
                self._assign(node.target, node.node, scope, scope, facts)
            case nodes.AssignBlock() | nodes.FilterBlock() | nodes.Macro() | nodes.CallBlock():
                self._block(node, scope, facts)
            case nodes.Expr():
                self._use(node, scope, facts)
            case _:
                self._all(node.iter_child_nodes(), scope, facts)

    def _block(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        match node:
            case nodes.Macro():
                scope[node.name] = UNKNOWN
                self._macro(node, scope)
            case nodes.CallBlock():
                self._use(node.call, scope, facts)
                self._macro(node, scope)
            case nodes.AssignBlock() | nodes.FilterBlock():
                self._all(node.body, dict(scope), facts)
                self._arguments(node.filter, scope, facts)
                if isinstance(node, nodes.AssignBlock):
                    self._bind(node.target, UNKNOWN, scope)

    def _branches(self, node: nodes.If, scope: Scope, facts: Facts) -> None:
        for branch in (node, *node.elif_):
            self._ask(branch.test, scope, facts)
            self._all(branch.body, scope, facts | self._when(branch.test, scope, truth=True))
            facts |= self._when(branch.test, scope, truth=False)
        self._all(node.else_, scope, facts)

    def _loop(self, node: nodes.For, scope: Scope, facts: Facts) -> None:
        self._use(node.iter, scope, facts)
        source = self._looped(node.iter, scope)
        item = UNKNOWN
        if source.schema is not None and isinstance(source.schema.get("items"), Mapping):
            path = (*source.path, ANY_ITEM) if source.path is not None else None
            item = KnownValue(resolve_ref(source.schema["items"], self._root), path)
        inner = {**scope, "loop": UNKNOWN}
        self._bind(node.target, item, inner)
        if node.test:
            self._ask(node.test, inner, facts)
            facts |= self._when(node.test, inner, truth=True)
        self._all(node.body, inner, facts)
        self._all(node.else_, scope, facts)

    def _looped(self, node: nodes.Node, scope: Scope) -> KnownValue:
        """The list that a loop goes over, also behind `or []` and filters that keep its items."""
        match node:
            case nodes.Filter(node=nodes.Node() as inner, name=name) if name in ITEM_FILTERS:
                return self._looped(inner, scope)
            case nodes.Or(left=left):
                return self._looped(left, scope)
            case _:
                return self._value(node, scope)

    def _macro(self, node: nodes.Macro | nodes.CallBlock, scope: Scope) -> None:
        """What a macro is given is not known; what its body reads beside that is judged where it stands."""
        for value in node.defaults:
            self._use(value, scope, NO_FACTS)
        names = (*(target.name for target in node.args), *IN_MACROS)
        self._all(node.body, {**scope, **dict.fromkeys(names, UNKNOWN)}, NO_FACTS)

    def _assign(
        self, target: nodes.Node, value: nodes.Node, outer: Scope, inner: Scope, facts: Facts
    ) -> None:
        """A name for a value; what is missing may be named, and is judged where the name is used."""
        self._ask(value, outer, facts) if source_of(value) else self._use(value, outer, facts)
        found = self._value(value, outer)
        if found is UNKNOWN:
            true, false = self._when(value, outer, truth=True), self._when(value, outer, truth=False)
            found = KnownValue(true=true, false=false)
        self._bind(target, found, inner)

    def _bind(self, target: nodes.Node, value: KnownValue, scope: Scope) -> None:
        if isinstance(target, nodes.Name):
            scope[target.name] = value
        else:
            scope.update({name.name: UNKNOWN for name in target.find_all(nodes.Name)})

    # --- expressions ------------------------------------------------------------------------------

    def _ask(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Read an expression where only its truth counts: what is missing or null is false."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                self._value(node, scope, report=True)
                self._needed_index(node, scope, facts)
                self._read(node, scope)
            case nodes.Not(node=inner):
                self._ask(inner, scope, facts)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                self._ask(left, scope, facts)
                self._ask(right, scope, facts | self._when(left, scope, truth=isinstance(node, nodes.And)))
            case nodes.CondExpr():
                self._choose(node, scope, facts, self._ask)
            case _:
                self._use(node, scope, facts)

    def _use(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Read an expression whose value is needed."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                value = self._value(node, scope, report=True)
                self._needed_index(node, scope, facts)
                self._require(value, node, facts)
            case nodes.Not():
                self._ask(node, scope, facts)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                both = isinstance(node, nodes.And)  # a false left side is the value of `and`, not of `or`
                (self._use if both else self._ask)(left, scope, facts)
                self._use(right, scope, facts | self._when(left, scope, truth=both))
            case nodes.CondExpr():
                self._choose(node, scope, facts, self._use)
            case nodes.Concat():
                for part in node.nodes:
                    self._use(part, scope, facts)
                    self._printed(part, scope)
            case _:
                self._use_call(node, scope, facts)

    def _use_call(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """The same of what is asked of a value: a test, a comparison, a filter, a call."""
        match node:
            case nodes.Test(node=inner, name=name):
                self._ask(inner, scope, facts) if name in PRESENCE_TESTS | TYPE_TESTS else self._use(
                    inner, scope, facts
                )
                self._arguments(node, scope, facts)
            case nodes.Compare(expr=left, ops=operands):
                equal = all(operand.op in ("eq", "ne", "in", "notin") for operand in operands)
                read = self._ask if equal else self._use
                for each in (left, *(operand.expr for operand in operands)):
                    read(each, scope, facts)
                for operand in operands:
                    if operand.op in ("in", "notin"):
                        found = self._value(operand.expr, scope)._replace(absent=False, owner=None)
                        self._require(found, operand.expr, facts)
            case nodes.Filter(node=inner, name=name):
                self._filter(node, inner, name, scope, facts)
                self._arguments(node, scope, facts)
            case nodes.Call(node=callee):
                self._call(node, callee, scope, facts)
            case _:
                for child in node.iter_child_nodes():
                    self._use(child, scope, facts)

    def _choose(self, node: nodes.CondExpr, scope: Scope, facts: Facts, read: Any) -> None:
        self._ask(node.test, scope, facts)
        read(node.expr1, scope, facts | self._when(node.test, scope, truth=True))
        if node.expr2 is not None:
            read(node.expr2, scope, facts | self._when(node.test, scope, truth=False))

    def _filter(
        self, node: nodes.Filter, inner: nodes.Node | None, name: str, scope: Scope, facts: Facts
    ) -> None:
        if inner is None:
            return
        if name in ("default", "d"):
            self._ask(inner, scope, facts)
        elif name == "select" and not node.args and isinstance(inner, nodes.List | nodes.Tuple):
            for each in inner.items:
                self._ask(each, scope, facts)  # `[a, b]|select|join(", ")` leaves out what is missing
        else:
            self._use(inner, scope, facts)

    def _call(self, node: nodes.Call, callee: nodes.Node, scope: Scope, facts: Facts) -> None:
        """A macro may be given what is missing; a method is asked of a value that is needed."""
        if isinstance(callee, nodes.Getattr):
            self._use(callee.node, scope, facts)
            self._value(callee, scope, report=True)
        else:
            self._use(callee, scope, facts)
        function = isinstance(callee, nodes.Name) and callee.name not in FUNCTIONS
        for argument in (*node.args, *(word.value for word in node.kwargs)):
            (self._ask if function else self._use)(argument, scope, facts)
        for rest in (node.dyn_args, node.dyn_kwargs):
            if rest is not None:
                self._use(rest, scope, facts)

    def _arguments(self, node: nodes.Filter | nodes.Test | None, scope: Scope, facts: Facts) -> None:
        if node is not None:
            for argument in (*node.args, *(word.value for word in node.kwargs)):
                self._use(argument, scope, facts)

    def _needed_index(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """What stands in brackets or under a call in a path is an expression of its own."""
        here: nodes.Node = node
        while isinstance(here, nodes.Getattr | nodes.Getitem):
            if isinstance(here, nodes.Getitem) and not isinstance(here.arg, nodes.Const):
                self._use(here.arg, scope, facts)
            here = here.node
        if not isinstance(here, nodes.Name):
            self._use(here, scope, facts)

    # --- what holds in a branch -------------------------------------------------------------------

    def _when(self, node: nodes.Node, scope: Scope, *, truth: bool) -> Facts:
        """What is sure when a test is true, or when it is false."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                value = self._value(node, scope)
                named = value.true if truth else value.false
                return named | (self._there(value, null=False) if truth else NO_FACTS)
            case nodes.Not(node=inner):
                return self._when(inner, scope, truth=not truth)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                one, other = (self._when(each, scope, truth=truth) for each in (left, right))
                return one | other if isinstance(node, nodes.And) == truth else one & other
            case nodes.Test(node=inner, name=name):
                return self._tested(inner, name, scope, truth=truth)
            case nodes.Compare(expr=left, ops=[nodes.Operand() as operand]):
                return self._compared(left, operand, scope, truth=truth)
            case nodes.Filter(node=nodes.Node() as inner, name="default" | "d", args=instead) if truth and (
                not instead or _is_empty(instead[0])
            ):
                return self._when(inner, scope, truth=True)
            case nodes.Filter(node=inner, name=name) if truth and inner is not None and name in FALSY_FILTERS:
                return self._when(inner, scope, truth=True)
            case _:
                return NO_FACTS

    def _tested(self, inner: nodes.Node, name: str, scope: Scope, *, truth: bool) -> Facts:
        value = self._value(inner, scope)
        if name in ("defined", "undefined") and truth == (name == "defined"):
            return self._there(value, null=True)
        if name == "none" and not truth and value.path is not None:
            return frozenset({(value.path, "not null")})
        if truth and name in TYPE_TESTS | {"true", "false"}:
            return self._there(value, null=False)
        return NO_FACTS

    def _compared(self, left: nodes.Node, operand: nodes.Operand, scope: Scope, *, truth: bool) -> Facts:
        if operand.op in ("in", "notin"):
            found = truth == (operand.op == "in")
            return self._there(self._value(operand.expr, scope), null=False) if found else NO_FACTS
        if operand.op not in ("eq", "ne"):
            return self._there(self._value(left, scope), null=False)  # else the comparison has failed
        value, equal = self._value(left, scope), truth == (operand.op == "eq")
        match operand.expr:
            case nodes.Const(value=None):
                return frozenset({(value.path, "not null")}) if value.path and not equal else NO_FACTS
            case nodes.Const():
                return self._there(value, null=False) if equal else NO_FACTS
            case _:
                return NO_FACTS

    def _there(self, value: KnownValue, *, null: bool) -> Facts:
        """That a value is there, and so all that it is in; and not null, unless `null`."""
        facts: set[Fact] = set()
        here: KnownValue | None = value
        while here is not None:
            if here.path is not None:
                facts.add((here.path, "there"))
                if not null:
                    facts.add((here.path, "not null"))
            null = False
            here = here.owner
        return frozenset(facts)

    # --- what is found ----------------------------------------------------------------------------

    def _require(self, value: KnownValue, node: nodes.Node, facts: Facts) -> None:
        """Advise on a value that is needed and may be missing, or be in what may be missing."""
        chain: list[tuple[KnownValue, str]] = []
        here: KnownValue | None = value
        written: Any = node
        while here is not None and here.path != ():
            chain.append((here, source_of(written) if written else _dotted(here.path)))
            here, written = here.owner, getattr(written, "node", None)
        for each, shown in reversed(chain):
            if each.path is None:
                continue
            if each.absent and (each.path, "there") not in facts:
                if not each.vague:
                    return self._advise(each.path, _may_be_missing(shown), node.lineno)
                self.use.required.setdefault(each.path, shown)
                self.use.optional[each.path] = ""
            nullable = _allows_null(each.schema, self._root)
            if nullable and (each.path, "not null") not in facts:
                return self._advise(each.path, _may_be_null(shown, last=each is value), node.lineno)
            if each.absent or nullable:
                self.use.optional.setdefault(each.path, shown)
        return None

    def _read(self, node: nodes.Node, scope: Scope) -> None:
        value = self._value(node, scope)
        if value.path and (value.absent or _allows_null(value.schema, self._root)):
            self.use.optional.setdefault(value.path, source_of(node))

    def _advise(self, path: Path, message: str, line: int) -> None:
        """Once for each variable of a part."""
        if not any(message == problem.message for problem in self.use.lint_warnings):
            problem = Problem(
                Code.VARIABLE_MAY_BE_ABSENT, self._place, message, line, severity=Severity.WARNING
            )
            self.use.lint_warnings.append(problem)
        self.use.optional[path] = ""

    def _printed(self, node: nodes.Node, scope: Scope) -> None:
        """Refuse to print what has no text, whatever the event."""
        shown = source_of(node)
        if not shown:
            return
        types = _types(self._value(node, scope).schema) - {"null"}
        if len(types) == 1 and (kind := UNPRINTABLE.get(*types)):
            ways = {
                "boolean": f'write `{{{{ "yes" if {shown} else "no" }}}}`',
                "array": f'write `{{{{ {shown}|join(", ") }}}}` or a loop',
                "object": "print one of its values, or loop over its `items()`",
            }
            message = f"`{shown}` {kind}, which is not printed; {ways[next(iter(types))]}"
            self._report(message, node.lineno, Code.RENDER_FAILED)

    def _value(self, node: nodes.Node, scope: Scope, *, report: bool = False) -> KnownValue:
        """What the schema says of an expression."""
        match node:
            case nodes.Name(name=name):
                return self._name(name, node.lineno, scope, report=report)
            case nodes.Getattr(node=inner, attr=attribute):
                owner = self._value(inner, scope, report=report)
                return self._attribute(owner, inner, attribute, node.lineno, report=report)
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str(key))):
                owner = self._value(inner, scope, report=report)
                return self._attribute(owner, inner, key, node.lineno, report=report)
            case nodes.Getitem(node=inner, arg=argument):
                owner = self._value(inner, scope, report=report)
                items = owner.schema.get("items") if owner.schema is not None else None
                index = argument.value if isinstance(argument, nodes.Const) else None
                known = owner.path is not None and isinstance(index, int)
                path = (*owner.path, index) if owner.path is not None and isinstance(index, int) else None
                return KnownValue(resolve_ref(items, self._root), path, owner=owner if known else None)
            case _:
                return UNKNOWN

    def _name(self, name: str, line: int, scope: Scope, *, report: bool) -> KnownValue:
        if name in scope:
            self.use.used.add(name)
            return scope[name]
        if report and not self._open and name not in FUNCTIONS:
            likely = did_you_mean(name, [*self._known, "letter"])
            if not likely and (meant := name_message(name)):
                self._report(f"there is no `{name}` here: {meant}", line)
            else:
                hint = likely or self._way_out(name)
                self._report(f"`{name}` is not declared in `variables`{hint}", line)
        return FUNCTION if name in FUNCTIONS else UNKNOWN

    def _attribute(
        self, owner: KnownValue, written: nodes.Node, name: str, line: int, *, report: bool
    ) -> KnownValue:
        schema = owner.schema
        if schema is None:
            if report and owner is FUNCTION:
                shown = source_of(written)
                self._report(f"`{shown}` is a function; for a loop write `{{% for item in {name} %}}`", line)
            return UNKNOWN
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and name in properties:
            return self._property(owner, name)
        if report and (problem := self._no_attribute(schema, source_of(written), name)):
            self._report(problem, line)
        return UNKNOWN

    def _no_attribute(self, schema: JsonSchema, owner: str, name: str) -> str:
        """Why a value of this schema has no such attribute, or nothing."""
        properties = schema.get("properties", {})
        types = _types(schema) - {"null"}
        if types and types <= OF_TYPE.keys():
            kinds = [kind for each in types for kind in OF_TYPE[each]]
            methods = {name for kind, names in METHODS if kind in kinds for name in names}
            if name in methods:
                return ""
            return attribute_message(name, owner) or f"`{owner}` has no `.{name}`: it is not a map"
        closed = schema is LETTER_SCHEMA or schema.get("additionalProperties") is False
        if closed and name not in DICT_METHODS:
            return f"`{name}` is not among the declared properties{did_you_mean(name, properties)}"
        return ""

    def _property(self, owner: KnownValue, name: str) -> KnownValue:
        schema: JsonSchema = owner.schema or {}
        found = schema["properties"][name]
        default = isinstance(found, Mapping) and "default" in found
        absent = not default and name not in _required(schema, self._root)
        vague = not schema.keys() & {"required", "allOf", *CONDITIONAL_KEYWORDS}
        path = (*owner.path, name) if owner.path is not None else None
        return KnownValue(resolve_ref(found, self._root), path, absent, vague, owner)

    def _way_out(self, name: str) -> str:
        """What there is instead, when it is few, and where the name would be declared."""
        listed = f", which has {', '.join(self._known)}" if 0 < len(self._known) <= MAX_LISTED else ""
        return f"{listed}; declare it as spec.variables.properties.{name}"

    def _report(self, message: str, line: int, code: Code = Code.VARIABLE_UNDECLARED) -> None:
        problem = Problem(code, self._place, message, line)
        if problem not in self.use.problems:
            self.use.problems.append(problem)


def _may_be_missing(name: str) -> str:
    return (
        f"`{name}` may be missing, and an event without it becomes a dead letter; write `{{% if {name} %}}`"
        f" around it or `{{{{ {name}|default(…) }}}}`, or require it or give it a `default` in `variables`"
    )


def _may_be_null(name: str, *, last: bool) -> str:
    effect = "is printed as nothing" if last else "has no attributes: such an event becomes a dead letter"
    return f"`{name}` may be null, which {effect}; write `{{% if {name} %}}` around it or `|default(…)`"


def _is_empty(node: nodes.Node) -> bool:
    """Whether an expression is written as what is false in a test."""
    match node:
        case nodes.Const(value=value):
            return not value
        case nodes.List(items=items) | nodes.Tuple(items=items) | nodes.Dict(items=items):
            return not items
        case _:
            return False


def _types(schema: JsonSchema | None) -> frozenset[str]:
    """The types that a schema names, if it does."""
    found = schema.get("type") if schema is not None else None
    return frozenset(found if isinstance(found, list) else [found] if isinstance(found, str) else ())


def _allows_null(schema: Any, root: JsonSchema, depth: int = 0) -> bool:
    """Whether a schema says that null is among its values; one that says nothing doesn't."""
    here = resolve_ref(schema, root)
    if here is None or depth > MAX_NESTED_SCHEMAS:
        return False
    if "null" in _types(here) and None in here.get("enum", [None]):
        return True
    branches = [
        each for key in ("anyOf", "oneOf") for each in here.get(key, ()) if isinstance(here[key], list)
    ]
    return any(_allows_null(each, root, depth + 1) for each in branches)


def _dotted(path: Path | None) -> str:
    return ".".join(str(step) for step in path or () if step != ANY_ITEM)


def _required(schema: JsonSchema, root: JsonSchema, depth: int = 0) -> set[str]:
    """The properties that are always there, or that a condition of the schema may require."""
    names = {name for name in schema.get("required", ()) if isinstance(name, str)}
    for each in schema.get("allOf", ()):
        part = resolve_ref(each, root)
        if part is not None and depth < MAX_NESTED_SCHEMAS:
            names |= _required(part, root, depth + 1)
    return names | {name for key in CONDITIONAL_KEYWORDS if key in schema for name in _named(schema[key])}


def _named(part: Any) -> Iterator[str]:
    """Every text in a part of a schema: a property that a condition names may be required by it."""
    waiting = [part]
    while waiting:
        match waiting.pop():
            case str() as name:
                yield name
            case Mapping() as found:
                waiting += [*found, *found.values()]
            case list() as found:
                waiting += found


def unused_variables(variables: JsonSchema, used: set[str]) -> Iterator[str]:
    """Declared variables that nothing reads."""
    return (name for name in variables.get("properties", {}) if name not in used)


def always_there(optional: Mapping[Path, str], samples: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The sources of optional variables that no sample leaves out or has as null."""
    known = list(samples)
    for path, source in optional.items():
        if source and not any(_lacks(sample, path) for sample in known):
            yield source


def _lacks(value: Any, path: Path) -> bool:
    """Whether something on the path is absent or null, in any item of the lists on its way."""
    if value is None:
        return True
    if not path:
        return False
    step, rest = path[0], path[1:]
    if step == ANY_ITEM and isinstance(value, list):
        return any(_lacks(item, rest) for item in value)
    if isinstance(value, Mapping) and isinstance(step, str):
        return step not in value or _lacks(value[step], rest)
    if isinstance(value, list) and isinstance(step, int):
        return step >= len(value) or _lacks(value[step], rest)
    return False
