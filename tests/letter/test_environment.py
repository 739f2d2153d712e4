"""The sandbox: what templates may contain, what they may use, and how errors are reported."""

from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from jinja2.exceptions import TemplateSyntaxError
from markupsafe import escape

from postroom.letter.language.bounds import MAX_ITERATIONS, MAX_SECONDS, RenderBudget, Timers
from postroom.letter.language.environment import HTML, TEXT, LetterEnvironment, Script
from postroom.letter.problems import Code, Rejected
from tests.letter.factories import refusal, render

LIMITED = {
    Code.RENDER_LIMIT,
    Code.RENDER_FAILED,
    Code.TEMPLATE_UNSAFE,
    Code.TEMPLATE_SYNTAX,
    Code.FILTER_NOT_ALLOWED,
}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ x.__init__.__globals__ }}",
        "{{ x|attr('__class__') }}",
        "{{ x|map(attribute='__class__')|list }}",
        "{{ range.__init__ }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ _meter }}",
        "{% set _meter = 1 %}",
        "{{ lipsum() }}",
        "{{ cycler('a')['__class__'] }}",
        "{{ cycler.__init__ }}",
        "{{ joiner('a').used }}",
        "{{ namespace(a=1)[x] }}",
        "{% set n = namespace(a=1) %}{% set n.__class__ = 1 %}",
        "{% set d.k = 1 %}",
        "{% set d.k %}1{% endset %}",
        "{{ dict.fromkeys }}",
        "{{ '%(a.__class__)s'|format(a=x) }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{% macro m() %}{% endmacro %}{{ m.__call__ }}",
        "{% macro m() %}{% endmacro %}{{ m.name }}",
        "{% macro _m() %}{% endmacro %}",
        "{{ config }}",
        "{{ env }}",
        "{{ x.format(1) }}",
        "{{ x.format_map({}) }}",
        "{{ x.encode() }}",
        "{{ x.center(9) }}",
        "{{ d.update({'a': 1}) }}",
        "{{ d.pop('k') }}",
        "{{ items.append(1) }}",
        "{{ x() }}",
        "{{ 1() }}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% include '/etc/passwd' %}",
        "{% include x %}",
        "{% extends 'x' %}",
        "{% call x() %}{% endcall %}",
        "{% autoescape false %}{{ x }}{% endautoescape %}",
        "{% for a in items recursive %}{{ loop(a) }}{% endfor %}",
        "{% block b %}{% endblock %}",
        "{{ x|safe }}",
        "{{ x|xmlattr }}",
        "{{ x|pprint }}",
        "{{ x is callable }}",
        "{{ x is sameas x }}",
        "{% debug %}",
        "{% do x %}",
    ],
)
def test_a_way_out_of_the_sandbox_is_refused(source: str) -> None:
    for environment in (HTML, TEXT):
        problem = refusal(source, environment, x="text", d={"k": 1}, items=[[1]])
        assert problem.field == "spec.html"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 200000000 }}",
        "{{ [0] * 50000000 }}",
        "{{ x * 9999999 }}",
        "{{ '%0200000000d' % 1 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 9.5 ** 1000 }}",
        "{{ 10 ** 64 * 10 ** 64 }}",
        "{{ 1.5|round(1000000000, 'ceil') }}",
        "{{ 1.5|round(-1000000000, 'floor') }}",
        "{{ items|map('round', 1000000000, 'ceil')|list }}",
        "{{ [items]|sum(start=[]) }}",
        "{{ items|select('in', items)|list }}",
        "{{ 'a'|center(200000000) }}",
        "{{ 'a'|indent(200000000) }}",
        "{{ '%0200000000d'|format(1) }}",
        "{{ '%.200000000f' % 1.5 }}",
        "{{ '%*d' % (200000000, 1) }}",
        "{{ '%s%s%s' % (x * 90, x * 90, x * 90) }}",
        "{% for a in range(90) %}{% set x = x ~ x %}{{ '%s' * 200 % x }}{% endfor %}",
        "{{ items|batch(200000000, x) }}",
        "{{ items|slice(200000000) }}",
        "{{ [1]|batch(900, x)|list|string }}",
        "{{ 'a\nb'|indent(200000000) }}",
        "{{ (x ~ x ~ x)|wordwrap(1, true, x) }}",
        "{{ 'a'|wordwrap(0) }}",
        "{% set y %}{{ x }}{% endset %}" + "{% set y %}{{ y }}{{ y }}{% endset %}" * 40 + "{{ y }}",
        "{% macro m(y) %}{{ y }}{{ y }}{% endmacro %}{{ " + "m(" * 30 + "x" + ")" * 30 + " }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}x{% endmacro %}{% for a in items %}" + "{{ m() }}" * 30 + "{% endfor %}",
        "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
        + "{% call m() %}" * 30
        + "{{ x }}"
        + "{% endcall %}" * 30,
        "{% set n = namespace(a=x) %}{% for i in items %}{% set n.a = n.a ~ n.a %}{% endfor %}",
        "{% set n = namespace(a=[x]) %}{% for i in items %}{% set n.a = [n.a, n.a] %}{% endfor %}",
        "{% set n = namespace() %}{% for i in items %}{% set n.a = [n.a] %}{% endfor %}{{ n.a|tojson(8) }}",
        "{% set n = namespace() %}{% for i in items %}{% set n.a = {'b': n.a} %}{% endfor %}{{ n.a|tojson }}",
        "{% for i in items %}{% set d = dict(a=x * 90) %}{% endfor %}",
        "{{ x|replace('', x) }}",
        "{{ items|join(x) }}",
        "{% set a = x %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{% set a = x %}" + "{% set a = a + a %}" * 40 + "{{ a }}",
        "{% set a = [1] %}" + "{% set a = a + a %}" * 40 + "{{ a|length }}",
        "{% set a = [x] %}" + "{% set a = [a, a, a, a] %}" * 15 + "{{ a|string }}",
        "{% set a = [x] %}" + "{% set a = {'b': a, 'c': a, 'd': a} %}" * 20 + "{{ a }}",
        "{% set a = (x,) %}" + "{% set a = (a, a) + (a, a) %}" * 15 + "{{ a|length }}",
        "{% for i in range(900) %}{% set a = [x, x, x, x, x] %}{% endfor %}",
        "{{ items|map('replace', '', x)|list }}",
        "{% for a in range(10 ** 9) %}x{% endfor %}",
        "{% for a in range(900) %}{% for b in range(900) %}x{% endfor %}{% endfor %}",
        "{% for a in range(100) %}" * 20 + "x" + "{% endfor %}" * 20,
        "{% for a in items %}{{ x }}{{ x }}{{ x }}{{ x }}{% endfor %}",
        "{% for a in items|map('upper') %}{% for b in items %}{% endfor %}{% endfor %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "1+" * 9000 + "1 }}",
        "{{ " + "9" * 5000 + " }}",
        "{{ " + "x." * 3000 + "y }}",
        "{% if x %}" * 200 + "{% endif %}" * 200,
    ],
)
def test_nothing_runs_away(source: str) -> None:
    problem = refusal(source, x="a" * 1000, items=["b"] * 1000)
    assert problem.code in LIMITED


