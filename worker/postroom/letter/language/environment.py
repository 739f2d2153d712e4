"""The sandbox that every template runs in: Jinja2 with an allow-list instead of a deny-list.

Template source → `Script`, which renders a mapping of JSON values to text. What the source may not
say (macros, imports, unknown filters, attributes that begin with `_`) is refused when it is compiled;
what depends on values is refused while it runs. Either way the caller gets `Rejected` with the field
and, where it is known, the line. Error texts name variables and rules, never values: they end up in
logs and dead letters.

Templates get JSON values only, so that the sandbox needs to know only str, numbers, list and dict. An
object's own keys come before dict's methods: `order.items` is the order's items.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import TracebackType
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.lexer import TokenStream
from jinja2.runtime import Context, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from postroom.letter.hint import did_you_mean
from postroom.letter.language import bounds, messages
from postroom.letter.language.bounds import LimitExceeded, Meter, Unsuitable
from postroom.letter.language.filters import MEASURED, meter_of
from postroom.letter.language.formats import FORMATS
from postroom.letter.language.grammar import nodes_of, refuse_forbidden
from postroom.letter.language.vocabulary import FILTERS, METHODS, TESTS
from postroom.letter.problems import Code, Position, Problem, Rejected

SOURCE_NAME = "<template>"
"""The file name of every compiled template; never taken from a manifest (CVE-2024-56201)."""


class Missing(StrictUndefined):
    """A variable that is not there: any use of it is an error that says its name."""

    __slots__ = ()

    def __repr__(self) -> str:
        """A list that holds one is not printed either."""
        return str(self)

    @property
    def _undefined_message(self) -> str:
        name: Any = self._undefined_name
        return self._undefined_hint or (
            f"there is no item {name}" if isinstance(name, int) else f"`{name}` is not there"
        )


class Bound(NodeTransformer):
    """Put the meter around every loop, every `~`, and every list, tuple and dict that is written out."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_loop", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_concat", [], [], None, None, lineno=node.lineno)

    def visit_List(self, node: nodes.List | nodes.Dict | nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(node, "_built", [], [], None, None, lineno=node.lineno)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self.visit_List(node) if node.ctx == "load" else node  # else it names the parts of something


METERED = (nodes.For, nodes.Concat, nodes.List, nodes.Tuple, nodes.Dict)
"""What `Bound` has something to do for."""


class LetterEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2 as letters may use it. No loader: a template can reach no other template or file."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(autoescape=autoescape, undefined=Missing, cache_size=0, auto_reload=False)
        self.globals = {"range": bounds.bounded_range, messages.NAME: messages.translate}
        kept = {name: function for name, function in self.filters.items() if name in FILTERS}
        self.filters = kept | FORMATS | MEASURED
        self.tests = {name: test for name, test in self.tests.items() if name in TESTS}
        self._trees: dict[str, nodes.Template] = {}
        """Of the source that was read last, until it is compiled."""

    def read(self, source: str) -> nodes.Template:
        """The syntax tree, which the source's next compilation takes and changes. Raises as `parse` does."""
        tree = self.parse(source)
        self._trees = {source: tree}
        return tree

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return self._trees.pop(source, None) or super()._parse(source, name, filename)

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        found = nodes_of(source)
        refuse_forbidden(found)
        if any(isinstance(node, METERED) for node in found):
            source = Bound().visit(source)
        return super()._generate(source, name, filename, defer_init=defer_init)

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        assert state is None, "only a piece of a template begins in another state"
        return TokenStream(self.lexer.wrap(tokens_of(source), name, filename), name, filename)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic within bounds."""
        found = bounds.calculate(self.binop_table[operator], operator, left, right)
        return meter_of(context).build(found) if isinstance(found, list | tuple) else found

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A key of a JSON object, else one of the few methods a template may call."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, Undefined):
            return getattr(obj, attribute)
        for kind, allowed in METHODS:
            if isinstance(obj, kind) and attribute in allowed:
                return getattr(obj, attribute)
        if attribute.startswith("_") or hasattr(obj, attribute):
            return self.unsafe_undefined(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`order["id"]`, `items[0]`; a name that is not there is looked up like an attribute."""
        try:
            return obj[argument]
        except (TypeError, LookupError):
            if isinstance(argument, str):
                return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_callable(self, obj: Any) -> bool:
        """`range`, `t`, and the methods that `getattr` hands out."""
        if obj is bounds.bounded_range or obj is messages.translate or isinstance(obj, Undefined):
            return True  # calling what is undefined raises, with its name
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        return any(isinstance(owner, kind) and name in allowed for kind, allowed in METHODS)


HTML = LetterEnvironment(autoescape=True)
TEXT = LetterEnvironment(autoescape=False)
"""For subjects, text parts and headers, where escaping would show."""


Token = tuple[int, str, str]
"""The position (a `Position`), the kind and the text."""
_NEWLINE = re.compile(r"\r\n|\r")
_SPACE = re.compile(r"\s*")


@lru_cache(maxsize=16)
def tokens_of(source: str) -> tuple[Token, ...]:
    """What Jinja's lexer makes of a source: position, kind, text. Raises jinja2's TemplateSyntaxError.

    Kept for a moment: a proof takes the same source apart, reads it and compiles it, and lexing was a third
    of its time.
    """
    text = _NEWLINE.sub("\n", source)  # as the lexer does
    found: list[Token] = []
    offset, current, begin = 0, 0, -1  # begin: the line break before the current line
    try:
        for line, kind, value in HTML.lex(source, SOURCE_NAME):
            if not text.startswith(value, offset):
                offset = _start(text, offset)
            if line != current:
                current, begin = line, text.rfind("\n", 0, offset)
            length = len(value) if kind != "data" else max(1, len(value.partition("\n")[0]))
            position = Position(line, offset - begin, length)
            if kind == "name" and found and found[-1][2] == "." and found[-1][1] == "operator":
                found[-1] = (position, *found[-1][1:])  # of `order.totl` a problem is about the attribute
            found.append((position, kind, value))
            offset += len(value)
    except TemplateSyntaxError as error:
        error.lineno = _position_of(error, text, offset, found)
        raise
    return tuple(found)


def _start(text: str, offset: int) -> int:
    """Where the next token begins: the lexer leaves out the white space before `{%-`."""
    space = _SPACE.match(text, offset)
    return space.end() if space else offset


def _position_of(error: TemplateSyntaxError, text: str, offset: int, found: list[Token]) -> int:
    """Where the lexer stopped: at the character after the last token, or at the comment that has no end."""
    if str(error.message).startswith("Missing end of") and found:
        return found[-1][0]
    space = _SPACE.match(text, offset)
    stopped = space.end() if space else offset
    same_line = text.count("\n", 0, stopped) + 1 == error.lineno
    return Position(error.lineno, stopped - text.rfind("\n", 0, stopped)) if same_line else error.lineno


Root = Callable[[Context], Any]
CLOSED = ("if", "for", "with", "block", "macro", "call", "filter", "autoescape")
"""The tags that have an end; `set` has one only without `=`."""
CANNOT_COMPILE = (TemplateSyntaxError, SyntaxError, RecursionError, MemoryError, ValueError, LimitExceeded)
"""What Jinja's and Python's compilers raise for source that asks too much of them."""


class Script:
    """A compiled template. Rendering gives text, or Rejected with the field and the line."""

    __slots__ = ("_constant", "_root", "_template", "field", "source")

    def __init__(self, environment: LetterEnvironment, source: str, field: str) -> None:
        """Compile `source`; raises Rejected (template_syntax, template_unsafe, filter_not_allowed)."""
        self.field = field
        self.source = source
        self._constant = None if "{" in source else source
        if self._constant is not None:
            return
        try:
            code = environment.compile(source, SOURCE_NAME, SOURCE_NAME)
            self._template = Template.from_code(environment, code, environment.globals)
        except Rejected as rejected:
            raise Rejected(*(placed(problem, field) for problem in rejected.problems)) from None
        except CANNOT_COMPILE as error:
            raise Rejected(explain_syntax(error, field)) from None
        self._root: Root = self._template.root_render_func

    def render(self, variables: Mapping[str, Any], meter: Meter) -> str:
        """Render with the event's data and `letter`; charges `meter`."""
        if self._constant is not None:
            return self._constant
        context = self._template.new_context({**variables, "_meter": meter})
        try:
            return meter.gather(self._root(context))
        except Exception as error:  # noqa: BLE001  a template may fail in any way
            raise Rejected(explain_failure(error, self.field, self._line(error.__traceback__))) from None

    def _line(self, trace: TracebackType | None) -> int | None:
        line = None
        while trace:
            if trace.tb_frame.f_code.co_filename == SOURCE_NAME:
                line = self._template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line


@lru_cache(maxsize=128)
def script_of(environment: LetterEnvironment, source: str, field: str) -> Script:
    """A compiled template, kept for a while: a proof tries the same sources again and again.

    Whoever sends with it keeps it himself. Raises as Script does.
    """
    return Script(environment, source, field)


def placed(problem: Problem, field: str) -> Problem:
    """The problem, said of a field."""
    return replace(problem, field=field)


def explain_syntax(error: Exception, field: str) -> Problem:
    """Why a source does not compile."""
    if isinstance(error, TemplateSyntaxError):
        message = str(error.message)
        if message.startswith("No filter named"):
            name = message.split("'")[1]
            known = did_you_mean(name, (each for each in FILTERS | FORMATS.keys() if each[0] != "_"))
            message = f"there is no filter `{name}` in letters{known}"
            return Problem(Code.FILTER_NOT_ALLOWED, field, message, error.lineno)
        if message.startswith("No test named"):
            name = message.split("'")[1]
            message = f"there is no test `{name}` in letters{did_you_mean(name, TESTS)}"
            return Problem(Code.FILTER_NOT_ALLOWED, field, message, error.lineno)
        if message.startswith("Missing end of comment"):
            message = (
                "`{#` begins a comment of the template language, and nothing ends it; write a space between "
                "`{` and `#` if it is CSS, or end the comment with `#}`"
            )
        if message.startswith("Unexpected end of template") and (opened := _unclosed(error.source or "")):
            line, word = opened
            message = f"`{{% {word} %}}` is never closed; add `{{% end{word} %}}`"
            return Problem(Code.TEMPLATE_SYNTAX, field, message, line)
        return Problem(Code.TEMPLATE_SYNTAX, field, message.rstrip("."), error.lineno)
    if isinstance(error, LimitExceeded):
        return Problem(Code.TEMPLATE_UNSAFE, field, str(error))
    if isinstance(error, ValueError):
        return Problem(Code.TEMPLATE_SYNTAX, field, "a number is too long")
    return Problem(Code.TEMPLATE_SYNTAX, field, "the template is nested too deeply")


def _unclosed(source: str) -> tuple[int, str] | None:
    """The innermost tag such as `{% if %}` whose end is missing."""
    opened: list[tuple[int, str]] = []
    before = ""
    for line, kind, value in tokens_of(source):
        if kind == "whitespace":
            continue
        if kind == "name" and before == "block_begin":
            if value.startswith("end"):
                del opened[-1:]
            elif value in CLOSED:
                opened.append((line, value))
        before = kind
    return opened[-1] if opened else None


def explain_failure(error: Exception, field: str, line: int | None) -> Problem:
    """Why a rendering failed, without a word of the data."""
    match error:
        case SecurityError():
            return Problem(Code.TEMPLATE_UNSAFE, field, str(error).rstrip("."), line)
        case UndefinedError():
            return Problem(Code.VARIABLE_MISSING, field, str(error).rstrip("."), line)
        case LimitExceeded() | RecursionError() | MemoryError():
            return Problem(
                Code.RENDER_LIMIT, field, str(error) or "the rendering needs too much memory", line
            )
        case Unsuitable():
            return Problem(Code.RENDER_FAILED, field, str(error), line)
        case _:
            message = f"{type(error).__name__} while rendering; a value does not suit what is done with it"
            return Problem(Code.RENDER_FAILED, field, message, line)
