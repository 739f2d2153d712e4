"""The page of the template language: what the sandbox allows and where its bounds are.

Every filter, test, function and method has an example here, whose output is made by running it: what the page
shows is what a letter shows. A word of the language without an example is an error, as is an example
of a word that is not there.
"""

from typing import Any

from jinja2.runtime import LoopContext
from jinja2.utils import Cycler

from postroom.letter import event
from postroom.letter.events import fields, strict_json
from postroom.letter.language import bounds
from postroom.letter.language.bounds import RenderBudget
from postroom.letter.language.environment import FUNCTIONS, HTML, TEXT, Script
from postroom.letter.language.filters import MEASURED
from postroom.letter.language.formats import FORMATS
from postroom.letter.language.grammar import FILTERS, METHODS, TESTS
from postroom.letter.language.messages import Catalogue
from postroom.letter.mime.headers import ALLOWED_HEADERS
from postroom.letter.renderer import LETTER_FACTS
from writers.tables import Words, table

DATA: dict[str, Any] = {
    "name": "Ada",
    "message": "Happy birthday!\nAda & Bob",
    "page": "<p>One &amp; two</p><p>three</p>",
    "at": "2026-11-23T23:30:00Z",
    "day": "2026-11-23",
    "local": "2026-11-23T23:30:00",
    "rate": 0.081,
    "total": 1234.5,
    "n": 3,
    "nothing": None,
    "tags": ["red", "blue", "red"],
    "items": [
        {"title": "Pen", "price": 2.5, "sold": True, "kind": "office"},
        {"title": "Ink", "price": 10, "sold": False, "kind": "office"},
        {"title": "Tea", "price": 4, "sold": True, "kind": "food"},
    ],
    "order": {"id": "A-7", "city": "Zürich"},
}
"""The data of the examples."""
FORMAT_EXAMPLES: dict[str, tuple[str, ...]] = {
    "date": (
        "{{ at|date }}",
        '{{ at|date("long", "Europe/Berlin") }}',
        '{{ day|date("full") }}',
        '{{ day|date("EEEE d MMMM") }}',
        '{{ local|date("short", "Europe/Berlin") }}',
    ),
    "time": ("{{ at|time }}", '{{ at|time("HH:mm", "Europe/Berlin") }}', '{{ "19:30"|time }}'),
    "datetime": (
        "{{ at|datetime }}",
        '{{ at|datetime("short", "Europe/Berlin") }}',
        '{{ local|datetime("short", "Europe/Berlin") }}',
        '{{ at|datetime("d MMM, HH:mm") }}',
    ),
    "money": (
        '{{ total|money("EUR") }}',
        '{{ 0.0035|money("EUR", 4) }}',
        '{{ 1000|money("JPY") }}',
        '{{ total|money("USD", locale="en") }}',
        '{{ 2.345|money("CHF") }}',
    ),
    "number": (
        "{{ total|number }}",
        "{{ total|number(2) }}",
        "{{ 2.5|number(0) }}",
        "{{ (10 / 3)|number }}",
        "{{ 0.000125|number }}",
    ),
    "percent": (
        "{{ rate|percent }}",
        "{{ 0.055|percent }}",
        "{{ (1 / 3)|percent }}",
        "{{ rate|percent(0) }}",
        "{{ rate|percent(2) }}",
    ),
    "plural": ('{{ n }} {{ n|plural(one="item", other="items") }}',),
}
FILTER_EXAMPLES: dict[str, str] = {
    "abs": "{{ -3|abs }}",
    "batch": '{% for row in tags|batch(2, "-") %}[{{ row|join(" ") }}]{% endfor %}',
    "capitalize": '{{ "a LONG day"|capitalize }}',
    "count": "{{ tags|count }}",
    "d": '{{ nothing|d("friend") }}',
    "default": '{{ nick|default("friend") }}',
    "dictsort": "{% for key, value in order|dictsort %}{{ key }}={{ value }} {% endfor %}",
    "e": "{{ message|e }}",
    "escape": '{{ "<b>"|escape }}',
    "filesizeformat": "{{ 1500000|filesizeformat }}",
    "first": "{{ tags|first }}",
    "float": '{{ "2.50"|float }}',
    "format": '{{ "%s has %03d, or %.2f"|format(name, n, total) }}',
    "groupby": '{% for kind, group in items|groupby("kind") %}{{ kind }}: {{ group|length }} {% endfor %}',
    "indent": "{{ message|indent(2) }}",
    "int": '{{ "7"|int + 1 }}',
    "items": "{% for key, value in order|items %}{{ key }}={{ value }} {% endfor %}",
    "join": '{{ tags|join(", ") }} {{ items|join("/", attribute="title") }}',
    "last": "{{ tags|last }}",
    "length": "{{ tags|length }}",
    "list": "{{ (name|list)[1] }}",
    "lower": "{{ name|lower }}",
    "map": '{{ items|map(attribute="title")|join(", ") }} {{ tags|map("upper")|join(", ") }}',
    "max": '{{ [3, 7, 5]|max }} {{ (items|max(attribute="price")).title }}',
    "min": "{{ [3, 7, 5]|min }}",
    "nl2br": "{{ message|nl2br }}",
    "reject": '{{ [1, 2, 3]|reject("odd")|join(", ") }}',
    "rejectattr": '{{ items|rejectattr("sold")|map(attribute="title")|join(", ") }}',
    "replace": '{{ order.id|replace("-", " ") }}',
    "reverse": '{{ tags|reverse|join(", ") }}',
    "round": '{{ 2.5|round }} {{ 2.675|round(2) }} {{ 2.1|round(0, "ceil") }} {{ 2.9|round(0, "floor") }}',
    "select": '{{ [name, nick, nothing, "Bob"]|select|join(", ") }}',
    "selectattr": '{{ items|selectattr("price", "gt", 3)|map(attribute="title")|join(", ") }}',
    "slice": '{% for column in tags|slice(2) %}[{{ column|join(" ") }}]{% endfor %}',
    "sort": '{{ tags|sort|join(", ") }} {{ (items|sort(attribute="price", reverse=true)|first).title }}',
    "string": "{{ n|string|length }}",
    "striptags": "{{ page|striptags }}",
    "sum": '{{ [1, 2.5]|sum }} {{ items|sum(attribute="price") }}',
    "title": '{{ "a long day"|title }}',
    "tojson": '<script type="application/ld+json">{{ order|tojson }}</script>',
    "trim": '[{{ "  a  "|trim }}]',
    "truncate": '{{ "a long and windy road"|truncate(12) }}',
    "unique": '{{ tags|unique|join(", ") }}',
    "upper": "{{ name|upper }}",
    "urlencode": '{{ order.city|urlencode }} {{ {"q": "a b", "n": 1}|urlencode }}',
    "wordcount": "{{ message|wordcount }}",
    "wordwrap": '{{ "a long and windy road"|wordwrap(10, wrapstring="/") }}',
}
TEST_EXAMPLES: dict[str, str] = {
    "boolean": "items[0].sold is boolean",
    "defined": "nick is defined",
    "divisibleby": "n is divisibleby(3)",
    "eq": 'name is eq("Ada")',
    "equalto": 'name is equalto("Ada")',
    "even": "n is even",
    "false": "items[1].sold is false",
    "float": "rate is float",
    "ge": "n is ge(3)",
    "greaterthan": "n is greaterthan(3)",
    "gt": "n is gt(2)",
    "integer": "n is integer",
    "iterable": "tags is iterable",
    "le": "n is le(2)",
    "lessthan": "n is lessthan(9)",
    "lt": "n is lt(3)",
    "mapping": "order is mapping",
    "ne": "n is ne(3)",
    "none": "nothing is none",
    "number": "n is number",
    "odd": "n is odd",
    "sequence": "tags is sequence",
    "string": "name is string",
    "true": "items[0].sold is true",
    "undefined": "nick is undefined",
}
FUNCTION_EXAMPLES: dict[str, str] = {
    "cycler": '{% set c = cycler("odd", "even") %}{% for i in items %}{{ c.next() }} {% endfor %}',
    "dict": "{% set box = dict(width=3, height=4) %}{{ box.width * box.height }}",
    "joiner": '{% set comma = joiner(", ") %}{% for tag in tags %}{{ comma() }}{{ tag }}{% endfor %}',
    "namespace": (
        "{% set sum = namespace(all=0) %}"
        "{% for i in items %}{% set sum.all = sum.all + i.price %}{% endfor %}{{ sum.all }}"
    ),
    "range": "{% for i in range(1, 4) %}{{ i }} {% endfor %}",
    "t": '{{ t("hello", name=name) }} {{ t("left", count=2) }}',
}
MESSAGES = Catalogue(
    {"hello": "Hello, {name}.", "left_one": "{count} is left.", "left_other": "{count} are left."}, {}
)
"""The message catalogue of the example."""
METHOD_EXAMPLES: dict[type, dict[str, str]] = {
    str: {
        "capitalize": '{{ "a LONG day".capitalize() }}',
        "endswith": '{{ "yes" if name.endswith("a") }}',
        "isdigit": '{{ "yes" if "42".isdigit() }}',
        "lower": "{{ name.lower() }}",
        "lstrip": '[{{ " a ".lstrip() }}]',
        "removeprefix": '{{ order.id.removeprefix("A-") }}',
        "removesuffix": '{{ "a.pdf".removesuffix(".pdf") }}',
        "rstrip": '[{{ " a ".rstrip() }}]',
        "split": '{{ order.id.split("-")[1] }}',
        "startswith": '{{ "yes" if name.startswith("A") }}',
        "strip": '[{{ " a ".strip() }}]',
        "title": '{{ "a long day".title() }}',
        "upper": "{{ name.upper() }}",
    },
    dict: {
        "get": '{{ order.get("note", "none") }}',
        "items": "{% for key, value in order.items() %}{{ key }}={{ value }} {% endfor %}",
        "keys": '{{ order.keys()|join(", ") }}',
        "values": '{{ order.values()|join(", ") }}',
    },
    LoopContext: {
        "changed": "{% for t in tags|sort %}{% if loop.changed(t) %}{{ t }} {% endif %}{% endfor %}",
        "cycle": '{% for t in tags %}{{ loop.cycle("odd", "even") }} {% endfor %}',
        "first": "{% for t in tags %}{{ t if loop.first }}{% endfor %}",
        "index": "{% for t in tags %}{{ loop.index }} {% endfor %}",
        "index0": "{% for t in tags %}{{ loop.index0 }} {% endfor %}",
        "last": '{% for t in tags %}{{ t }}{{ ", " if not loop.last }}{% endfor %}',
        "length": "{% for t in tags %}{{ loop.index }}/{{ loop.length }} {% endfor %}",
        "nextitem": '{% for t in tags %}{{ loop.nextitem or "end" }} {% endfor %}',
        "previtem": '{% for t in tags %}{{ loop.previtem or "start" }} {% endfor %}',
        "revindex": "{% for t in tags %}{{ loop.revindex }} {% endfor %}",
        "revindex0": "{% for t in tags %}{{ loop.revindex0 }} {% endfor %}",
    },
    Cycler: {
        "current": '{% set c = cycler("a", "b") %}{{ c.current }}{{ c.current }}',
        "next": '{% set c = cycler("a", "b") %}{{ c.next() }}{{ c.next() }}',
        "reset": '{% set c = cycler("a", "b") %}{{ c.next() }}{{ c.reset() }}{{ c.next() }}',
    },
}
KINDS = {str: "a text", dict: "a map", LoopContext: "`loop`", Cycler: "what `cycler` gives"}
PRINTED: tuple[tuple[str, Any], ...] = (
    ("text", "Tom & Jerry"),
    ("whole number", 7),
    ("1.0", 1.0),
    ("1.10", 1.10),
    ("0.1 + 0.2", 0.1 + 0.2),
    ("null", None),
)
REFUSED = ("{{ items[0].sold }}", "{{ tags }}", "{{ order }}", "{{ nick }}")
BUTTON = '{% macro button(url, label="Open") %}<a href="{{ url }}">{{ label }}</a>{% endmacro %}'
CARD = "{% macro card(head) %}<h1>{{ head }}</h1>{{ caller() }}{% endmacro %}"
BLOCKS = (
    "{% if nick %}{{ nick }}{% else %}friend{% endif %}",
    "{% for item in items if item.sold %}{{ loop.index }}. {{ item.title }} {% else %}nothing{% endfor %}",
    "{% set sum = items[0].price + items[1].price %}{{ sum }}",
    "{% set link %}<b>{{ message }}</b>{% endset %}{{ link }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}",
    "{% filter upper %}to {{ name }}{% endfilter %}",
    BUTTON + '{{ button("https://x.example/a?b=1&c=2") }}',
    CARD + "{% call card(name) %}<p>{{ order.id }}</p>{% endcall %}",
    "{% raw %}{{ shown as it is }}{% endraw %}",
    "{# a remark #}a{#- and one that takes white space away -#} b",
)


