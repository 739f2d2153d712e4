"""The functions of the template language, and the objects that they give.

Each is Jinja's own, but for bounds: `range` is short, and what `dict` copies is charged to the rendering's
meter.

The sandbox that every template runs in: Jinja2 with an allow-list instead of a deny-list.

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
from copy import copy
from dataclasses import replace
from functools import cached_property, lru_cache
from types import FunctionType, TracebackType
from typing import Any, cast

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError, TemplateSyntaxError, UndefinedError
from jinja2.lexer import Lexer, TokenStream
from jinja2.runtime import Context, Macro, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from postroom.letter.language import bounds, messages, other_languages, stylesheets
from postroom.letter.language.bounds import LimitExceeded, RenderBudget, Unsuitable, bounded_range, meter_of
from postroom.letter.language.compiler import Bound, Compiler, needs_bound
from postroom.letter.language.filters import MEASURED, fill_in
from postroom.letter.language.formats import FORMATS
from postroom.letter.language.grammar import FILTERS, METHODS, TESTS, nodes_of, refuse_forbidden
from postroom.letter.language.printing import write_html, write_text
from postroom.letter.problems import Code, Position, Problem, Rejected, did_you_mean


@pass_context
def make_dict(context: Context, *args: Any, **words: Any) -> dict[str, Any]:
    """`dict(a=1)`: a map."""
    found: dict[str, Any] = meter_of(context).build(dict(*args, **words))
    return found


FUNCTIONS = {
    "range": bounded_range,
    "dict": make_dict,
    "namespace": Namespace,
    "cycler": Cycler,
    "joiner": Joiner,
    messages.NAME: messages.translate,
}


SOURCE_NAME = "<template>"
"""The file name of every compiled template; never taken from a manifest (CVE-2024-56201)."""

ANY_TEXT = "(.*?)"
TEXT_UP_TO_CONSTRUCT = r"([^{]*(?:\{(?![{%#])[^{]*)*)"
"""What Jinja's lexer reads as text, and the same without a look at every character for what may end it."""


class Missing(StrictUndefined):
    """A variable that the event leaves out: false in a test, and an error in any other use."""

    __slots__ = ()
    __hash__ = StrictUndefined.__hash__  # type: ignore[assignment]

    def __repr__(self) -> str:
        """A list that holds one is not printed either."""
        return str(self)

    def __bool__(self) -> bool:  # type: ignore[override]
        return False

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not isinstance(other, Undefined)

    def __contains__(self, item: object) -> bool:  # type: ignore[override]
        return False

    @property
    def _undefined_message(self) -> str:
        name: Any = self._undefined_name
        if self._undefined_hint:
            return self._undefined_hint
        if isinstance(name, int):
            return f"there is no item {name}"
        way_out = "write `{% if %s %}` or `|default(…)` where it may be missing".replace("%s", str(name))
        return f"`{name}` is not there; {way_out}"


class Unknown(StrictUndefined):
    """An attribute that no value of its kind has: an error in any use, also in a test."""

    __slots__ = ()


class LetterEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2 as letters may use it. No loader: a template can reach no other template or file."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))
    code_generator_class = Compiler
    concat = staticmethod(bounds.bounded_concat)  # type: ignore[assignment]
    write_html = staticmethod(write_html)
    write_text = staticmethod(write_text)

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(autoescape=autoescape, undefined=Missing, cache_size=0, auto_reload=False)
        self.globals = dict(FUNCTIONS)
        kept = {name: function for name, function in self.filters.items() if name in FILTERS}
        self.filters = kept | FORMATS | MEASURED
        self.tests = {name: test for name, test in self.tests.items() if name in TESTS}
        self._trees: dict[str, nodes.Template] = {}
        """Of the source that was read last, until it is compiled."""

    @cached_property
    def lexer(self) -> Lexer:
        """Jinja's lexer, which finds the end of text as fast as `re` can: pages have much of it."""
        lexer = Lexer(self)
        first, *others = lexer.rules["root"]
        assert first.pattern.pattern.startswith(ANY_TEXT), "as in Jinja 3.1"
        pattern = re.compile(
            TEXT_UP_TO_CONSTRUCT + first.pattern.pattern.removeprefix(ANY_TEXT), first.pattern.flags
        )
        lexer.rules["root"] = [first._replace(pattern=pattern), *others]
        return lexer

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
        if any(needs_bound(node) for node in found):
            scripts = any(isinstance(node, nodes.Filter) and node.name == "tojson" for node in found)
            source = Bound(scripts=scripts).visit(source)
        return super()._generate(source, name, filename, defer_init=defer_init)

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        assert state is None, "only a piece of a template begins in another state"
        return TokenStream(self.lexer.wrap(tokens_of(source), name, filename), name, filename)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic within bounds, and `%` of a text as `format`."""
        if operator == "%" and isinstance(left, str):
            return fill_in(left, right if isinstance(right, Mapping | tuple) else (right,))
        for operand in (left, right):
            if isinstance(operand, Undefined):
                str(operand)  # raises, with its name
        found = bounds.calculate(self.binop_table[operator], operator, left, right)
        return meter_of(context).build(found) if isinstance(found, list | tuple) else found

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A key of a JSON object, else one of the few methods a template may call.

        What an object leaves out is missing, and so is all of what is missing or null.
        """
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, Missing):
            return obj
        for kind, allowed in METHODS:
            if isinstance(obj, kind) and attribute in allowed:
                return getattr(obj, attribute)
        if attribute.startswith("_"):
            return self.unsafe_undefined(obj, attribute)
        if obj is None:
            hint = f"`{attribute}` is asked of what is null; write `{{% if … %}}` around it"
            return self.undefined(hint=hint, obj=obj, name=attribute)
        if isinstance(obj, Namespace):
            return getattr(obj, attribute, self.undefined(obj=obj, name=attribute))
        if isinstance(obj, dict):
            return self.undefined(obj=obj, name=attribute)
        return self.unsafe_undefined(obj, attribute)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """What stands for an attribute that is not to be had, with the way out when there is one."""
        message = other_languages.attribute_message(attribute)
        if attribute.startswith("_") or hasattr(obj, attribute):
            message = message or f"unsafe attribute `{attribute}`"
            return Unknown(message, obj=obj, name=attribute, exc=SecurityError)
        return Unknown(
            message or f"`{attribute}` is not there: only maps have attributes", obj=obj, name=attribute
        )

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`order["id"]`, `items[0]`; of what is no map, a name is looked up as an attribute."""
        if isinstance(obj, Missing):
            return obj
        try:
            return obj[argument]
        except (TypeError, LookupError):
            if isinstance(argument, str) and not isinstance(obj, dict):
                return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, a method or a macro; the last is charged to the meter."""
        if isinstance(obj, Macro):
            return meter_of(context).call(lambda: cast(str, context.call(obj, *args, **kwargs)))
        if not self.is_safe_callable(obj):
            raise SecurityError("only macros, functions and methods of the language can be called")
        return super().call(context, obj, *args, **kwargs)

    def is_safe_callable(self, obj: Any) -> bool:
        """Our functions, what they give, and the methods that `getattr` hands out."""
        if isinstance(obj, Undefined | Joiner) or any(obj is each for each in FUNCTIONS.values()):
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

    Cached: validation tokenizes, reads and compiles the same source, and lexing was a third of its time.
    """
    text = stylesheets.hide(_NEWLINE.sub("\n", source))  # line ends as the lexer has them
    marked = stylesheets.MARK in text
    found: list[Token] = []
    offset, current, begin = 0, 0, -1  # begin: the line break before the current line
    try:
        for line, kind, value in HTML.lex(text, SOURCE_NAME):
            if not text.startswith(value, offset):
                offset = _start(text, offset)
            if line != current:
                current, begin = line, text.rfind("\n", 0, offset)
            length = max(1, len(value.partition("\n")[0])) if kind == "data" else len(value)
            marks = text.count(stylesheets.MARK, begin + 1, offset) if marked else 0
            # no problem is about white space in a construct
            position = line if kind == "whitespace" else Position(line, offset - begin - marks, length)
            if kind == "name" and found and found[-1][2] == "." and found[-1][1] == "operator":
                found[-1] = (position, *found[-1][1:])  # of `order.totl` a problem is about the attribute
            found.append((position, kind, stylesheets.show(value) if marked else value))
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

    __slots__ = ("_code", "_constant", "_environment", "_root", "_template", "field", "source")

    def __init__(self, environment: LetterEnvironment, source: str, field: str) -> None:
        """Compile `source`; raises Rejected (template_syntax, template_unsafe, filter_not_allowed)."""
        self.field = field
        self.source = source
        self._environment = environment
        self._constant = None if "{" in source else source
        if self._constant is not None:
            return
        try:
            self._code = environment.compile(source, SOURCE_NAME, SOURCE_NAME)
        except Rejected as rejected:
            raise Rejected(*(placed(problem, field) for problem in rejected.problems)) from None
        except CANNOT_COMPILE as error:
            raise Rejected(*explain_syntax(error, field, source)) from None
        self._load()

    def with_text_of(self, source: str) -> "Script":
        """The script of another source, with the code of this one where only text differs.

        So validation does not compile the inlined page, too. Its problems have the lines of this source.
        Raises as compiling does.
        """
        texts = None if self._constant is not None else _other_texts(self.source, source, self._texts)
        if texts is None:
            return compile_source(self._environment, source, self.field)
        other = copy(self)
        other.source = source
        other._load()  # noqa: SLF001  of its own class
        other._texts[:] = texts  # noqa: SLF001
        return other

    def _load(self) -> None:
        self._template = Template.from_code(self._environment, self._code, self._environment.globals)
        self._root: Root = self._template.root_render_func

    @property
    def _texts(self) -> list[str]:
        """The table of text that the code reads (`compiler`)."""
        return cast(list[str], cast(FunctionType, self._root).__globals__["texts"])

    def render(self, variables: Mapping[str, Any], meter: RenderBudget) -> str:
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


def _other_texts(source: str, other: str, texts: list[str]) -> list[str] | None:
    """The text between the constructs of another source; None where these are not the same.

    `texts` are those of the first. None also where text decides what a construct does, as that of a
    `<script>` does with `tojson`.
    """
    if "tojson" in source:
        return None
    tokens, others = tokens_of(source), tokens_of(other)
    same = [value for _, kind, value in tokens if kind == "data"] == texts and len(tokens) == len(others)
    if not same or any(
        one[1] != two[1] or (one[1] != "data" and one[2] != two[2])
        for one, two in zip(tokens, others, strict=True)
    ):
        return None
    return [value for _, kind, value in others if kind == "data"]


@lru_cache(maxsize=128)
def compile_source(environment: LetterEnvironment, source: str, field: str) -> Script:
    """A compiled template, kept for a while: validation compiles the same sources again and again.

    A sender keeps its own reference. Raises what `Script` raises.
    """
    return Script(environment, source, field)


def placed(problem: Problem, field: str) -> Problem:
    """The problem with another field."""
    return replace(problem, field=field)


def explain_syntax(error: Exception, field: str, source: str = "") -> tuple[Problem, ...]:
    """Why a source does not compile: each construct of another language in it, or what Jinja found first."""
    if isinstance(error, TemplateSyntaxError):
        message = str(error.message).rstrip(".")
        if message.startswith("No filter named"):
            name = message.split("'")[1]
            known = other_languages.filter_message(name) or did_you_mean(
                name, (each for each in FILTERS | FORMATS.keys() | MEASURED.keys() if each[0] != "_")
            )
            message = f"there is no filter `{name}` in letters{known}"
            return (Problem(Code.FILTER_NOT_ALLOWED, field, message, error.lineno),)
        if message.startswith("No test named"):
            name = message.split("'")[1]
            message = f"there is no test `{name}` in letters{did_you_mean(name, TESTS)}"
            return (Problem(Code.FILTER_NOT_ALLOWED, field, message, error.lineno),)
        if foreign := tuple(other_languages.constructs(source, field, error.lineno)):
            return foreign
        if message.startswith("Missing end of comment"):
            message = (
                "`{#` begins a comment of the template language, and nothing ends it; write a space between "
                "`{` and `#` if it is CSS, or end the comment with `#}`"
            )
        if message.startswith("Unexpected end of template") and (opened := _unclosed(source)):
            line, word = opened
            message = f"`{{% {word} %}}` is never closed; add `{{% end{word} %}}`"
            return (Problem(Code.TEMPLATE_SYNTAX, field, message, line),)
        if message.startswith("unexpected char "):
            message = f"unexpected character {message.removeprefix('unexpected char ').rpartition(' at ')[0]}"
        return (Problem(Code.TEMPLATE_SYNTAX, field, message, error.lineno),)
    if isinstance(error, LimitExceeded):
        return (Problem(Code.TEMPLATE_UNSAFE, field, str(error)),)
    if isinstance(error, ValueError):
        return (Problem(Code.TEMPLATE_SYNTAX, field, "a number is too long"),)
    return (Problem(Code.TEMPLATE_SYNTAX, field, "the template is nested too deeply"),)


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
        case ZeroDivisionError():
            return Problem(Code.RENDER_FAILED, field, "a number is divided by zero", line)
        case TypeError() if str(error).startswith("macro "):
            return Problem(Code.RENDER_FAILED, field, str(error), line)  # names of the template, no values
        case TypeError() if "NoneType" in str(error):
            message = "a null stands where a value is needed; write `|default(…)` or `{% if … %}` around it"
            return Problem(Code.RENDER_FAILED, field, message, line)
        case TemplateRuntimeError() if "non-namespace" in str(error):
            message = "only an attribute of a `namespace(…)` can be set"
            return Problem(Code.RENDER_FAILED, field, message, line)
        case _:
            message = f"{type(error).__name__} while rendering; a value does not suit what is done with it"
            return Problem(Code.RENDER_FAILED, field, message, line)
