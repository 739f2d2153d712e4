"""Filters on texts, lists and numbers: Jinja's own where they are bounded, others where they are not.

Every filter on text takes its value through `text_of`: null is the empty text, and what has no text is
refused. What could build something huge is measured before it is built; what rounds rounds half away
from zero. Formats of the reader's language (dates, money) are in `formats`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import wraps
from html import unescape
from operator import add
from typing import Any

from jinja2 import Environment, pass_context, pass_environment, pass_eval_context
from jinja2 import filters as jinja
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Undefined
from markupsafe import Markup, escape

from postroom.letter.language import bounds
from postroom.letter.language.bounds import LimitExceeded, Unsuitable, meter_of
from postroom.letter.language.printing import text_of

MAX_PRECISION = 15
MAX_GROUPS = 1_000
"""Lists that `batch` and `slice` may make, and items that one of them may be filled up to."""
MAX_WIDTH = 100
"""Characters that a directive of `format` may fill up to."""
MAX_INDENT = 32
MAX_NESTING = 32
"""Levels of what `tojson` writes."""
ROUNDINGS = {"common": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
BREAK = re.compile(r"\r\n|\r|\n")
TAG = re.compile(r"<!--.*?(?:-->|\Z)|<(/?[a-zA-Z][a-zA-Z0-9]*+)?+[^<>]*+>", re.DOTALL)
BLOCKS = frozenset("br p div li tr td th h1 h2 h3 h4 h5 h6 ul ol table blockquote hr".split())  # noqa: SIM905  a table
DIRECTIVE = re.compile(
    r"%(?:\((?P<key>\w*)\))?(?P<rest>[#0\- +]*(?P<width>\d*)(?:\.(?P<digits>\d*))?(?P<type>.)?)"
)
DIRECTIVE_TYPES = frozenset("sdiufFeEgGxXo%")
UNSAFE_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&'\u2028\u2029"}

Filter = Callable[..., Any]


def on_text(name: str, function: Filter) -> Filter:
    """A filter of Jinja's whose value is made a text first."""

    @wraps(function)
    def of_text(value: Any, *args: Any, **words: Any) -> Any:
        return function(as_text(value, name), *args, **words)

    return of_text


def as_text(value: Any, name: str) -> str:
    """The text that a filter works on. Raises Unsuitable with the filter's name."""
    try:
        return value if isinstance(value, str) else text_of(value, "")
    except Unsuitable as error:
        raise Unsuitable(f"`{name}` needs a text: {error}") from None


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise Unsuitable(f"`{name}` takes a whole number from {least} to {most:,}")


def _items(value: Any, name: str) -> list[Any]:
    """The items of a list. Raises Unsuitable for what has none, UndefinedError for what is not there."""
    if isinstance(value, Undefined):
        str(value)  # raises, with its name
    if value is None or not hasattr(value, "__iter__"):
        raise Unsuitable(f"`{name}` needs a list")
    return list(value)


# --- texts ----------------------------------------------------------------------------------------


@pass_eval_context
def escape_text(eval_ctx: EvalContext, value: Any) -> str:
    """HTML's special characters as references, once; in texts without escaping the text itself."""
    text = as_text(value, "escape")
    return escape(text) if eval_ctx.autoescape else text


@pass_eval_context
def join(eval_ctx: EvalContext, value: Any, separator: Any = "", attribute: str | int | None = None) -> Any:
    """Jinja's join, with its result measured before it is built."""
    form: Callable[[Any], str] = escape if eval_ctx.autoescape else str
    between = form(as_text(separator, "join"))
    texts: list[str] = []
    size = 0
    for each in _items(value, "join"):
        item = each if attribute is None else eval_ctx.environment.getitem(each, attribute)
        text = form(as_text(item, "join"))
        size += len(text) + len(between)
        bounds.bounded_length(size)
        texts.append(text)
    return between.join(texts)


@pass_eval_context
def replace(eval_ctx: EvalContext, value: Any, old: Any, new: Any, count: int | None = None) -> Any:
    """Jinja's replace, with its result measured before it is built."""
    text, old, new = as_text(value, "replace"), as_text(old, "replace"), as_text(new, "replace")
    text = escape(text) if eval_ctx.autoescape else text
    found = text.count(old)
    bounds.bounded_length(len(text) + (found if count is None else min(found, max(count, 0))) * len(new))
    return text.replace(old, new, -1 if count is None else count)