def run(source: str, tag: str = "en", environment: Any = HTML) -> str:
    """The result of an example."""
    return Script(environment, source, "x").render(
        {"letter": {"locale": tag}, "_messages": MESSAGES, **DATA}, RenderBudget()
    )


def shown(text: str) -> str:
    """An output as code in a table; a no-break space and a line end would not show."""
    plain = text.replace("\xa0", " ").replace("\u202f", " ").replace("\n", "⏎").rstrip()
    fence = "``" if "`" in plain else "`"
    return f"{fence}{plain}{fence}" if plain else "nothing"


def code(source: str) -> str:
    """An example's source as code in a table."""
    return f"`{source}`"


def language(words: Words) -> str:
    """Output, blocks, filters, tests, functions, methods, the variable `letter`, headers and bounds."""
    facts = [(f"`letter.{name}`", words.of("facts", name)) for name in LETTER_FACTS]
    limits = [
        (words.of("limits", name), f"{getattr(bounds, name):,}")
        for name in (
            "MAX_ITERATIONS",
            "MAX_CALLS",
            "MAX_CALL_DEPTH",
            "MAX_OUTPUT",
            "MAX_STRING",
            "MAX_BUILT",
            "MAX_RANGE",
            "MAX_SECONDS",
        )
    ]
    say = words.tables["language"]

    def prose(name: str) -> str:
        return words.of("language", name) + "\n" if name in say else words.of("language", name)

    return "\n".join(
        [
            "# The template language\n",
            prose("introduction"),
            "## Printed values\n",
            prose("printed"),
            table(("Value", "In the letter"), [(name, _printed(value)) for name, value in PRINTED]),
            prose("refused"),
            table(
                ("Template", "The letter is refused with"), [(code(each), _refusal(each)) for each in REFUSED]
            ),
            prose("missing"),
            "## Blocks\n",
            table(("Template", "In the letter"), [(code(each), shown(run(each))) for each in BLOCKS]),
            prose("macros"),
            prose("css"),
            "## Formats\n",
            prose("formats"),
            *_formats(words),
            "## Filters\n",
            prose("filters"),
            _examples(words, "filters", FILTER_EXAMPLES, {n for n in MEASURED if n[0] != "_"} | FILTERS),
            prose("lines"),
            "## Tests\n",
            prose("tests"),
            table(("Test", "Value"), _tests(words)),
            "## Functions\n",
            _examples(words, "functions", FUNCTION_EXAMPLES, set(FUNCTIONS)),
            "## Methods\n",
            prose("methods"),
            *_methods(words),
            "## Variables of the letter\n",
            table(("Variable", "Meaning"), facts),
            "## Coming from another language\n",
            prose("other"),
            "## Headers\n",
            f"`spec.headers` may set `X-…` and {listed(sorted(each.title() for each in ALLOWED_HEADERS))}.\n",
            "## Bounds\n",
            table(("Limit", "At most"), limits),
        ]
    )