def test_an_honest_letter_stays_within_its_bounds() -> None:
    rows = [{"name": "Ada", "price": 9.5}] * 500
    source = "{% for row in rows %}{{ row.name ~ '!' }}{{ row.price * 2 }}{% endfor %}"
    assert render(source, rows=rows) == "Ada!19" * 500


def test_the_turns_of_all_loops_are_one_sum() -> None:
    half = "{% for a in items %}{% endfor %}"
    items = [0] * (MAX_ITERATIONS // 2)
    assert render(half * 2, items=items) == ""
    assert refusal(half * 3, items=items).code is Code.RENDER_LIMIT


def test_time_is_bounded_by_the_clock_that_was_handed_in() -> None:
    ticks = count(step=1.0)
    script = Script(HTML, "{% for a in items %}{% for b in items %}x{% endfor %}{% endfor %}", "spec.html")
    clocks = Timers(lambda: next(ticks), lambda: next(ticks))
    with pytest.raises(Rejected) as caught:
        script.render({"letter": {}, "items": [1] * 50}, RenderBudget(clocks))
    assert caught.value.code is Code.RENDER_LIMIT


def test_a_machine_that_stands_still_buries_no_letter() -> None:
    """By the wall hours pass at every look; the processor has hardly worked."""
    wall, cpu = count(step=3600.0), count(step=MAX_SECONDS / 1000)
    script = Script(HTML, "{% for a in items %}x{% endfor %}", "spec.html")
    clocks = Timers(lambda: next(wall), lambda: next(cpu))
    assert script.render({"letter": {}, "items": [1] * 400}, RenderBudget(clocks)) == "x" * 400


def test_the_processor_is_asked_only_when_half_the_time_has_passed_by_the_wall() -> None:
    wall, asked = count(step=MAX_SECONDS / 1000), list[float]()

    def cpu() -> float:
        asked.append(0.0)
        return 0.0

    script = Script(HTML, "{% for a in items %}x{% endfor %}", "spec.html")
    script.render({"letter": {}, "items": [1] * 400}, RenderBudget(Timers(lambda: next(wall), cpu)))
    assert not asked
    script.render({"letter": {}, "items": [1] * 700}, RenderBudget(Timers(lambda: next(wall), cpu)))
    assert 150 < len(asked) < 250


def test_a_loop_with_a_clock_is_the_loop_without_one() -> None:
    source = "{% for a in items %}{{ loop.index }}/{{ loop.length }}{{ a }}{{ loop.revindex }} {% endfor %}"
    script = Script(TEXT, source, "spec.text")
    timed = script.render({"letter": {}, "items": ["x", "y"]}, RenderBudget(Timers(lambda: 0.0, lambda: 0.0)))
    assert timed == render(source, TEXT, items=["x", "y"]) == "1/2x2 2/2y1 "


def test_numbers_are_added_and_rounded() -> None:
    assert render("{{ [1, 2.5]|sum }} {{ [{'n': 2}]|sum('n') }} {{ 2.346|round(2) }}") == "3.5 2 2.35"


def test_a_missing_variable_is_named_with_its_line() -> None:
    problem = refusal("one\n{{ first_name }}")
    assert (problem.code, problem.line) == (Code.VARIABLE_MISSING, 2)
    assert "`first_name`" in problem.message


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ o.city }}", "city"),
        ("{{ o['city'] }}", "city"),
        ("{{ l[3] }}", "item 3"),
        ("{% for a in gone %}{% endfor %}", "gone"),
        ("{{ gone.city }}", "gone"),
        ("{{ gone + 1 }}", "gone"),
        ("{{ 1 + gone }}", "gone"),
        ("{{ gone|upper }}", "gone"),
        ("{{ gone|date }}", "gone"),
        ("{{ gone|sum }}", "gone"),
        ("{{ gone|join }}", "gone"),
        ("{{ gone|tojson }}", "gone"),
        ("{{ gone ~ 'x' }}", "gone"),
        ("{{ gone > 1 }}", "gone"),
        ("{{ 1|money(gone) }}", "gone"),
        ("{{ gone() }}", "gone"),
        ("{{ gone.city() }}", "gone"),
    ],
)
def test_what_is_not_there_is_named(source: str, name: str) -> None:
    problem = refusal(source, o={}, l=[])
    assert problem.code is Code.VARIABLE_MISSING
    assert name in problem.message


