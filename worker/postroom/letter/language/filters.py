"""Jinja's own filters that could build something huge, measured before they build it.

`'a'|replace('a', long)` and `list|join(long)` multiply lengths; the sandbox of Jinja does not bound that.
"""

import operator
from typing import Any, Literal

from jinja2 import Environment, pass_context, pass_environment, pass_eval_context
from jinja2.filters import do_round
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
    items = list(value)
    if attribute is not None:
        items = [eval_ctx.environment.getitem(item, attribute) for item in items]
    if eval_ctx.autoescape:
        items, separator = [Markup.escape(item) for item in items], Markup.escape(separator)
    texts = [item if isinstance(item, str) else str(item) for item in items]
    bounds.bounded_length(sum(map(len, texts)) + len(separator) * len(texts))
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


@pass_context
def charge_loop(context: Context, items: Any) -> Any:
    """Every `for` passes its items through the rendering's meter."""
    meter: Meter = context.parent["_meter"]
    return meter.loop(items)


MEASURED = {
    "join": join,
    "replace": replace,
    "round": round_number,
    "sum": add_up,
    "_concat": concatenate,
    "_loop": charge_loop,
}
"""By the names that templates use; `_concat` and `_loop` are put in by the environment."""