def _printed(value: Any) -> str:
    return shown(Script(HTML, "{{ x }}", "x").render({"letter": {}, "x": value}, RenderBudget()))


def _refusal(source: str) -> str:
    try:
        run(source)
    except Exception as error:  # noqa: BLE001  its message is what is shown
        return error.problems[0].message  # type: ignore[attr-defined,no-any-return]
    raise AssertionError(f"{source} is not refused")


def _formats(words: Words) -> list[str]:
    _complete(words, "filter", set(FORMAT_EXAMPLES), set(FORMATS))
    parts = []
    for name, examples in FORMAT_EXAMPLES.items():
        rows = [(code(each), *(shown(run(each, tag, TEXT)) for tag in ("en", "de"))) for each in examples]
        parts += [
            f"### `{name}`\n",
            words.of("filters", name) + "\n",
            table(("Template", "`en`", "`de`"), rows),
        ]
    return parts


def _examples(words: Words, kind: str, examples: dict[str, str], known: set[str]) -> str:
    _complete(words, kind, set(examples), known)
    rows = [
        (f"`{name}`", words.of(kind, name), code(examples[name]), shown(run(examples[name])))
        for name in sorted(known & set(examples))
    ]
    return table(("Name", "Purpose", "Example", "Result"), rows)


def _tests(words: Words) -> list[tuple[str, str]]:
    _complete(words, "test", set(TEST_EXAMPLES), {test for test in TESTS if test.isalpha()})
    return [(code(each), run("{{ 'true' if " + each + " else 'false' }}")) for each in TEST_EXAMPLES.values()]