def test_what_may_be_missing_can_be_asked_for() -> None:
    assert render("{{ a|default('b') }}{% if c is defined %}{{ c }}{% endif %}") == "b"


def test_errors_hold_no_word_of_the_data() -> None:
    for source in (
        "{{ secret|int + [] }}",
        "{{ secret|money('EUR') }}",
        "{{ secret + 1 }}",
        "{{ secret|date }}",
    ):
        assert "hunter2" not in str(refusal(source, s="hunter2"))


def test_an_objects_keys_come_before_its_methods() -> None:
    assert render("{{ order.items|length }}{{ order.get }}", order={"items": [1, 2], "get": "x"}) == "2x"
    assert render("{% for k, v in order.items() %}{{ k }}{{ v }}{% endfor %}", order={"a": 1}) == "a1"


def test_html_is_escaped_and_text_is_not() -> None:
    assert render("{{ x }}", HTML, x="<script>&\"'") == "&lt;script&gt;&amp;&#34;&#39;"
    assert render("{{ x }}", TEXT, x="<script>&\"'") == "<script>&\"'"


def test_joining_and_replacing_keep_the_escaping() -> None:
    assert render("{{ x|join('<br>') }}", x=["<a>", "b"]) == "&lt;a&gt;&lt;br&gt;b"
    assert render("{{ x|replace('a', '<') }}", x="a") == "&lt;"
    assert render("{{ x ~ '<' }}", x="&") == "&amp;&lt;"


