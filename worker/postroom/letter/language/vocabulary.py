"""The words that templates may use of Jinja's own: filters, tests, methods. What is not here is refused."""

from jinja2.runtime import LoopContext

FILTERS = frozenset(
    "abs capitalize count d default dictsort e escape filesizeformat first float groupby int items last"  # noqa: SIM905  a table
    " length list lower map max min reject rejectattr reverse select selectattr sort string"
    " title trim truncate unique upper urlencode wordcount".split()
)
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
)
"""What a template may call or ask of a value, by the value's type."""
