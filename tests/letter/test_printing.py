"""What a value looks like in a letter, and which values are refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.language.environment import HTML, TEXT
from postroom.letter.problems import Code, Rejected
from tests.letter.factories import refusal, render

NULLS = [
    "{{ x }}",
    "{{ x ~ '' }}",
    "{{ [x, x]|join('') }}",
    "{{ x|upper }}",
    "{{ x|lower }}",
    "{{ x|title }}",
    "{{ x|capitalize }}",
    "{{ x|trim }}",
    "{{ x|string }}",
    "{{ x|truncate(9) }}",
    "{{ x|replace('None', 'no') }}",
    "{{ 'a'|replace('a', x) }}",
    "{{ x|e }}",
    "{{ x|urlencode }}",
    "{{ x|nl2br }}",
    "{{ x|striptags }}",
    "{{ x|wordwrap }}",
    "{{ x|indent }}",
    "{{ '%s'|format(x) }}",
    "{{ '%s' % x }}",
    "{{ [x]|map('upper')|join }}",
    "{{ x|date }}",
    "{{ x|time }}",
    "{{ x|datetime }}",
    "{{ x|money('EUR') }}",
    "{{ x|number }}",
    "{{ x|percent }}",
    "{{ {'a': x}.a }}",
    "{% set y = x %}{{ y }}",
    "{% set y %}{{ x }}{% endset %}{{ y }}",
    "{% filter upper %}{{ x }}{% endfilter %}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(x) }}",
]
WITHOUT_TEXT: list[Any] = [True, False, [1], [], {"a": 1}, {}]


@pytest.mark.parametrize("environment", [HTML, TEXT])
@pytest.mark.parametrize("source", NULLS)
def test_null_prints_nothing(source: str, environment: Any) -> None:
    assert render(source, environment, x=None) == ""


@pytest.mark.parametrize("value", WITHOUT_TEXT)
@pytest.mark.parametrize(
    "source", [each for each in NULLS[:21] if "urlencode" not in each and "% x" not in each]
)
def test_what_has_no_text_is_refused_with_its_line(source: str, value: Any) -> None:
    problem = refusal("\n" + source, x=value)
    assert (problem.code, problem.line) == (Code.RENDER_FAILED, 2)
    assert "which is not printed; " in problem.message
    assert "`" in problem.message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ o.a }}", '`o.a` is a boolean, which is not printed; write `{{ "yes" if o.a else "no" }}`'),
        ("{{ o['l'] }}", '`o.l` is a list, which is not printed; write `{{ o.l|join(", ") }}` or a loop'),
        ("{{ o.l[0] }}", "`o.l[0]` is a map"),
        ("{{ 'a' ~ o }}", "`o` is a map"),
        ("{{ o|upper }}", "`upper` needs a text: a value is a map"),
        ("{% macro m() %}{% endmacro %}{{ m }}", "`m` is a macro; call it with ()"),
        ("{{ o.l|map('upper') }}", "is a list"),
        ("{{ namespace(a=1) }}", "is not a text or a number"),
    ],
)
def test_the_message_has_the_expression_and_the_way_out(source: str, words: str) -> None:
    assert words in refusal(source, o={"a": True, "l": [{}]}).message


def test_the_message_has_no_value() -> None:
    for source in ("{{ o }}", "{{ o.l }}", "{{ o|upper }}", "{{ o.l|join }}", "{{ o.l() }}"):
        assert "hunter2" not in refusal(source, o={"s": "hunter2", "l": [{"s": "hunter2"}]}).message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-7, "-7"),
        (12345678901234567890, "12345678901234567890"),
        (1.0, "1"),
        (-0.0, "0"),
        (1.10, "1.1"),
        (0.1 + 0.2, "0.3"),
        (1e22, "10000000000000000000000"),
        (1.5e-9, "0.0000000015"),
        (123456789.125, "123456789.125"),
        ("1.10", "1.10"),
    ],
)
def test_a_number_is_written_in_plain_digits(value: Any, text: str) -> None:
    for source in ("{{ x }}", "{{ x ~ '' }}", "{{ [x]|join }}", "{{ x|string }}", "{{ '%s'|format(x) }}"):
        assert render(source, x=value) == text


@given(st.floats(-1e300, 1e300))
@settings(max_examples=100, deadline=None)
def test_a_printed_number_is_the_number(value: float) -> None:
    text = render("{{ x }}", x=value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=1e-14)


def test_numbers_beyond_all_bounds_are_refused() -> None:
    assert refusal("{{ x / y }}", x=1e308, y=1e-300).code is Code.RENDER_FAILED
    assert refusal("{{ 1 / x }}", x=0).message == "a number is divided by zero"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 2.5|round }} {{ 3.5|round }} {{ -2.5|round }}", "3 4 -3"),
        ("{{ 2.675|round(2) }} {{ 1.005|round(2) }}", "2.68 1.01"),
        ("{{ 2.1|round(0, 'ceil') }} {{ 2.9|round(0, 'floor') }}", "3 2"),
        ("{{ 7|round }} {{ '2.5'|round }}", "7 3"),
    ],
)
def test_round_rounds_half_away_from_zero_and_gives_whole_numbers(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize("source", ["{{ x|round(16) }}", "{{ x|round(-1) }}", "{{ x|round(1, 'up') }}"])
def test_round_names_what_it_takes(source: str) -> None:
    assert refusal(source, x=1.5).message.startswith("`round` takes")


# --- what is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if x %}a{% else %}b{% endif %}", "b"),
        ("{% if not x %}a{% endif %}", "a"),
        ("{% if x and x.y %}a{% else %}b{% endif %}", "b"),
        ("{% if x.y.z %}a{% else %}b{% endif %}", "b"),
        ("{% if x['y'][0] %}a{% else %}b{% endif %}", "b"),
        ("{% if o.x %}a{% else %}b{% endif %}", "b"),
        ("{% if n.x %}a{% else %}b{% endif %}", "b"),
        ("{% if x == 'a' %}a{% elif x != 'a' %}b{% endif %}", "b"),
        ("{% if 'a' in x %}a{% else %}b{% endif %}", "b"),
        ("{{ x or 'b' }}", "b"),
        ("{{ 'a' if x else 'b' }}", "b"),
        ("{{ x|default('b') }}{{ x.y|d('c') }}", "bc"),
        ("{{ n|default('b') }}", "b"),
        ("{{ e|default('b') }}{{ e|default('b', true) }}", "b"),
        ("{% for a in x or [] %}a{% else %}b{% endfor %}", "b"),
        ("{{ 'a' if x }}", ""),
        ("{{ 'a' if o }}", ""),
        ("{{ [x, 'b', n]|select|join(', ') }}", "b"),
        ("{% if loop_free is defined %}a{% else %}b{% endif %}", "b"),
        ("{% for a in [1, 2] %}{% if loop.previtem %}{{ loop.previtem }}{% endif %}{% endfor %}", "1"),
    ],
)
def test_what_is_missing_is_false_in_a_test(source: str, text: str) -> None:
    assert render(source, o={}, n=None, e="") == text


def test_the_error_of_a_missing_variable_has_line_and_way_out() -> None:
    problem = refusal("\n{{ nick }}")
    assert (problem.code, problem.line) == (Code.VARIABLE_MISSING, 2)
    assert problem.message.startswith("`nick` is not there; write `{% if nick %}` or `|default(…)`")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for a in n %}{% endfor %}", "`n` is null; write `for … in n or []`"),
        ("{% for a in o.t %}{% endfor %}", "`o.t` is not a list"),
        ("{{ n.upper() }}", "`upper` is asked of what is null"),
        ("{{ n|length }}", "a null stands where a value is needed"),
        ("{{ n + 1 }}", "`+` needs numbers"),
        ("{{ 'a' + 1 }}", "`~` joins texts"),
        ("{{ o.t|sum }}", "`sum` needs a list"),
    ],
)
def test_a_null_that_is_used_says_so(source: str, words: str) -> None:
    assert words in refusal(source, n=None, o={"t": 1}).message


def test_the_keys_of_an_object_are_never_its_methods() -> None:
    assert render("{% if o.items %}a{% endif %}{{ o.values|default('b') }}", o={}) == "b"
    assert render("{% for k, v in o.items() %}{{ k }}{% endfor %}{{ o.items }}", o={"items": "x"}) == "itemsx"
    assert render("{{ o.get('a') }}{{ o.keys()|join }}", o={"a": "x", "get": "y"}) == "xaget"


def test_both_ways_to_refuse_are_one_kind() -> None:
    with pytest.raises(Rejected) as caught:
        render("{{ true }}")
    assert caught.value.problems[0].code is Code.RENDER_FAILED