@given(st.text(), st.sampled_from(["{{ x }}", "{{ x|upper|lower }}", "{{ [x]|join('') }}", "{{ x ~ '' }}"]))
@settings(max_examples=30, deadline=None)
def test_no_value_brings_markup_into_html(value: str, source: str) -> None:
    out = render(source, x=value)
    assert "<" not in out
    assert ">" not in out
    if source == "{{ x }}":
        assert out == str(escape(value))


@pytest.mark.parametrize(
    ("locale", "source", "expected"),
    [
        ("de", "{{ 1234.5|money('EUR') }}", "1.234,50\xa0€"),
        ("en", "{{ 1234.5|money('USD') }}", "$1,234.50"),
        ("de-AT", "{{ '2026-11-23'|date('long') }}", "23. November 2026"),
        ("en", "{{ '2026-11-23T23:30:00Z'|date('medium', 'Europe/Berlin') }}", "Nov 24, 2026"),
        ("en-GB", "{{ '2026-11-23T23:30:00Z'|time('short', 'Europe/Berlin') }}", "00:30"),
        ("ja", "{{ '2026-11-23'|date('full') }}", "2026年11月23日月曜日"),
        ("pl", "{{ 2|plural(one='list', few='listy', other='listów') }}", "listy"),
        ("pl", "{{ 5|plural(one='list', few='listy', many='listów', other='listu') }}", "listów"),
        ("en", "{{ 1|plural(one='item', other='items') }}", "item"),
        ("fr", "{{ 12345.5|number }}", "12\u202f345,5"),
        ("en", "{{ 0.25|percent }}", "25%"),
        ("xx-unknown", "{{ 12345|number }}", "12,345"),
    ],
)
def test_values_are_written_as_the_language_writes_them(locale: str, source: str, expected: str) -> None:
    assert Script(TEXT, source, "x").render({"letter": {"locale": locale}}, RenderBudget()) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ '1e999999'|money('EUR') }}",
        "{{ 1e308|number }}",
        "{{ 'x'|money('EUR') }}",
        "{{ 1|money('euro') }}",
        "{{ true|number }}",
        "{{ 'yesterday'|date }}",
        "{{ '2026-11-23'|time }}",
        "{{ '2026-11-23T10:00:00Z'|time('short', '../../etc/passwd') }}",
        "{{ '2026-11-23'|date('evil') }}",
        "{{ 1|plural(one='x') }}",
    ],
)
def test_what_cannot_be_formatted_says_what_is_needed(source: str) -> None:
    problem = refusal(source)
    assert problem.code is Code.RENDER_FAILED
    assert problem.message.startswith("`")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a\nb\n{% if %}", 3),
        ("{% for x in %}", 1),
        ("\n{{ x|nope }}", 2),
        ("\n\n{{ x is nope }}", 3),
        ("{{ x", 1),
    ],
)
def test_a_mistake_in_the_source_has_its_line(source: str, line: int) -> None:
    problem = refusal(source)
    assert problem.line == line
    assert problem.code in {Code.TEMPLATE_SYNTAX, Code.FILTER_NOT_ALLOWED}


