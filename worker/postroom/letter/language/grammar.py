"""The words that templates may use of Jinja's own: filters, tests, methods. What is not here is refused.

What a letter's template may not say, whatever the data: read from its syntax tree.

`refuse_forbidden` raises Rejected with every forbidden construct and its line. The same reading runs in
validation and again in the worker, so that a bundle cannot carry what a manifest may not.
"""

from collections.abc import Iterable, Iterator

from jinja2 import nodes
from jinja2.runtime import LoopContext
from jinja2.utils import Cycler

from postroom.letter.language.other_languages import name_message
from postroom.letter.problems import Code, Problem, Rejected

FILTERS = frozenset(
    "abs count dictsort filesizeformat first float groupby int items last"  # noqa: SIM905  a table
    " length list max min reject rejectattr reverse select selectattr sort unique".split()
)
"""Taken from Jinja as they are; `filters.MEASURED` has the others."""
TESTS = frozenset(
    "boolean defined divisibleby even false float integer iterable mapping none number odd sequence"  # noqa: SIM905  a table
    " string true undefined == eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le".split()
)
_STRING = (
    "capitalize endswith isdigit lower lstrip removeprefix removesuffix rstrip split startswith strip"  # noqa: SIM905  a table
    " title upper".split()
)
_LOOP = "changed cycle first index index0 last length nextitem previtem revindex revindex0".split()  # noqa: SIM905  a table
METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_STRING)),
    (dict, frozenset(("items", "keys", "values", "get"))),
    (LoopContext, frozenset(_LOOP)),
    (Cycler, frozenset(("current", "next", "reset"))),
)
"""What a template may call or ask of a value, by the value's type."""
MARKUP_FILTERS = frozenset(("nl2br",))
"""Filters that may put elements into a page. `escape` and `tojson` give markup without elements."""


_INCLUDE = 'a template can reach no other file; write `{% include "name" %}` for the partial with the macros'
FORBIDDEN: dict[type[nodes.Node], str] = {
    nodes.Import: f"`import` is not for letters: {_INCLUDE}",
    nodes.FromImport: f"`from … import` is not for letters: {_INCLUDE}",
    nodes.Extends: "`extends` is not for letters: name the layout in `layoutRef`",
    nodes.ScopedEvalContextModifier: "escaping stays on: HTML from an event would reach readers",
    nodes.EvalContextModifier: "escaping stays on: HTML from an event would reach readers",
}
WAY_OUT = "give the finished value in the event's data"
SAFE = (
    "is not for letters: HTML from an event would reach readers as it is; write the elements in the template"
    " and the values in them, and `nl2br` for line ends"
)
ADVICE = {"safe": f"`safe` {SAFE}", "raw": f"`raw` {SAFE}"}
MAX_NODES = 20_000
"""Nodes of one template's syntax tree."""
LOOKED_AT = frozenset(
    (
        nodes.Getattr,
        nodes.Getitem,
        nodes.Name,
        nodes.NSRef,
        nodes.Filter,
        nodes.For,
        nodes.Include,
        nodes.Block,
        nodes.Macro,
    )
)
"""What is forbidden or not by what it says."""


def nodes_of(tree: nodes.Template) -> list[nodes.Node]:
    """Every node, in the order of the source. Raises Rejected (template_unsafe) when they are too many.

    `Node.find_all` does the same with a generator for each level, which takes several times as long.
    """
    found: list[nodes.Node] = []
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if len(found) > MAX_NODES:
            raise Rejected(Problem(Code.TEMPLATE_UNSAFE, "", "the template is too large", node.lineno))
        waiting += reversed([*node.iter_child_nodes()])
    return found


def refuse_forbidden(found: Iterable[nodes.Node]) -> None:
    """Raise Rejected (template_unsafe, template_syntax, partial_not_found) for what is forbidden."""
    problems = list(find_forbidden(found))
    if problems:
        raise Rejected(*problems)


def find_forbidden(found: Iterable[nodes.Node]) -> Iterator[Problem]:
    """Every forbidden construct, with its line; the field is the caller's to add."""
    for node in found:
        kind = type(node)
        if kind in FORBIDDEN:
            yield Problem(Code.TEMPLATE_UNSAFE, "", FORBIDDEN[kind], node.lineno)
        elif kind in LOOKED_AT:
            yield from _look(node)


def _look(node: nodes.Node) -> Iterator[Problem]:
    match node:
        case nodes.Getattr(attr=name) | nodes.Getitem(arg=nodes.Const(value=str(name))) if name.startswith(
            "_"
        ):
            yield Problem(Code.TEMPLATE_UNSAFE, "", f"unsafe attribute `{name}`; {WAY_OUT}", node.lineno)
        case nodes.Name(name="_", ctx="load"):
            yield Problem(Code.TEMPLATE_SYNTAX, "", f"`_` is not here: {name_message('_')}", node.lineno)
        case nodes.NSRef(attr=name) if name.startswith("_"):
            message = f"`{name}`: names beginning with `_` are reserved"
            yield Problem(Code.TEMPLATE_UNSAFE, "", message, node.lineno)
        case nodes.Name(name=name) | nodes.Macro(name=name) if name.startswith("_"):
            yield Problem(
                Code.TEMPLATE_UNSAFE, "", f"`{name}`: names beginning with `_` are reserved", node.lineno
            )
        case nodes.Name(name="self"):
            yield Problem(Code.TEMPLATE_UNSAFE, "", "`self` is not for letters", node.lineno)
        case nodes.Filter(name=name) if name in ADVICE:
            yield Problem(Code.FILTER_NOT_ALLOWED, "", ADVICE[name], node.lineno)
        case nodes.For(recursive=True):
            yield Problem(Code.TEMPLATE_UNSAFE, "", "recursive loops are not for letters", node.lineno)
        case nodes.Include():
            named = isinstance(node.template, nodes.Const) and f"`{node.template.value}`"
            message = f"{named or 'a computed name'} is not among the layout's partials"
            yield Problem(Code.PARTIAL_NOT_FOUND, "", message, node.lineno)
        case nodes.Block(name=name):
            yield Problem(
                Code.TEMPLATE_SYNTAX,
                "",
                f"block `{name}` has no place here: only html has blocks",
                node.lineno,
            )


BLOCKS = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.FilterBlock)


def yields_markup(tree: nodes.Template) -> bool:
    """Whether an expression of a template may put elements into the page, and not only text.

    So do the filters of MARKUP_FILTERS, and macros, `call`, `set` and `filter` blocks whose source has a tag.
    """
    for node in nodes_of(tree):
        if isinstance(node, nodes.Filter) and node.name in MARKUP_FILTERS:
            return True
        if isinstance(node, BLOCKS) and any("<" in data.data for data in node.find_all(nodes.TemplateData)):
            return True
    return False
