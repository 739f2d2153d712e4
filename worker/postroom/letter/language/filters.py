"""Jinja's own filters that could build something huge, measured before they build it.

`'a'|replace('a', long)` and `list|join(long)` multiply lengths; the sandbox of Jinja does not bound that.
"""

import operator
from collections.abc import Iterator
from typing import Any, Literal

from jinja2 import Environment, pass_context, pass_environment, pass_eval_context
from jinja2.filters import do_map, do_round
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, markup_join, str_join
from markupsafe import Markup

from postroom.letter.language import bounds
from postroom.letter.language.bounds import Meter

MAX_PRECISION = 15
Rounding = Literal["common", "ceil", "floor"]


@pass_eval_context
def join(eval_ctx: EvalContext, value: Any, separator: str = "", attribute: str | int | None = None) -> Any:
    """Jinja's join, with its result measured before it is built."""
    separator = Markup.escape(separator) if eval_ctx.autoescape else separator
    texts: list[str] = []
    size = 0
    for each in value:
        item = each if attribute is None else eval_ctx.environment.getitem(each, attribute)
        text = Markup.escape(item) if eval_ctx.autoescape else str(item)
        size += len(text) + len(separator)
        bounds.bounded_length(size)
        texts.append(text)
    return separator.join(texts)


@pass_eval_context
def replace(eval_ctx: EvalContext, value: Any, old: str, new: str, count: int | None = None) -> Any:
    """Jinja's replace, with its result measured before it is built."""
    text = Markup.escape(value) if eval_ctx.autoescape else str(value)
    found = text.count(old)
    bounds.bounded_length(len(text) + (found if count is None else min(found, max(count, 0))) * len(new))
    return text.replace(old, new, -1 if count is None else count)


@pass_eval_context
def concatenate(eval_ctx: EvalContext, parts: list[Any]) -> Any:
    """The `~` operator, measured."""
    bounds.bounded_length(sum(len(part) if isinstance(part, str) else 24 for part in parts))
    return (markup_join if eval_ctx.autoescape else str_join)(parts)


def round_number(
    value: Any, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common"
) -> float:
    """Jinja's round, whose `10**precision` is bounded."""
    if not (isinstance(precision, int) and 0 <= precision <= MAX_PRECISION):
        raise bounds.Unsuitable(f"`round` takes a precision from 0 to {MAX_PRECISION}")
    return float(do_round(bounds.bounded_number(float(value)), precision, method))


@pass_environment
def add_up(environment: Environment, items: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    """Jinja's sum, of numbers alone: adding lists to lists takes quadratic time."""
    total = start
    for item in items:
        value = item if attribute is None else environment.getitem(item, attribute)
        total = bounds.calculate(operator.add, "sum", total, value)
    return total


def meter_of(context: Context) -> Meter:
    """The meter of a rendering."""
    meter: Meter = context.parent["_meter"]
    return meter


@pass_context
def map_each(context: Context, items: Any, *args: Any, **words: Any) -> Iterator[Any]:
    """Jinja's map, with what it makes measured as it is made."""
    build = meter_of(context).build
    return (build(item) for item in do_map(context, items, *args, **words))


@pass_context
def charge_loop(context: Context, items: Any) -> Any:
    """Every `for` passes its items through the rendering's meter."""
    return meter_of(context).loop(items)


@pass_context
def charge_built(context: Context, value: Any) -> Any:
    """Every list, tuple and dict that is written out passes through the rendering's meter."""
    return meter_of(context).build(value)


MEASURED = {
    "join": join,
    "map": map_each,
    "replace": replace,
    "round": round_number,
    "sum": add_up,
    "_concat": concatenate,
    "_loop": charge_loop,
    "_built": charge_built,
}
"""By the names that templates use; those that begin with `_` are put in by the environment."""