def test_a_file_name_is_never_taken_from_a_template() -> None:
    script = Script(HTML, "{{ 1 }}", "spec.html'); import os")
    assert script._template.filename == "<template>"


@given(JSON)
@settings(max_examples=30, deadline=None)
def test_any_json_renders_or_is_refused(value: Any) -> None:
    source = (
        "{% for a in x %}{{ a }}{{ loop.last }}{% endfor %}{{ x.name }}{{ x[0] }}{{ x|upper }}{{ x + 1 }}"
    )
    for environment in (HTML, TEXT):
        with suppress(Rejected):
            render(source, environment, x=value)


def test_both_environments_are_the_same_but_for_escaping() -> None:
    assert isinstance(HTML, LetterEnvironment)
    assert HTML.filters.keys() == TEXT.filters.keys()
    assert HTML.autoescape
    assert not TEXT.autoescape


PAGE = (
    "<p>{{ a }}{% for x in items %}<b>{{ x }}</b>{% else %}none{% endfor %}{% raw %}{{ }}{% endraw %}</p>\n\n"
)


@pytest.mark.parametrize(
    "other",
    [
        PAGE.replace("<p>", '<p style="color: red">').replace("none", "no\nthing"),  # the same constructs
        PAGE.replace("{{ a }}", "{{ items|length }}"),
        PAGE.replace("<p>", ""),  # no text where text was
        PAGE + "{{ a }}",
        "only text",
        "{% macro m(t) %}[{{ t }}]{% endmacro %}{% set s %}<i>{{ a }}</i>{% endset %}{{ m(a) }}{{ s }}",
    ],
)
def test_a_script_with_other_text_renders_as_one_compiled_for_it(other: str) -> None:
    data = {"a": "<&>", "items": ["x", "y"]}
    first = Script(HTML, PAGE, "spec.html")
    assert first.with_text_of(other).render(data, RenderBudget()) == Script(HTML, other, "spec.html").render(
        data, RenderBudget()
    )
    assert first.render(data, RenderBudget()) == Script(HTML, PAGE, "spec.html").render(data, RenderBudget())


def test_a_script_with_other_text_shares_its_code_and_its_lines() -> None:
    first = Script(HTML, "<p>\n{{ a }}\n{{ b }}</p>", "spec.html")
    other = first.with_text_of("<div>{{ a }}{{ b }}</div>".replace("}{", "}\n{"))
    with pytest.raises(Rejected) as caught:
        other.render({"a": "1"}, RenderBudget())
    assert caught.value.problems[0].line == 3


def test_text_that_decides_what_a_filter_does_is_compiled_anew() -> None:
    first = Script(HTML, "<p>{{ a|tojson }}</p>", "spec.html")
    other = "<script>{{ a|tojson }}</script>"
    assert first.with_text_of(other).render({"a": "'"}, RenderBudget()) == Script(HTML, other, "x").render(
        {"a": "'"}, RenderBudget()
    )


@pytest.mark.parametrize(
    "source",
    [
        "a { b } {c: d} {{ x }} {{{ y }}} { {% if x %}{ {# no #} {%- endif -%} } {",
        "{% raw -%} {{ x }} {%- endraw %} {{% x }}",
        "\n\n {# a\nb #}\n{{ '}}' }}\n",
    ],
)
def test_text_is_cut_as_jinja_cuts_it(source: str) -> None:
    assert pieces_of(HTML, source) == pieces_of(Environment(), source)


@given(st.text(alphabet="{}%#-+a \n'", max_size=40))
def test_any_text_is_cut_as_jinja_cuts_it(source: str) -> None:
    assert pieces_of(HTML, source) == pieces_of(Environment(), source)


def pieces_of(environment: Environment, source: str) -> object:
    """The tokens, or why there are none."""
    try:
        return list(environment.lex(source))
    except TemplateSyntaxError as error:
        return str(error), error.lineno
