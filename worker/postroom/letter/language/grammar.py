"""What a letter's template may not say, whatever the data: read from its syntax tree.

`refuse_forbidden` raises Rejected with every forbidden construct and its line. The same reading runs in
the proof and again in the worker, so that a bundle cannot carry what a manifest may not.
"""

from collections.abc import Iterable, Iterator

from jinja2 import nodes

from postroom.letter.problems import Code, Problem, Rejected

FORBIDDEN: dict[type[nodes.Node], str] = {
    nodes.Import: "`import` is not for letters: a template can reach no other file",
    nodes.FromImport: "`from … import` is not for letters: a template can reach no other file",
    nodes.Extends: "`extends` is not for letters: name the layout in `layoutRef`",
    nodes.Macro: "`macro` is not for letters: put the piece into a partial of the layout",
    nodes.CallBlock: "`call` is not for letters",
    nodes.FilterBlock: "`filter` blocks are not for letters: write the filter at each value",
    nodes.AssignBlock: "`set` blocks are not for letters: write `{% set name = value %}`",
    nodes.ScopedEvalContextModifier: "escaping stays on: HTML from an event would reach readers",
    nodes.EvalContextModifier: "escaping stays on: HTML from an event would reach readers",
}
WAY_OUT = "give the finished value in the event's data"
ADVICE = {
    "safe": "`safe` is not for letters: HTML from an event would reach readers as it is",
}
MAX_NODES = 20_000
"""Nodes of one template's syntax tree."""
LOOKED_AT = frozenset(
    (nodes.Getattr, nodes.Getitem, nodes.Name, nodes.Filter, nodes.For, nodes.Include, nodes.Block)
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
        case nodes.Name(name=name) if name.startswith("_"):
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
