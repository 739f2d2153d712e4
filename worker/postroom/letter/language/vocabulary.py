"""The words that templates may use of Jinja's own: filters, tests, methods. What is not here is refused."""

from jinja2.runtime import LoopContext
from jinja2.utils import Cycler

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
