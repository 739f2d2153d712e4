"""What one rendering may use: loop turns, macro calls, characters, time. Templates are others' work.

A `Meter` is made for each rendering and charged by the environment. Going over raises `LimitExceeded`,
which becomes the problem `render_limit`. Time is checked only when clocks were handed in.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from jinja2.runtime import Context

MAX_ITERATIONS = 10_000
"""Turns of all loops of one rendering together, nested ones included."""
MAX_OUTPUT = 1_048_576
"""Maximum length of one part of a letter, in characters."""
MAX_STRING = 262_144
"""Characters of one value built by an operator or a filter; also the items of a built list."""
MAX_BUILT = 4 * MAX_OUTPUT
"""Characters and items of all lists and the like that one rendering builds, together."""
MAX_INTEGER = 2**63
"""Magnitude of a number that arithmetic may yield."""
MAX_RANGE = 1_000
"""Length of `range(…)`."""
MAX_CALLS = 20_000
"""Calls of macros in one rendering."""
MAX_CALL_DEPTH = 32
"""Macros that may be open in one another, also a macro in itself."""
MAX_SECONDS = 1.0
"""The processor's time of one rendering. By the wall, a machine that stood still would bury a good letter."""
CHUNKS = 64
"""Pieces of output gathered between two looks at the meter."""


class Timers(NamedTuple):
    """The clocks that limit a rendering, in seconds."""

    wall: Callable[[], float]
    """`time.monotonic`."""
    cpu: Callable[[], float]
    """CPU time of the caller: `time.thread_time` or `time.process_time`."""


class LimitExceeded(Exception):
    """A rendering used more than it may; the message names the limit and never a value."""


class Unsuitable(ValueError):
    """A value does not suit what a template does with it; safe to show, since it holds no data."""


class RenderBudget:
    """Counts what one rendering has used so far."""

    __slots__ = ("_built", "_calls", "_clock", "_clocks", "_closely", "_deadline", "_depth", "_turns")

    def __init__(self, clocks: Timers | None = None) -> None:
        self._turns = self._built = self._calls = self._depth = 0
        self._clocks = clocks
        self._closely = False
        self._clock = clocks.wall if clocks else _never
        self._deadline = self._clock() + MAX_SECONDS / 2

    def loop(self, items: Iterable[Any]) -> Iterable[Any]:
        """Charge a loop before it runs. Jinja has no `break`, so that its length is its turns."""
        if not isinstance(items, Collection):
            items = list(islice(items, MAX_ITERATIONS - self._turns + 1))
        self._turns += len(items)
        if self._turns > MAX_ITERATIONS:
            raise LimitExceeded(f"the loops of one rendering take more than {MAX_ITERATIONS:,} turns in all")
        return TimedItems(items, self) if self._clocks else items

    def build(self, value: Any) -> Any:
        """Charge a value that holds others, with all that is in it, and pass it on.

        `[a, a, a]` is small, and holds three times what `a` does: a few such lists, one in another, are more
        than could ever be written.
        """
        size = size_of(value)
        bounded_length(size)
        self._built += size
        if self._built > MAX_BUILT:
            raise LimitExceeded(f"the lists of one rendering hold more than {MAX_BUILT:,} characters in all")
        return value

    def call(self, macro: Callable[[], str]) -> str:
        """Call a macro, and charge the call and the text that it gives."""
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise LimitExceeded(f"the macros of one rendering are called more than {MAX_CALLS:,} times")
        if self._depth == MAX_CALL_DEPTH:
            raise LimitExceeded(f"macros call each other more than {MAX_CALL_DEPTH} levels deep")
        self.check_time()
        self._depth += 1
        try:
            return self.capture(macro())
        finally:
            self._depth -= 1

    def capture(self, text: str) -> str:
        """Charge the text of a macro or of a block that is kept in a variable, and pass it on."""
        self._built += len(text)
        if self._built > MAX_BUILT:
            raise LimitExceeded(f"the blocks of one rendering hold more than {MAX_BUILT:,} characters in all")
        return text

    def check_time(self) -> None:
        """Refuse to go on past the deadline."""
        if self._clock() > self._deadline:
            self._look_closely()

    def _look_closely(self) -> None:
        """Half of the time has passed by the wall: from now on the processor's counts.

        To ask for that is ten times as dear, and few renderings take so long.
        """
        if self._closely or self._clocks is None:
            raise LimitExceeded("the rendering takes too long")
        self._closely = True
        self._clock = self._clocks.cpu
        self._deadline = self._clock() + MAX_SECONDS / 2

    def gather(self, chunks: Iterator[str]) -> str:
        """Join a rendering's pieces, looking at the sum as they come."""
        parts: list[str] = []
        size = 0
        while batch := list(islice(chunks, CHUNKS)):
            size += sum(map(len, batch))
            if size > MAX_OUTPUT:
                raise LimitExceeded(f"the output is longer than {MAX_OUTPUT:,} characters")
            self.check_time()
            parts += batch
        return "".join(parts)


def meter_of(context: Context) -> RenderBudget:
    """The meter of a rendering."""
    meter: RenderBudget = context.parent["_meter"]
    return meter


def bounded_concat(parts: Collection[str]) -> str:
    """Join what a macro or a block wrote, measured before it is built."""
    if sum(map(len, parts)) > MAX_OUTPUT:
        raise LimitExceeded(f"a block is longer than {MAX_OUTPUT:,} characters")
    return "".join(parts)


def _never() -> float:
    return 0.0


class TimedItems:
    """A loop's items, with a look at the time before each."""

    __slots__ = ("_items", "_meter")

    def __init__(self, items: Collection[Any], meter: RenderBudget) -> None:
        self._items = items
        self._meter = meter

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        check = self._meter.check_time
        for item in self._items:
            check()
            yield item


def size_of(value: Any) -> int:
    """Characters and items of a value and of all that it holds; counting ends beyond MAX_STRING."""
    size, waiting = 0, [value]
    while waiting and size <= MAX_STRING:
        one = waiting.pop()
        match one:
            case str():
                size += 1 + len(one)
            case Mapping():
                size += 1
                waiting += [*one, *one.values()]
            case list() | tuple():
                size += 1
                waiting += one
            case _:
                size += 1
    return size


def bounded_length(length: int) -> None:
    """Refuse a value that would be too long, before it is built."""
    if length > MAX_STRING:
        raise LimitExceeded(f"a value is longer than {MAX_STRING:,} characters or items")


def bounded_number(value: Any) -> Any:
    """Pass a number of sane size on."""
    if isinstance(value, int | float) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise LimitExceeded("a number is out of range")
    return value


def bounded_range(*args: int) -> range:
    """`range(…)` of at most MAX_RANGE items."""
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise LimitExceeded(f"range(…) is longer than {MAX_RANGE:,} items")
    return numbers


def calculate(operator: Callable[[Any, Any], Any], symbol: str, left: Any, right: Any) -> Any:
    """Apply `+ * ** %` where the result is sure to be small (`'a' * 10**9` costs 1 GB before it fails)."""
    if symbol == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        bounded_length(len(left) + len(right))
        return left + right  # type: ignore[operator]
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        joining = "; `~` joins texts" if symbol == "+" else ""
        raise Unsuitable(f"`{symbol}` needs numbers{joining}")
    if symbol == "**" and (abs(left) > 1_000_000 or abs(right) > 64):
        raise LimitExceeded("a power is out of range")
    return bounded_number(operator(bounded_number(left), bounded_number(right)))
