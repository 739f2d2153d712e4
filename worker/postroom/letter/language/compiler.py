"""How a template's syntax tree becomes code: bounded, and printing only what has a text.

`Bound` puts the meter around loops, captured blocks and built values, and rewrites what Jinja would write
unescaped (`{% filter %}`, a filtered `{% set %}`). `Compiler` writes each output expression through
`printing`, with the expression's own source for messages; text between constructs stands in a table, `texts`,
so that source with the same constructs and other text needs no code of its own.
"""

import re
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.visitor import NodeTransformer

from postroom.letter.language.printing import source_of, write_html, write_text

BOUND = (
    nodes.For,
    nodes.Concat,
    nodes.List,
    nodes.Tuple,
    nodes.Dict,
    nodes.CondExpr,
    nodes.AssignBlock,
    nodes.FilterBlock,
)
NEXT_IN_HTML = {
    "text": re.compile(r"<!--|<script\b|</?[a-z]", re.IGNORECASE),
    "tag": re.compile(r"[>\"']"),
    '"': re.compile('"'),
    "'": re.compile("'"),
    "comment": re.compile("-->"),
    "script": re.compile(r"</script\b", re.IGNORECASE),
}
"""What ends each state of the little reading of HTML that tells the content of a `<script>` from the rest."""


DICT_METHODS = frozenset(("items", "keys", "values", "get"))
"""Methods of a map, which are also names that objects in events have."""


def needs_bound(node: nodes.Node) -> bool:
    """Whether `Bound` has something to do for a node."""
    match node:
        case nodes.Getattr(attr=name):
            return name in DICT_METHODS
        case nodes.Filter(name=name):
            return name == "tojson"
        case _:
            return isinstance(node, BOUND)


class Bound(NodeTransformer):
    """Rewrites a tree in place. Only a tree with `tojson` needs `scripts`: to find where a `<script>` is."""

    def __init__(self, *, scripts: bool = True) -> None:
        self._scripts = scripts
        self._blocks = 0
        self._state = "text"
        self._opens_script = False

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        """Follow whether what comes next is the content of a `<script>`."""
        if not self._scripts:
            return node
        position = 0
        while found := NEXT_IN_HTML[self._state].search(node.data, position):
            sign, position = found[0].lower(), found.end()
            if self._state == "text":
                self._opens_script = sign == "<script"
                self._state = "comment" if sign == "<!--" else "tag"
            elif self._state == "tag":
                ended = "script" if self._opens_script else "text"
                self._state = ended if sign == ">" else sign
            else:
                self._opens_script = self._opens_script and self._state != "script"
                self._state = {"comment": "text"}.get(self._state, "tag")
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        if node.name == "tojson" and self._state == "script":
            node.name = "_tojson_in_script"
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        expression = source_of(node.iter)
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_loop", expression)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        expressions = tuple(source_of(part) for part in node.nodes)
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat", expressions)

    def visit_List(self, node: nodes.List | nodes.Dict | nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_built")

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self.visit_List(node) if node.ctx == "load" else node  # else it names the parts of something

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        """`order.items()` is the method, also where the order has a key of that name."""
        callee = node.node
        if isinstance(callee, nodes.Getattr) and callee.attr in DICT_METHODS:
            node.node = _filtered(callee.node, "_method", callee.attr)
        self.generic_visit(node)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        """`order.items` is the key, and missing where the order has none; `order.items()` is the method."""
        self.generic_visit(node)
        if node.attr in DICT_METHODS:
            return nodes.Getitem(node.node, nodes.Const(node.attr), "load", lineno=node.lineno)
        return node

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.Node:
        """`{{ "x" if y }}` prints nothing when y is false."""
        self.generic_visit(node)
        if node.expr2 is None:
            node.expr2 = nodes.Const("", lineno=node.lineno)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> list[nodes.Node]:
        """The block into a name of its own, then its filters: Jinja takes what they give for markup."""
        self.generic_visit(node)
        block, value = self._captured(node.body, node.filter, node.lineno)
        return [block, nodes.Assign(node.target, value, lineno=node.lineno)]

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> list[nodes.Node]:
        """The same: Jinja writes what the filters give without escaping it."""
        self.generic_visit(node)
        block, value = self._captured(node.body, node.filter, node.lineno)
        return [block, nodes.Output([value], lineno=node.lineno)]

    def _captured(
        self, body: list[nodes.Node], filters: nodes.Filter | None, line: int
    ) -> tuple[nodes.Node, nodes.Expr]:
        self._blocks += 1
        name = f"_block{self._blocks}"
        block = nodes.AssignBlock(nodes.Name(name, "store", lineno=line), None, body, lineno=line)
        captured = _filtered(nodes.Name(name, "load", lineno=line), "_captured")
        if filters is None:
            return block, captured
        innermost = filters
        while isinstance(innermost.node, nodes.Filter):
            innermost = innermost.node
        innermost.node = captured
        return block, filters


def _filtered(node: Any, name: str, *args: Any) -> nodes.Filter:
    constants = [nodes.Const(arg, lineno=node.lineno) for arg in args]
    return nodes.Filter(node, name, constants, [], None, None, lineno=node.lineno)


class Compiler(CodeGenerator):
    """Jinja's code generator with our output."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        self._texts: list[str] = []
        super().visit_Template(node, frame)
        self.writeline(f"texts = {self._texts!r}")
        self.writeline("write_html = environment.write_html")
        self.writeline("write_text = environment.write_text")

    def visit_CallBlock(self, node: nodes.CallBlock, frame: Frame) -> None:
        """As Jinja's, but for escaping: what is called need not be a macro."""
        call_frame, macro_ref = self.macro_body(node, frame)
        self.writeline("caller = ")
        self.macro_def(macro_ref, call_frame)
        self.start_write(frame, node)
        self._output_child_pre(node.call, frame, self._make_finalize())
        self.visit_Call(node.call, frame, forward_caller=True)
        self._output_child_post(node.call, frame, self._make_finalize())
        self.end_write(frame)

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:
        self.write(f"texts[{len(self._texts)}]")
        self._texts.append(node.data)

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if isinstance(node, nodes.TemplateData):
            raise nodes.Impossible  # it goes into the table
        write = write_html if frame.eval_ctx.autoescape else write_text
        return str(write(node.as_const(frame.eval_ctx), source_of(node)))  # raises for what is not printed

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        """A text, the usual case, is written without a call of ours: letters have thousands of them."""
        if isinstance(node, nodes.TemplateData):
            return
        self.write("(escape(v) if type(v := " if frame.eval_ctx.autoescape else "(v if type(v := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if isinstance(node, nodes.TemplateData):
            return
        write = "write_html" if frame.eval_ctx.autoescape else "write_text"
        self.write(f") is str else {write}(v, {source_of(node)!r}))")
