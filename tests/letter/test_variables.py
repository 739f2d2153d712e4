"""The variables of a template compared with its schema: undeclared, missing, null or not printable."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.language.bounds import RenderBudget
from postroom.letter.language.environment import HTML, Script
from postroom.letter.problems import Code, Problem, Rejected, Severity
from postroom.letter.validation.variables import VariableCollector, VariableUse
from tests.letter.factories import one_sample, problem_of, problems_of, validated

NULLABLE = {"type": ["string", "null"]}
TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "title", "order", "items", "kind"],
    "properties": {
        "name": TEXT,
        "kind": TEXT,
        "nick": TEXT,
        "tags": {"type": "array", "items": TEXT},
        "currency": {"type": "string", "default": "EUR"},
        "title": NULLABLE,
        "either": {"anyOf": [{"type": "null"}, TEXT]},
        "order": {
            "type": "object",
            "required": ["id"],
            "properties": {"id": TEXT, "note": TEXT, "paid": {"type": "boolean"}},
        },
        "gift": {"type": "object", "required": ["text"], "properties": {"text": TEXT, "items": TEXT}},
        "items": {
            "type": "array",
            "items": {"type": "object", "required": ["sku"], "properties": {"sku": TEXT, "size": TEXT}},
        },
        "open": {"type": "object"},
    },
}


def reading(source: str, schema: dict[str, Any] = SCHEMA) -> VariableUse:
    return VariableCollector(schema, "spec.html").read(HTML.parse(source))


def advised(source: str, schema: dict[str, Any] = SCHEMA) -> list[str]:
    """The names in the warnings."""
    found = reading(source, schema)
    assert found.problems == []
    assert {problem.severity for problem in found.lint_warnings} <= {Severity.WARNING}
    return [problem.message.split("`")[1] for problem in found.lint_warnings]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{{ nick }}", ["nick"]),
        ("{{ nick|upper }}", ["nick"]),
        ("{{ nick ~ name }}", ["nick"]),
        ("{{ name|default(nick) }}", ["nick"]),
        ("{{ nick|upper|default('x') }}", ["nick"]),
        ("{{ nick and 'x' }}", ["nick"]),
        ("{{ name if nick else nick }}", ["nick"]),
        ("{% if nick %}{% else %}{{ nick }}{% endif %}", ["nick"]),
        ("{% if not nick %}{{ nick }}{% endif %}", ["nick"]),
        ("{% if nick or name %}{{ nick }}{% endif %}", ["nick"]),
        ("{% if nick %}{% endif %}{{ nick }}", ["nick"]),
        ("{% if nick is undefined %}{{ nick }}{% endif %}", ["nick"]),
        ("{% if nick != 'x' %}{{ nick }}{% endif %}", ["nick"]),
        ("{% if nick > 'a' %}{% endif %}", ["nick"]),
        ("{{ nick.upper() }}", ["nick"]),
        ("{{ range(nick) }}", ["nick"]),
        ("{% for tag in tags %}{{ tag }}{% endfor %}", ["tags"]),
        ("{{ tags|join }}", ["tags"]),
        ("{{ [nick]|join }}", ["nick"]),
        ("{{ tags[0] }}", ["tags"]),
        ("{{ order.note }}", ["order.note"]),
        ("{{ order['note'] }}", ["order.note"]),
        ("{{ gift.text }}", ["gift"]),
        ("{% if gift.items %}{{ gift.items }}{% endif %}{{ gift.items }}", ["gift"]),
        ("{% for item in items %}{{ item.size }}{% endfor %}", ["item.size"]),
        ("{% for item in items|sort(attribute='sku') %}{{ item.size }}{% endfor %}", ["item.size"]),
        ("{% for item in items or [] %}{{ item.size }}{% endfor %}", ["item.size"]),
        ("{{ items[0].size }}", ["items[0].size"]),
        ("{% set n = nick %}{{ n }}", ["n"]),
        ("{% with n = nick %}{{ n }}{% endwith %}", ["n"]),
        ("{% set o = order %}{{ o.note }}", ["o.note"]),
        ("{% set t %}{{ nick }}{% endset %}", ["nick"]),
        ("{% filter upper %}{{ nick }}{% endfilter %}", ["nick"]),
        ("{% macro m() %}{{ nick }}{% endmacro %}", ["nick"]),
        ("{% macro m(a=nick) %}{{ a }}{% endmacro %}", ["nick"]),
        ("{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ nick }}{% endcall %}", ["nick"]),
        ("{{ title }}", ["title"]),
        ("{{ title|upper }}", ["title"]),
        ("{{ either }}", ["either"]),
        ("{% if title is defined %}{{ title }}{% endif %}", ["title"]),
        ("{% if 'a' in title %}{% endif %}", ["title"]),
        ("{% if either is defined %}{{ either }}{% endif %}", ["either"]),
        ("{{ nick }}{{ nick }}", ["nick"]),
    ],
)
def test_an_untested_variable_that_may_be_missing_or_null_gets_a_warning(
    source: str, names: list[str]
) -> None:
    assert advised(source) == names


@pytest.mark.parametrize(
    "source",
    [
        "{{ name }}{{ currency }}{{ order.id }}{{ letter.unsubscribe_url }}{{ open.anything }}",
        "{% if nick %}{{ nick }}{% endif %}",
        "{% if nick is defined %}{{ nick }}{% endif %}",
        "{% if nick is defined and nick %}{{ nick }}{% endif %}",
        "{% if nick is not undefined %}{{ nick }}{% endif %}",
        "{% if nick is undefined %}{% else %}{{ nick }}{% endif %}",
        "{% if name and (kind == 'a' and nick) %}{{ nick }}{% endif %}",
        "{% if not nick %}{% else %}{{ nick }}{% endif %}",
        "{% if not (not nick or name) %}{{ nick }}{% endif %}",
        "{% if not nick or not title %}{% else %}{{ nick }}{{ title }}{% endif %}",
        "{% if (nick and name) or (nick and kind) %}{{ nick }}{% endif %}",
        "{% if kind == 'a' %}{% elif nick %}{{ nick }}{% endif %}",
        "{% if not nick %}{% elif kind %}{{ nick }}{% else %}{{ nick }}{% endif %}",
        "{% if nick == 'x' %}{{ nick }}{% endif %}",
        "{% if nick != 'x' %}{% else %}{{ nick }}{% endif %}",
        "{% if nick in ['x'] %}{% endif %}",
        "{% if 'a' in tags %}{{ tags|join }}{% endif %}",
        "{% if nick is string %}{{ nick }}{% endif %}",
        "{% if tags|default([])|length > 0 %}x{% endif %}",
        "{% if tags|default([]) %}{{ tags|join }}{% endif %}",
        "{% if tags|d|length %}{{ tags|join }}{% endif %}",
        "{{ nick|default('x') }}{{ nick|d('x')|upper }}{{ nick or 'x' }}",
        "{{ nick if nick else 'x' }}{{ nick if nick }}{{ 'x' if not nick else nick }}",
        "{{ nick if nick is defined }}",
        "{% for tag in tags or [] %}{{ tag }}{% endfor %}",
        "{% for tag in tags|default([]) %}{{ tag }}{% endfor %}",
        "{% if tags %}{% for tag in tags %}{{ tag }}{% endfor %}{% endif %}",
        "{% for item in items if item.size %}{{ item.size }}{% endfor %}",
        "{% for item in items %}{% if item.size %}{{ item.size }}{% endif %}{% endfor %}",
        "{% if order.note %}{{ order.note }}{{ order['note'] }}{% endif %}",
        "{% if gift %}{{ gift.text }}{% endif %}{% if gift.text %}{{ gift.text }}{% endif %}",
        "{% if gift.items is defined %}{{ gift.text }}{{ gift.items }}{% endif %}",
        "{% set n = nick %}{% if n %}{{ n }}{{ nick }}{% endif %}",
        "{% set n = nick or 'x' %}{{ n }}",
        "{% set n = nick|default('x') %}{{ n }}",
        "{% set n = nick %}{% set n = 'x' %}{{ n }}",
        "{% set known = nick is defined and nick %}{% if known %}{{ nick }}{% endif %}",
        "{% if not nick %}{% set nick = 'x' %}{% endif %}{{ nick }}",
        "{% macro m(a) %}{% if a %}{{ a }}{% endif %}{% endmacro %}{{ m(nick) }}{{ m(a=nick) }}",
        "{{ [name, nick, title]|select|join(', ') }}",
        "{% if title %}{{ title }}{% endif %}{{ title or 'x' }}{{ title|default('x') }}",
        "{% if title is not none %}{{ title }}{% endif %}{% if title != none %}{{ title }}{% endif %}",
        "{% if title is none %}{% else %}{{ title }}{% endif %}",
        "{% if title == none %}{% else %}{{ title }}{% endif %}",
        "{% if either %}{{ either }}{% endif %}",
        "{% if title == 'x' or kind == 'y' %}{% endif %}",
        "{{ 'a' if nick is defined }}{{ 'a' if nick is none }}",
    ],
)
def test_a_tested_variable_gets_no_warning(source: str) -> None:
    assert advised(source) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"required": ["nick"]}]},
        {"if": {"properties": {"kind": {"const": "a"}}}, "then": {"required": ["nick"]}},
        {"anyOf": [{"required": ["nick"]}, {"required": ["name"]}]},
        {"dependentRequired": {"kind": ["nick"]}},
    ],
)
def test_properties_that_a_condition_may_require_get_no_warning(schema: dict[str, Any]) -> None:
    assert advised("{{ nick }}", {**SCHEMA, **schema}) == []


def test_cyclic_schemas_are_read() -> None:
    circle = {"$ref": "#/$defs/a"}
    schema = {**SCHEMA, "$defs": {"a": {"anyOf": [circle], "allOf": [circle]}}, "allOf": [circle]}
    schema["properties"] = {**SCHEMA["properties"], "name": circle}
    assert advised("{{ name }}", schema) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "{{ order.paid }}",
            '`order.paid` is a boolean, which is not printed; write `{{ "yes" if order.paid',
        ),
        ("{{ items }}", "`items` is a list"),
        ("{{ name ~ order }}", "`order` is a map"),
        ("{% if false %}{{ items[0] }}{% endif %}", "`items[0]` is a map"),
        ("{{ items.length }}", "there is no `items.length` here; write `items|length`"),
        ("{{ name.toUpperCase() }}", "write `name|upper`"),
        ("{{ name.first }}", "write `name|first`"),
        ("{{ name.city }}", "`name` has no `.city`: it is not a map"),
        ("{{ now }}", "there is no `now` here: the time of the event is `letter.time`"),
        ("{{ _(name) }}", "stands in `messages` or `locales`"),
        ("{{ this.name }}", "there is no `this` here"),
        ("{{ null }}", "write `none`"),
        ("{{ forloop.counter }}", "`loop.index`"),
        ("{{ len(name) }}", "write `x|length`"),
        ("{{if .name}}", "write `{% if … %}`"),
        ("{{range .items}}", "for a loop write `{% for item in items %}`"),
    ],
)
def test_an_expression_that_always_fails_is_rejected_without_a_sample(source: str, words: str) -> None:
    problems = reading(source).problems
    assert any(words in problem.message for problem in problems), problems


def test_a_boolean_may_be_tested_joined_and_assigned() -> None:
    source = (
        "{% set paid = order.paid %}{{ 'x' if paid }}{{ order.paid|int }}{{ items|length }}{{ name.upper() }}"
    )
    assert reading(source).problems == []


def findings(severity: Severity, html: str, **spec: Any) -> list[Problem]:
    return [each for each in validated(html, **spec).warnings if each.severity is severity]


NICK = {"type": "object", "required": ["name"], "properties": {"name": TEXT, "nick": TEXT}}


def test_a_warning_is_given_although_every_sample_has_the_variable() -> None:
    sample = one_sample(name="Ada", nick="Countess")
    warning = findings(Severity.WARNING, "\n<p>{{ name }} {{ nick }}</p>", variables=NICK, samples=sample)
    assert [(each.code, each.field, each.line) for each in warning] == [
        (Code.VARIABLE_MAY_BE_ABSENT, "spec.html", 2)
    ]
    assert "`nick` may be missing, and an event without it becomes a dead letter" in warning[0].message


def test_a_sample_without_an_optional_variable_is_requested() -> None:
    html = "<p>{{ name }} {% if nick %}{{ nick }}{% endif %}</p>"
    with_it = one_sample(name="Ada", nick="Countess")
    note = findings(Severity.INFO, html, variables=NICK, samples=with_it)
    assert [(each.field, each.message[:37]) for each in note] == [
        ("spec.samples", "no sample leaves out `nick`, which `v")
    ]
    without = [*with_it, {"name": "b", "data": {"name": "B"}}]
    assert validated(html, variables=NICK, samples=without).warnings == ()


def test_a_schema_without_required_is_reported_once() -> None:
    schema = {"type": "object", "properties": {"name": TEXT, "nick": TEXT}}
    found = validated(
        "<p>{{ name }} {{ nick }}</p>", variables=schema, samples=one_sample(name="A", nick="B")
    ).warnings
    assert [(each.field, each.severity) for each in found] == [("spec.variables", Severity.INFO)]
    assert "an event without `name`, `nick` is accepted" in found[0].message


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (
            {"type": "string"},
            False,
            "YAML reads NO, no, off, n and false as false unless it is quoted",
        ),
        ({"type": "string"}, True, "YAML reads yes, on, y and true as true"),
        ({"type": "string"}, 1.1, "YAML reads it as the number 1.1"),
        ({"type": "string"}, 1000, "YAML reads it as the number 1000"),
        ({"type": "string"}, None, "YAML reads an empty value, ~ and null as null"),
        ({}, False, "YAML reads NO, no, yes and on as booleans"),
    ],
)
def test_a_value_that_yaml_reads_as_another_type_is_explained(
    schema: dict[str, Any], value: Any, words: str
) -> None:
    variables = {"type": "object", "required": ["name"], "properties": {"name": schema}}
    problem = problems_of(
        "<p>{{ name }}</p>", subject="x", variables=variables, samples=one_sample(name=value)
    )[0]
    assert words in problem.message


def test_an_item_of_a_sample_has_its_own_place() -> None:
    schema = {"type": "object", "properties": {"l": {"type": "array", "items": {"properties": {"a": TEXT}}}}}
    sample = one_sample(l=[{"a": "x"}, {"a": False}])
    problem = problem_of(
        "{% for i in l %}{{ i.a }}{% endfor %}", subject="x", variables=schema, samples=sample
    )
    assert problem.field == "spec.samples[0].data.l[1].a"


# --- what no advice is given on never fails ---------------------------------------------------------

ASKING = [
    "{}",
    "{} is defined",
    "{} is undefined",
    "{} is none",
    "{} is not none",
    "{} is string",
    "{} == 'x'",
    "{} != 'x'",
    "{} == none",
    "{}|default('')|length",
    "{}|d",
    "{} in ['x']",
]
WRAPPED = ["{}", "{}", "not {}", "{} and name", "{} or name", "not ({} and nick)", "not (not {} or title)"]
PRINTS = st.sampled_from(["nick", "title", "order.note", "gift.text", "gift.items"])


def guarded(path: str, asking: str, wrapped: str, other: str) -> str:
    """A variable that is printed after a test of it."""
    test = wrapped.format(asking.format(path))
    return f"{{% if {test} %}}{{{{ {path} }}}}{{% elif {other} %}}{{{{ {other} }}}}{{% endif %}}"


GUARDED = st.builds(guarded, PRINTS, st.sampled_from(ASKING), st.sampled_from(WRAPPED), PRINTS)
CHOSEN = st.builds(
    lambda path, asking, wrapped: f"{{{{ {path} if {wrapped.format(asking.format(path))} else 'x' }}}}",
    PRINTS,
    st.sampled_from(ASKING),
    st.sampled_from(WRAPPED),
)
SOURCES = st.lists(GUARDED | CHOSEN, min_size=1, max_size=2).map("".join) | st.builds(
    lambda path, asking, inner: (
        f"{{% set c = {asking.format(path)} %}}{{% if c %}}{{{{ {path} }}}}{inner}{{% endif %}}"
    ),
    PRINTS,
    st.sampled_from(ASKING),
    GUARDED,
)
OPTIONAL_TEXT = st.sampled_from(["", "x", "y"])
EVENTS = st.fixed_dictionaries(
    {
        "name": OPTIONAL_TEXT,
        "kind": OPTIONAL_TEXT,
        "items": st.just([]),
        "title": st.none() | OPTIONAL_TEXT,
        "order": st.fixed_dictionaries({"id": OPTIONAL_TEXT}, optional={"note": OPTIONAL_TEXT}),
    },
    optional={
        "nick": OPTIONAL_TEXT,
        "gift": st.fixed_dictionaries({"text": OPTIONAL_TEXT}, optional={"items": OPTIONAL_TEXT}),
    },
)


@given(SOURCES, st.lists(EVENTS, min_size=4, max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_template_without_warnings_renders_every_valid_event(
    source: str, events: list[dict[str, Any]]
) -> None:
    found = reading(source)
    if found.lint_warnings or found.problems:
        return
    script = Script(HTML, source, "spec.html")
    for data in events:
        try:
            script.render({"letter": {}, **data}, RenderBudget())
        except Rejected as rejected:
            raise AssertionError((source, data, rejected.problems)) from None