@pass_eval_context
def concatenate(eval_ctx: EvalContext, parts: list[Any], expressions: tuple[str, ...]) -> Any:
    """The `~` operator, measured."""
    texts = [text_of(part, name) for part, name in zip(parts, expressions, strict=True)]
    bounds.bounded_length(sum(map(len, texts)))
    if eval_ctx.autoescape and any(isinstance(text, Markup) for text in texts):
        return Markup("").join(texts)
    return "".join(texts)


@pass_eval_context
def break_lines(eval_ctx: EvalContext, value: Any) -> str:
    """Each line end as `<br>`, all else escaped; in texts without escaping, as a line end."""
    lines = BREAK.split(as_text(value, "nl2br"))
    if not eval_ctx.autoescape:
        return "\n".join(lines)
    line_break = Markup("<br>")
    escaped = [escape(line) for line in lines]
    bounds.bounded_length(sum(map(len, escaped)) + len(escaped) * len(line_break))
    return line_break.join(escaped)


def strip_tags(value: Any) -> str:
    """The text of a piece of HTML: without tags and comments, on one line, its references read."""
    text = TAG.sub(
        lambda found: " " if (found[1] or "").lstrip("/").lower() in BLOCKS else "",
        as_text(value, "striptags"),
    )
    return unescape(" ".join(text.split()))


def truncate(
    value: Any,
    length: int = 255,
    killwords: bool = False,
    end: str = "...",
    leeway: int = 5,
) -> str:
    """At most `length` characters, `end` among them; a text that is at most `leeway` longer stays whole."""
    text, end = as_text(value, "truncate"), as_text(end, "truncate")
    length = _whole(length, "truncate", len(end), bounds.MAX_STRING)
    if len(text) <= length + _whole(leeway, "truncate", 0, bounds.MAX_STRING):
        return text
    kept = text[: length - len(end)]
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + end


def wrap_words(value: Any, width: int = 79, break_long_words: bool = True, wrapstring: Any = "\n") -> str:
    """Lines of at most `width` characters, broken between words; lines that are there stay."""
    width = _whole(width, "wordwrap", 1, bounds.MAX_STRING)
    text, between = as_text(value, "wordwrap"), as_text(wrapstring, "wordwrap")
    lines = [
        line
        for written in str(text).splitlines()
        for line in _wrapped(written.split(), width, cut=break_long_words)
    ]
    bounds.bounded_length(sum(map(len, lines)) + len(lines) * len(between))
    return str(between.join(lines))


def _wrapped(words: Iterable[str], width: int, *, cut: bool) -> Iterator[str]:
    line: list[str] = []
    length = 0
    for word in words:
        parts = [word[at : at + width] for at in range(0, len(word), width)] if cut else [word]
        for part in parts:
            if line and length + 1 + len(part) > width:
                yield " ".join(line)
                line, length = [], 0
            length += len(part) + (1 if line else 0)
            line.append(part)
    yield " ".join(line)


