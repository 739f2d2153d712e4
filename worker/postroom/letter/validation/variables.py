"""Which variables a template uses, compared with those that its schema declares.

`VariableCollector` walks the syntax tree of a template. Errors: an undeclared name, with its line and the
nearest declared name; a value without a text form (a boolean, a list, a map) where it is printed. Warnings: a
variable that the schema allows to be absent or null and that is printed without a test for it. Paths are
followed into objects (`order.total`), through loops (`item in order.items`) and through assigned names, as
far as the schema describes them. Facts from a test hold in its branch: `{% if nick %}`, `nick is defined and
…`, `nick if nick else …`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jinja2 import nodes

from postroom.letter.data_schema import JsonSchema, resolve_ref
from postroom.letter.language.environment import FUNCTIONS
from postroom.letter.language.grammar import METHODS
from postroom.letter.language.other_languages import attribute_message, name_message
from postroom.letter.language.printing import source_of
from postroom.letter.problems import Code, Problem, Severity, did_you_mean
from postroom.letter.renderer import LETTER_FACTS

LETTER_SCHEMA: JsonSchema = {
    "properties": {name: {} for name in LETTER_FACTS},
    "required": list(LETTER_FACTS),
}
MAX_LISTED = 8
"""The most declared variables that one message lists."""
DICT_METHODS = frozenset(("items", "keys", "values", "get"))
"""Methods of dict, which any object has."""
IN_MACROS = ("caller", "varargs", "kwargs")
MAX_NESTED_SCHEMAS = 8
"""The deepest nesting of schemas that is followed."""
ANY_ITEM = "*"
"""In a path: any item of a list."""
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
"""Keywords that may require a property in some cases; such properties get no warning."""
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
"""Tests that accept a missing or null value."""
TYPE_TESTS = frozenset(("string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable"))
ITEM_FILTERS = frozenset(
    ("default", "d", "sort", "reverse", "list", "unique", "select", "selectattr", "reject", "rejectattr")
)
"""Filters whose result has the items of their input."""
FALSY_FILTERS = frozenset(
    ("length", "count", "trim", "list", "string", "int", "float", "first", "last", "upper", "lower")
)
"""Filters whose result is false when their input is."""

Path = tuple[str | int, ...]
Fact = tuple[Path, Literal["there", "not null"]]
Facts = frozenset[Fact]
NO_FACTS: Facts = frozenset()


@dataclass(slots=True)
class VariableUse:
    """The variables that one or more templates use, with problems and warnings."""

    used: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    lint_warnings: list[Problem] = field(default_factory=list)
    optional: dict[Path, str] = field(default_factory=dict)
    """Variables that may be absent or null and are tested before they are used; each with its source."""
    required: dict[Path, str] = field(default_factory=dict)
    """Variables that are used as if they were required, in objects whose schema requires nothing; with
    source.
    """

    def add(self, other: "VariableUse") -> None:
        """Add what was found in another template."""
        self.used |= other.used
        self.problems += other.problems
        self.lint_warnings += other.lint_warnings
        self.optional = other.optional | self.optional
        self.required = other.required | self.required


class KnownValue(NamedTuple):
    """The schema of the value of an expression, as far as it is known."""

    schema: JsonSchema | None = None
    path: Path | None = None
    absent: bool = False
    """Whether the schema allows it to be absent while its owner is present."""
    vague: bool = False
    """Whether it may be absent only because the schema has no `required` at all."""
    owner: "KnownValue | None" = None
    true: Facts = NO_FACTS
    """The facts that hold when it is true, for a name that was assigned a test."""
    false: Facts = NO_FACTS


UNKNOWN = KnownValue()
FUNCTION = KnownValue(true=frozenset({(("a function",), "there")}))
Scope = dict[str, KnownValue]


class VariableCollector:
    """Collects the variables of a syntax tree. `place` is the field of its problems."""

    def __init__(self, variables: JsonSchema, place: str) -> None:
        self._root = variables
        self._place = place
        self._whole = KnownValue(variables, ())
        self._known = list(variables.get("properties", {}))
        self._open = bool(variables.get("additionalProperties")) or "patternProperties" in variables
        self.use = VariableUse()

    def read(self, tree: nodes.Template) -> VariableUse:
        """Collect the variables of a whole template."""
        scope = {name: self._property(self._whole, name) for name in self._known}
        self._visit_all(tree.body, {**scope, "letter": KnownValue(LETTER_SCHEMA, ("letter",))}, NO_FACTS)
        return self.use

    # --- statements -------------------------------------------------------------------------------

    def _visit_all(self, found: Iterable[nodes.Node], scope: Scope, facts: Facts) -> None:
        for node in found:
            self._visit(node, scope, facts)

    def _visit(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    self._visit_use(part, scope, facts)
                    self._check_printable(part, scope)
            case nodes.For():
                self._visit_loop(node, scope, facts)
            case nodes.If():
                self._visit_if(node, scope, facts)
            case nodes.With():
                inner = dict(scope)
                for target, value in zip(node.targets, node.values, strict=True):
                    self._assign(target, value, scope, inner, facts)
                self._visit_all(node.body, inner, facts)
            case nodes.Assign():
                self._assign(node.target, node.node, scope, scope, facts)
            case nodes.AssignBlock() | nodes.FilterBlock() | nodes.Macro() | nodes.CallBlock():
                self._visit_block(node, scope, facts)
            case nodes.Expr():
                self._visit_use(node, scope, facts)
            case _:
                self._visit_all(node.iter_child_nodes(), scope, facts)

    def _visit_block(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        match node:
            case nodes.Macro():
                scope[node.name] = UNKNOWN
                self._visit_macro(node, scope)
            case nodes.CallBlock():
                self._visit_use(node.call, scope, facts)
                self._visit_macro(node, scope)
            case nodes.AssignBlock() | nodes.FilterBlock():
                self._visit_all(node.body, dict(scope), facts)
                self._visit_arguments(node.filter, scope, facts)
                if isinstance(node, nodes.AssignBlock):
                    self._bind(node.target, UNKNOWN, scope)

    def _visit_if(self, node: nodes.If, scope: Scope, facts: Facts) -> None:
        for branch in (node, *node.elif_):
            self._visit_condition(branch.test, scope, facts)
            self._visit_all(branch.body, scope, facts | self._facts_when(branch.test, scope, truth=True))
            facts |= self._facts_when(branch.test, scope, truth=False)
        self._visit_all(node.else_, scope, facts)

    def _visit_loop(self, node: nodes.For, scope: Scope, facts: Facts) -> None:
        self._visit_use(node.iter, scope, facts)
        source = self._loop_source(node.iter, scope)
        item = UNKNOWN
        if source.schema is not None and isinstance(source.schema.get("items"), Mapping):
            path = (*source.path, ANY_ITEM) if source.path is not None else None
            item = KnownValue(resolve_ref(source.schema["items"], self._root), path)
        inner = {**scope, "loop": UNKNOWN}
        self._bind(node.target, item, inner)
        if node.test:
            self._visit_condition(node.test, inner, facts)
            facts |= self._facts_when(node.test, inner, truth=True)
        self._visit_all(node.body, inner, facts)
        self._visit_all(node.else_, scope, facts)

    def _loop_source(self, node: nodes.Node, scope: Scope) -> KnownValue:
        """The list that a loop iterates over, also through `or []` and filters that keep its items."""
        match node:
            case nodes.Filter(node=nodes.Node() as inner, name=name) if name in ITEM_FILTERS:
                return self._loop_source(inner, scope)
            case nodes.Or(left=left):
                return self._loop_source(left, scope)
            case _:
                return self._value(node, scope)

    def _visit_macro(self, node: nodes.Macro | nodes.CallBlock, scope: Scope) -> None:
        """Visit a macro. Its arguments are unknown; other names in its body are checked in its own scope."""
        for value in node.defaults:
            self._visit_use(value, scope, NO_FACTS)
        names = (*(target.name for target in node.args), *IN_MACROS)
        self._visit_all(node.body, {**scope, **dict.fromkeys(names, UNKNOWN)}, NO_FACTS)

    def _assign(
        self, target: nodes.Node, value: nodes.Node, outer: Scope, inner: Scope, facts: Facts
    ) -> None:
        """Assign a value to a name. A missing value may be assigned; it is checked where the name is used."""
        self._visit_condition(value, outer, facts) if source_of(value) else self._visit_use(
            value, outer, facts
        )
        found = self._value(value, outer)
        if found is UNKNOWN:
            true, false = (
                self._facts_when(value, outer, truth=True),
                self._facts_when(value, outer, truth=False),
            )
            found = KnownValue(true=true, false=false)
        self._bind(target, found, inner)

    def _bind(self, target: nodes.Node, value: KnownValue, scope: Scope) -> None:
        if isinstance(target, nodes.Name):
            scope[target.name] = value
        else:
            scope.update({name.name: UNKNOWN for name in target.find_all(nodes.Name)})

    # --- expressions ------------------------------------------------------------------------------

    def _visit_condition(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Visit an expression of which only the truth counts: a missing or null value is false."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                self._value(node, scope, report=True)
                self._visit_path_expressions(node, scope, facts)
                self._record_optional(node, scope)
            case nodes.Not(node=inner):
                self._visit_condition(inner, scope, facts)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                self._visit_condition(left, scope, facts)
                self._visit_condition(
                    right, scope, facts | self._facts_when(left, scope, truth=isinstance(node, nodes.And))
                )
            case nodes.CondExpr():
                self._visit_conditional(node, scope, facts, self._visit_condition)
            case _:
                self._visit_use(node, scope, facts)

    def _visit_use(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Visit an expression whose value is needed."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                value = self._value(node, scope, report=True)
                self._visit_path_expressions(node, scope, facts)
                self._require(value, node, facts)
            case nodes.Not():
                self._visit_condition(node, scope, facts)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                both = isinstance(node, nodes.And)  # a false left side is the value of `and`, not of `or`
                (self._visit_use if both else self._visit_condition)(left, scope, facts)
                self._visit_use(right, scope, facts | self._facts_when(left, scope, truth=both))
            case nodes.CondExpr():
                self._visit_conditional(node, scope, facts, self._visit_use)
            case nodes.Concat():
                for part in node.nodes:
                    self._visit_use(part, scope, facts)
                    self._check_printable(part, scope)
            case _:
                self._visit_operation(node, scope, facts)

    def _visit_operation(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Visit a test, a comparison, a filter or a call whose value is needed."""
        match node:
            case nodes.Test(node=inner, name=name):
                self._visit_condition(
                    inner, scope, facts
                ) if name in PRESENCE_TESTS | TYPE_TESTS else self._visit_use(inner, scope, facts)
                self._visit_arguments(node, scope, facts)
            case nodes.Compare(expr=left, ops=operands):
                equal = all(operand.op in ("eq", "ne", "in", "notin") for operand in operands)
                read = self._visit_condition if equal else self._visit_use
                for each in (left, *(operand.expr for operand in operands)):
                    read(each, scope, facts)
                for operand in operands:
                    if operand.op in ("in", "notin"):
                        found = self._value(operand.expr, scope)._replace(absent=False, owner=None)
                        self._require(found, operand.expr, facts)
            case nodes.Filter(node=inner, name=name):
                self._visit_filter(node, inner, name, scope, facts)
                self._visit_arguments(node, scope, facts)
            case nodes.Call(node=callee):
                self._visit_call(node, callee, scope, facts)
            case _:
                for child in node.iter_child_nodes():
                    self._visit_use(child, scope, facts)

    def _visit_conditional(self, node: nodes.CondExpr, scope: Scope, facts: Facts, read: Any) -> None:
        self._visit_condition(node.test, scope, facts)
        read(node.expr1, scope, facts | self._facts_when(node.test, scope, truth=True))
        if node.expr2 is not None:
            read(node.expr2, scope, facts | self._facts_when(node.test, scope, truth=False))

    def _visit_filter(
        self, node: nodes.Filter, inner: nodes.Node | None, name: str, scope: Scope, facts: Facts
    ) -> None:
        if inner is None:
            return
        if name in ("default", "d"):
            self._visit_condition(inner, scope, facts)
        elif name == "select" and not node.args and isinstance(inner, nodes.List | nodes.Tuple):
            for each in inner.items:
                self._visit_condition(each, scope, facts)  # `[a, b]|select|join(", ")` omits missing values
        else:
            self._visit_use(inner, scope, facts)

    def _visit_call(self, node: nodes.Call, callee: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Visit a call. A macro accepts missing arguments; a method needs the value that it belongs to."""
        if isinstance(callee, nodes.Getattr):
            self._visit_use(callee.node, scope, facts)
            self._value(callee, scope, report=True)
        else:
            self._visit_use(callee, scope, facts)
        function = isinstance(callee, nodes.Name) and callee.name not in FUNCTIONS
        for argument in (*node.args, *(word.value for word in node.kwargs)):
            (self._visit_condition if function else self._visit_use)(argument, scope, facts)
        for rest in (node.dyn_args, node.dyn_kwargs):
            if rest is not None:
                self._visit_use(rest, scope, facts)

    def _visit_arguments(self, node: nodes.Filter | nodes.Test | None, scope: Scope, facts: Facts) -> None:
        if node is not None:
            for argument in (*node.args, *(word.value for word in node.kwargs)):
                self._visit_use(argument, scope, facts)

    def _visit_path_expressions(self, node: nodes.Node, scope: Scope, facts: Facts) -> None:
        """Visit the expressions inside a path: those in brackets, and a call at its beginning."""
        here: nodes.Node = node
        while isinstance(here, nodes.Getattr | nodes.Getitem):
            if isinstance(here, nodes.Getitem) and not isinstance(here.arg, nodes.Const):
                self._visit_use(here.arg, scope, facts)
            here = here.node
        if not isinstance(here, nodes.Name):
            self._visit_use(here, scope, facts)

    # --- what holds in a branch -------------------------------------------------------------------

    def _facts_when(self, node: nodes.Node, scope: Scope, *, truth: bool) -> Facts:
        """The facts that hold when an expression is true, or when it is false."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                value = self._value(node, scope)
                named = value.true if truth else value.false
                return named | (self._facts_present(value, null=False) if truth else NO_FACTS)
            case nodes.Not(node=inner):
                return self._facts_when(inner, scope, truth=not truth)
            case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
                one, other = (self._facts_when(each, scope, truth=truth) for each in (left, right))
                return one | other if isinstance(node, nodes.And) == truth else one & other
            case nodes.Test(node=inner, name=name):
                return self._facts_of_test(inner, name, scope, truth=truth)
            case nodes.Compare(expr=left, ops=[nodes.Operand() as operand]):
                return self._facts_of_comparison(left, operand, scope, truth=truth)
            case nodes.Filter(node=nodes.Node() as inner, name="default" | "d", args=instead) if truth and (
                not instead or _is_empty(instead[0])
            ):
                return self._facts_when(inner, scope, truth=True)
            case nodes.Filter(node=inner, name=name) if truth and inner is not None and name in FALSY_FILTERS:
                return self._facts_when(inner, scope, truth=True)
            case _:
                return NO_FACTS

    def _facts_of_test(self, inner: nodes.Node, name: str, scope: Scope, *, truth: bool) -> Facts:
        value = self._value(inner, scope)
        if name in ("defined", "undefined") and truth == (name == "defined"):
            return self._facts_present(value, null=True)
        if name == "none" and not truth and value.path is not None:
            return frozenset({(value.path, "not null")})
        if truth and name in TYPE_TESTS | {"true", "false"}:
            return self._facts_present(value, null=False)
        return NO_FACTS

    def _facts_of_comparison(
        self, left: nodes.Node, operand: nodes.Operand, scope: Scope, *, truth: bool
    ) -> Facts:
        if operand.op in ("in", "notin"):
            found = truth == (operand.op == "in")
            return self._facts_present(self._value(operand.expr, scope), null=False) if found else NO_FACTS
        if operand.op not in ("eq", "ne"):
            return self._facts_present(
                self._value(left, scope), null=False
            )  # a missing value fails in the comparison
        value, equal = self._value(left, scope), truth == (operand.op == "eq")
        match operand.expr:
            case nodes.Const(value=None):
                return frozenset({(value.path, "not null")}) if value.path and not equal else NO_FACTS
            case nodes.Const():
                return self._facts_present(value, null=False) if equal else NO_FACTS
            case _:
                return NO_FACTS

    def _facts_present(self, value: KnownValue, *, null: bool) -> Facts:
        """The facts that a value and its owners are present, and not null unless `null` is set."""
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
        """Warn of a needed value that may be missing, or whose owner may be missing."""
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
                    return self._warn(each.path, _may_be_missing(shown), node.lineno)
                self.use.required.setdefault(each.path, shown)
                self.use.optional[each.path] = ""
            nullable = _allows_null(each.schema, self._root)
            if nullable and (each.path, "not null") not in facts:
                return self._warn(each.path, _may_be_null(shown, last=each is value), node.lineno)
            if each.absent or nullable:
                self.use.optional.setdefault(each.path, shown)
        return None

    def _record_optional(self, node: nodes.Node, scope: Scope) -> None:
        value = self._value(node, scope)
        if value.path and (value.absent or _allows_null(value.schema, self._root)):
            self.use.optional.setdefault(value.path, source_of(node))

    def _warn(self, path: Path, message: str, line: int) -> None:
        """Add a warning, once for each variable of a part."""
        if not any(message == problem.message for problem in self.use.lint_warnings):
            problem = Problem(
                Code.VARIABLE_MAY_BE_ABSENT, self._place, message, line, severity=Severity.WARNING
            )
            self.use.lint_warnings.append(problem)
        self.use.optional[path] = ""

    def _check_printable(self, node: nodes.Node, scope: Scope) -> None:
        """Report a printed value that has no text form for any event."""
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
        """The schema of an expression's value."""
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
                hint = likely or self._declaration_hint(name)
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
        """Why a value of this schema has no such attribute; empty if it may have it."""
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

    def _declaration_hint(self, name: str) -> str:
        """The declared variables if they are few, and the field that would declare the name."""
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
    """Whether an expression is a literal that is false in a test."""
    match node:
        case nodes.Const(value=value):
            return not value
        case nodes.List(items=items) | nodes.Tuple(items=items) | nodes.Dict(items=items):
            return not items
        case _:
            return False


def _types(schema: JsonSchema | None) -> frozenset[str]:
    """The types that a schema names; empty if it names none."""
    found = schema.get("type") if schema is not None else None
    return frozenset(found if isinstance(found, list) else [found] if isinstance(found, str) else ())


def _allows_null(schema: Any, root: JsonSchema, depth: int = 0) -> bool:
    """Whether a schema explicitly allows null."""
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
    """The properties that are always present, or that a condition of the schema may require."""
    names = {name for name in schema.get("required", ()) if isinstance(name, str)}
    for each in schema.get("allOf", ()):
        part = resolve_ref(each, root)
        if part is not None and depth < MAX_NESTED_SCHEMAS:
            names |= _required(part, root, depth + 1)
    return names | {name for key in CONDITIONAL_KEYWORDS if key in schema for name in _named(schema[key])}


def _named(part: Any) -> Iterator[str]:
    """Every text in a part of a schema: a property that a condition names may be required."""
    stack = [part]
    while stack:
        match stack.pop():
            case str() as name:
                yield name
            case Mapping() as found:
                stack += [*found, *found.values()]
            case list() as found:
                stack += found


def unused_variables(variables: JsonSchema, used: set[str]) -> Iterator[str]:
    """Declared variables that the template does not use."""
    return (name for name in variables.get("properties", {}) if name not in used)


def always_present(optional: Mapping[Path, str], samples: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The sources of optional variables that are present and not null in every sample."""
    data = list(samples)
    for path, source in optional.items():
        if source and not any(_lacks(sample, path) for sample in data):
            yield source


def _lacks(value: Any, path: Path) -> bool:
    """Whether a value on the path is absent or null, in any item of the lists on the path."""
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