def _methods(words: Words) -> list[str]:
    parts = []
    for kind, names in METHODS:
        examples = METHOD_EXAMPLES[kind]
        _complete(words, f"method of {KINDS[kind]}", set(examples), set(names))
        rows = [(f"`{name}`", code(source), shown(run(source))) for name, source in examples.items()]
        parts += [f"Of {KINDS[kind]}:\n", table(("Name", "Example", "Gives"), rows)]
    return parts


def _complete(words: Words, kind: str, examples: set[str], known: set[str]) -> None:
    words.missing += [f"no example of the {kind} {name}" for name in sorted(known - examples)]
    words.missing += [
        f"an example of the {kind} {name}, which does not exist" for name in sorted(examples - known)
    ]


def listed(names: list[str]) -> str:
    """Names as code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def event_limits(words: Words) -> str:
    """The limits of an event, to be included in its page."""
    limits = [
        (words.of("event_limits", name), f"{value:,}")
        for name, value in {
            "MAX_BYTES": strict_json.MAX_BYTES,
            "MAX_DEPTH": strict_json.MAX_DEPTH,
            "MAX_DIGITS": strict_json.MAX_DIGITS,
            "ID_CHARACTERS": event.ID_CHARACTERS,
            "SOURCE_CHARACTERS": event.SOURCE_CHARACTERS,
            "TYPE_CHARACTERS": event.TYPE_CHARACTERS,
            "REFERENCE_CHARACTERS": event.REFERENCE_CHARACTERS,
            "ATTACHMENTS": event.MAX_EVENT_ATTACHMENTS,
            "ATTACHMENTS_BYTES": event.MAX_EVENT_ATTACHMENTS_BYTES,
            "SCHEDULE_AHEAD": event.MAX_SCHEDULE_AHEAD.days,
            "METADATA_ENTRIES": fields.METADATA_ENTRIES,
            "METADATA_VALUE_CHARACTERS": fields.METADATA_VALUE_CHARACTERS,
        }.items()
    ]
    return "# Limits of an event\n\n" + table(("Limit", "At most"), limits)