def indent_lines(value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    """Spaces, or a text, before each line but the first."""
    text = as_text(value, "indent")
    before = width if isinstance(width, str) else " " * _whole(width, "indent", 0, MAX_INDENT)
    if len(before) > MAX_INDENT:
        raise Unsuitable(f"`indent` takes at most {MAX_INDENT} characters")
    lines = text.splitlines()
    bounds.bounded_length(len(text) + len(lines) * len(before))
    return "\n".join(
        before + line if (line or blank) and (number or first) else line for number, line in enumerate(lines)
    )


def format_text(value: Any, *args: Any, **words: Any) -> str:
    """`"%s of %d"|format(a, b)`: Python's `%`, with bounded widths."""
    pattern = as_text(value, "format")
    if args and words:
        raise Unsuitable("`format` takes values with names or without, not both")
    return fill_in(pattern, words or args)


def fill_in(pattern: str, values: Mapping[str, Any] | tuple[Any, ...]) -> str:
    """A pattern with its `%` directives replaced. Raises Unsuitable and LimitExceeded."""
    texts: list[str] = []
    size = end = used = 0
    for found in DIRECTIVE.finditer(pattern):
        piece = pattern[end : found.start()]
        end = found.end()
        if found["type"] == "%":
            written = "%"
        else:
            written = _directive(found, values, used)
            used += not found["key"]
        size += len(piece) + len(written)
        bounds.bounded_length(size)
        texts += [piece, written]
    if isinstance(values, tuple) and used < len(values):
        raise Unsuitable("`format` is given more values than its text has directives")
    return "".join(texts) + pattern[end:]


def _directive(found: re.Match[str], values: Mapping[str, Any] | tuple[Any, ...], used: int) -> str:
    kind = found["type"] or ""
    if kind not in DIRECTIVE_TYPES:
        known = "%s, %d, %f, %g, %e, %x, %o and %%"
        raise Unsuitable(f"`format` has no directive `{found[0][:20]}`; there are {known}")
    if max(int(found["width"] or 0), int(found["digits"] or 0)) > MAX_WIDTH:
        raise LimitExceeded(f"a directive of `format` fills up to more than {MAX_WIDTH} characters")
    if isinstance(values, tuple):
        if used >= len(values) or found["key"]:
            raise Unsuitable("`format` is given fewer values than its text has directives")
        value = values[used]
    elif found["key"] in values:
        value = values[found["key"]]
    else:
        raise Unsuitable(f"`format` is given no value for `{found[0][:40]}`")
    if kind == "s":
        value = str(as_text(value, "format"))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        as_text(value, "format")  # raises for what is not there
        raise Unsuitable(f"`{found[0][:20]}` of `format` needs a number")
    try:
        number = value if kind == "s" else bounds.bounded_number(value)
        return str(f"%{found['rest']}" % number)
    except (TypeError, ValueError, OverflowError):
        raise Unsuitable(f"`{found[0][:20]}` of `format` does not suit the value") from None


def encode_url(value: Any) -> str:
    """Percent-encoding for an address: of a text, or of a map as a query."""
    if isinstance(value, Mapping):
        pairs = [(as_text(key, "urlencode"), as_text(item, "urlencode")) for key, item in value.items()]
        return jinja.do_urlencode(pairs)
    return jinja.do_urlencode(str(as_text(value, "urlencode")))


@pass_context
def to_json(context: Context, value: Any, indent: int | None = None) -> str:
    """JSON, with `<`, `>`, `&` and `'` escaped as JSON has it."""
    return _json(context, value, indent)


@pass_context
def to_json_in_script(context: Context, value: Any, indent: int | None = None) -> Markup:
    """The same in the content of a `<script>`, where HTML's escaping would not be read."""
    return Markup(_json(context, value, indent))  # noqa: S704  no < and no & is left in it


def _json(context: Context, value: Any, indent: int | None) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises, with its name
    if indent is not None:
        _whole(indent, "tojson", 0, 8)
    if _depth(value) > MAX_NESTING:
        raise LimitExceeded(f"`tojson` takes values of at most {MAX_NESTING} levels")
    meter_of(context).build(value)
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except (TypeError, ValueError):
        raise Unsuitable("`tojson` needs a text, a number, a boolean, null, a list or a map") from None
    text = text.translate(UNSAFE_IN_SCRIPT)
    bounds.bounded_length(len(text))
    return text


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_NESTING:
        level = [
            inner
            for one in level
            if isinstance(one, Mapping | list | tuple)
            for inner in (one.values() if isinstance(one, Mapping) else one)
        ]
        depth += 1
    return depth


# --- lists and numbers ----------------------------------------------------------------------------


@pass_context
def batch(context: Context, value: Any, size: int, fill: Any = None) -> list[list[Any]]:
    """Lists of `size` items each, for rows of a table; the last one filled up with `fill`."""
    size = _whole(size, "batch", 1, MAX_GROUPS)
    items = _items(value, "batch")
    rows = [items[at : at + size] for at in range(0, len(items), size)]
    if rows and fill is not None:
        rows[-1] += [fill] * (size - len(rows[-1]))
    meter_of(context).build(rows)
    return rows


@pass_context
def cut(context: Context, value: Any, number: int, fill: Any = None) -> list[list[Any]]:
    """`number` lists of nearly one length, for columns; the shorter ones filled up with `fill`."""
    number = _whole(number, "slice", 1, MAX_GROUPS)
    items = _items(value, "slice")
    least, more = divmod(len(items), number)
    columns, start = [], 0
    for index in range(number):
        end = start + least + (index < more)
        filling = [fill] if fill is not None and more and index >= more else []
        columns.append(items[start:end] + filling)
        start = end
    meter_of(context).build(columns)
    return columns


def default(value: Any, instead: Any = "", boolean: bool = False) -> Any:
    """Another value for what is not there or null; with `true` also for what is empty, zero or false."""
    if value is None or isinstance(value, Undefined) or (boolean and not value):
        return instead
    return value


def round_number(value: Any, precision: int = 0, method: str = "common") -> int | float:
    """Half away from zero; `"ceil"` up, `"floor"` down. Without a precision a whole number."""
    if method not in ROUNDINGS:
        raise Unsuitable('`round` takes "common", "ceil" or "floor"')
    digits = _whole(precision, "round", 0, MAX_PRECISION)
    number = _decimal(value, "round").quantize(Decimal(1).scaleb(-digits), ROUNDINGS[method])
    return float(number) if digits else int(number)


def _decimal(value: Any, name: str) -> Decimal:
    """A number as JSON writes it, so that 2.675 is not rounded as 2.67499999."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        as_text(value, name)  # raises for what is not there
        raise Unsuitable(f"`{name}` needs a number")
    try:
        return Decimal(repr(bounds.bounded_number(float(value) if isinstance(value, str) else value)))
    except (ValueError, OverflowError):
        raise Unsuitable(f"`{name}` needs a number") from None


@pass_environment
def add_up(environment: Environment, items: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    """Jinja's sum, of numbers alone: adding lists to lists takes quadratic time."""
    total = start
    for item in _items(items, "sum"):
        value = item if attribute is None else environment.getitem(item, attribute)
        if isinstance(value, Undefined):
            str(value)  # raises, with its name
        total = bounds.calculate(add, "sum", total, value)
    return total


@pass_context
def map_each(context: Context, items: Any, *args: Any, **words: Any) -> Iterator[Any]:
    """Jinja's map, with what it makes measured as it is made."""
    build = meter_of(context).build
    return (build(item) for item in jinja.do_map(context, _items(items, "map"), *args, **words))


# --- put in by the environment --------------------------------------------------------------------


@pass_context
def charge_loop(context: Context, items: Any, expression: str) -> Any:
    """Every `for` passes its items through the rendering's meter."""
    if items is None or isinstance(items, bool | int | float):
        kind = "null" if items is None else "not a list"
        shown = f"`{expression}` is {kind}" if expression else f"what the loop goes over is {kind}"
        raise Unsuitable(f"{shown}; write `for … in {expression or 'x'} or []` where it may be missing")
    return meter_of(context).loop(items)


@pass_context
def charge_built(context: Context, value: Any) -> Any:
    """Every list, tuple and dict that is written out passes through the rendering's meter."""
    return meter_of(context).build(value)


@pass_context
def charge_captured(context: Context, text: str) -> str:
    """Every block that is kept in a variable passes through the rendering's meter."""
    return meter_of(context).capture(text)


@pass_environment
def method_of(environment: Environment, value: Any, name: str) -> Any:
    """A map's method, whatever its keys are called; of anything else, what its attribute is."""
    return getattr(value, name) if isinstance(value, dict) else environment.getattr(value, name)


MEASURED: dict[str, Filter] = {
    "batch": batch,
    "capitalize": on_text("capitalize", jinja.do_capitalize),
    "d": default,
    "default": default,
    "e": escape_text,
    "escape": escape_text,
    "format": format_text,
    "indent": indent_lines,
    "join": join,
    "lower": on_text("lower", jinja.do_lower),
    "map": map_each,
    "nl2br": break_lines,
    "replace": replace,
    "round": round_number,
    "slice": cut,
    "string": on_text("string", str),
    "striptags": strip_tags,
    "sum": add_up,
    "title": on_text("title", jinja.do_title),
    "tojson": to_json,
    "truncate": truncate,
    "trim": on_text("trim", jinja.do_trim),
    "upper": on_text("upper", jinja.do_upper),
    "urlencode": encode_url,
    "wordcount": on_text("wordcount", jinja.do_wordcount),
    "wordwrap": wrap_words,
    "_built": charge_built,
    "_captured": charge_captured,
    "_concat": concatenate,
    "_loop": charge_loop,
    "_method": method_of,
    "_tojson_in_script": to_json_in_script,
}
"""By the names that templates use; those that begin with `_` are put in by the environment."""
