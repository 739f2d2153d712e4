"""The language that designers and developers know: macros, blocks, filters; and escaping in all of them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.language.bounds import RenderBudget
from postroom.letter.language.environment import HTML, TEXT, Script
from postroom.letter.language.grammar import yields_markup
from postroom.letter.problems import Code
from tests.letter.factories import (
    event,
    layout,
    live,
    one_sample,
    problem_of,
    refusal,
    render,
    validated,
    variables,
)

BUTTON = '{% macro button(url, label="Open") %}<a href="{{ url }}">{{ label }}</a>{% endmacro %}'
CARD = "{% macro card(t) %}<h1>{{ t }}</h1>{{ caller() }}{% endmacro %}"
EACH = "{% macro each() %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}"
ITEMS = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            BUTTON + "{{ button('u', x) }}{{ button(label='L', url='v') }}",
            '<a href="u">&lt;i&gt;</a><a href="v">L</a>',
        ),
        (BUTTON + "{{ button('u') ~ x }}", '<a href="u">Open</a>&lt;i&gt;'),
        (
            CARD + "{% call card(x) %}<b>{{ x }}</b>{% endcall %}",
            "<h1>&lt;i&gt;</h1><b>&lt;i&gt;</b>",
        ),
        (
            EACH + "{% call(i) each() %}<li>{{ i }}{% endcall %}",
            "<li>a<li>b<li>c<li>d<li>e",
        ),
        ("{% macro m() %}{{ varargs|join('+') }}{{ kwargs.a }}{% endmacro %}{{ m(1, 2, a=3) }}", "1+23"),
        ("{% set y %}<b>{{ x }}</b>{% endset %}{{ y }}{{ y|upper }}", "<b>&lt;i&gt;</b><B>&LT;I&GT;</B>"),
        ("{% set y | striptags %}<b>{{ x }}</b>{% endset %}{{ y }}", "&lt;i&gt;"),
        ("{% filter striptags %}<b>{{ x }}</b>{% endfilter %}", "&lt;i&gt;"),
        ("{% filter upper|replace('B', 'C') %}<b>{{ x }}</b>{% endfilter %}", "<C>&LT;I&GT;</C>"),
        ("{% with url='u', label=x %}{{ url }}{{ label }}{% endwith %}", "u&lt;i&gt;"),
        (
            "{% set n = namespace(s=0) %}{% for i in [1, 2.5] %}{% set n.s = n.s + i %}{% endfor %}{{ n.s }}",
            "3.5",
        ),
        ("{% set n = namespace() %}{% if n.a %}{% else %}b{% endif %}", "b"),
        ("{% set c = cycler('a', x) %}{{ c.next() }}{{ c.next() }}{{ c.current }}", "a&lt;i&gt;a"),
        ("{% set j = joiner(x) %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "&lt;i&gt;".join(ITEMS)),
        ("{{ dict(a=x).a }}{{ dict({'b': 2}).b }}", "&lt;i&gt;2"),
    ],
)
def test_jinjas_blocks_and_functions_work_and_escape(source: str, text: str) -> None:
    assert render(source, x="<i>", l=ITEMS) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ l|batch(2)|map('join', '+')|join(' ') }}", "a+b c+d e"),
        ("{{ l|batch(2, '-')|map('join', '+')|join(' ') }}", "a+b c+d e+-"),
        ("{{ []|batch(2, '-')|list|length }}", "0"),
        ("{{ l|slice(2)|map('join', '+')|join(' ') }}", "a+b+c d+e"),
        ("{{ l|slice(2, '-')|map('join', '+')|join(' ') }}", "a+b+c d+e+-"),
        ("{{ l|slice(5)|map('join', '+')|join(' ') }}", "a b c d e"),
        ("{{ 'the quick  brown fox\njumps'|wordwrap(10) }}", "the quick\nbrown fox\njumps"),
        ("{{ 'abcdefgh i'|wordwrap(3) }}", "abc\ndef\ngh\ni"),
        ("{{ 'abcdefgh i'|wordwrap(3, false) }}", "abcdefgh\ni"),
        ("{{ 'a b'|wordwrap(1, true, '|') }}", "a|b"),
        ("{{ 'a\n\nb'|indent(2) }}", "a\n\n  b"),
        ("{{ 'a\n\nb'|indent('> ', true, true) }}", "> a\n> \n> b"),
        ("{{ '<p>a &lt;b&gt;</p><p>c<br>d</p><!-- e -->f<b>g</b>'|striptags }}", "a <b> c d fg"),
        ("{{ 'hello big world'|truncate(8) }}", "hello..."),
        ("{{ 'hello big world'|truncate(8, true, '…') }}", "hello b…"),
        ("{{ 'hello big'|truncate(8) }}", "hello big"),
        ("{{ '%s is %d, %05.1f, %-3s|%%'|format('a', 7, 2.25, 'b') }}", "a is 7, 002.2, b  |%"),
        ("{{ '%(n)s %(n)s'|format(n='a') }}", "a a"),
        ("{{ '%s-%s' % ('a', 1.0) }}", "a-1"),
        ("{{ '%d' % 3 }}", "3"),
        ("{{ {'a': 'b c', 'd': 1}|urlencode }} {{ 'ä/b'|urlencode }}", "a=b+c&d=1 %C3%A4/b"),
        ("{{ 'a\r\nb\rc\nd'|nl2br }}", "a\nb\nc\nd"),
        ("{{ '<a>&'|e }}", "<a>&"),
        ("{{ {'a': ['<é>', true, none, 1.5]}|tojson }}", '{"a": ["\\u003cé\\u003e", true, null, 1.5]}'),
        ("{{ [1]|tojson(2) }}", "[\n  1\n]"),
    ],
)
def test_filters_give_what_jinjas_readers_expect(source: str, text: str) -> None:
    assert render(source, TEXT, l=ITEMS) == text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ '%d'|format('hunter2') }}", "`%d` of `format` needs a number"),
        ("{{ '%s %s'|format('a') }}", "fewer values"),
        ("{{ '%s'|format('a', 'b') }}", "more values"),
        ("{{ '%(a)s'|format(b=1) }}", "no value for `%(a)s`"),
        ("{{ '%(a)s'|format(1) }}", "fewer values"),
        ("{{ '%s'|format(1, a=2) }}", "with names or without"),
        ("{{ '%r'|format('hunter2') }}", "no directive `%r`"),
        ("{{ 'a %'|format(1) }}", "no directive `%`"),
        ("{{ '%d'|format(true) }}", "`format` needs a text"),
        ("{{ l|batch(0) }}", "`batch` takes a whole number from 1"),
        ("{{ 1|batch(2) }}", "`batch` needs a list"),
        ("{{ l|slice('a') }}", "`slice` takes"),
        ("{{ l|tojson(9) }}", "`tojson` takes"),
        ("{{ range|tojson }}", "`tojson` needs"),
        ("{% macro m(a) %}{% endmacro %}{{ m(b=1) }}", "macro 'm' takes no keyword argument 'b'"),
        ("{% macro m(a) %}{{ a }}{% endmacro %}{{ m() }}", "parameter 'a' was not provided"),
        ("{% set d.a = 1 %}", "only an attribute of a `namespace(…)` can be set"),
        ("{{ l() }}", "only macros, functions and methods"),
        ("{% from 'a' import b %}", 'write `{% include "name" %}` for the partial with the macros'),
        ("{{ x|safe }}", "write the elements in the template"),
    ],
)
def test_a_mistake_is_explained(source: str, words: str) -> None:
    problem = refusal(source, l=ITEMS, d={}, x="hunter2")
    assert words in problem.message
    assert "hunter2" not in problem.message


def test_tojson_is_raw_in_a_script_alone() -> None:
    value = {"a": "</script>\"'&\u2028"}
    written = '{"a": "\\u003c/script\\u003e\\"\\u0027\\u0026\\u2028"}'
    escaped = written.replace('"', "&#34;")
    source = (
        "{{ x|tojson }}<script type='application/ld+json'>{{ x|tojson }}</script>"
        '<p title="<script>{{ x|tojson }}">{{ x|tojson }}</p>'
        '<script data-x="{{ x|tojson }}">{{ x|tojson }}</script>'
        "<!-- <script> {{ x|tojson }} --><scripted>{{ x|tojson }}"
    )
    assert render(source, x=value) == (
        f"{escaped}<script type='application/ld+json'>{written}</script>"
        f'<p title="<script>{escaped}">{escaped}</p><script data-x="{escaped}">{written}</script>'
        f"<!-- <script> {escaped} --><scripted>{escaped}"
    )


SOURCES = [
    "{{ x|nl2br }}",
    "{{ x|striptags }}",
    "{{ x|wordwrap(3) }}",
    "{{ x|indent }}",
    "{{ '%s'|format(x) }}",
    "{{ x|truncate(5) }}",
    "{{ x|e|e }}",
    "{{ [x]|batch(1)|first|join }}",
    "{{ x|tojson }}",
    "{% set y %}{{ x }}{% endset %}{{ y }}",
    "{% set y | striptags %}{{ x }}{% endset %}{{ y }}",
    "{% filter striptags %}{{ x }}{% endfilter %}",
    "{% filter wordwrap(2) %}{{ x }}{% endfilter %}",
    "{% macro m(a) %}{{ a }}{{ caller() }}{% endmacro %}{% call m(x) %}{{ x }}{% endcall %}",
    "{% call dict(a=x) %}{% endcall %}",
    "{% set j = joiner(x) %}{{ j() }}{{ j() }}",
    "{{ namespace(a=x).a }}{{ cycler(x).next() }}",
]


@given(st.text(alphabet="<>&;'\"abltgscrip/#12\n %{}", max_size=30), st.sampled_from(SOURCES))
@settings(max_examples=200, deadline=None)
def test_no_value_brings_an_element_into_html(value: str, source: str) -> None:
    try:
        text = render(source, x=value)
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001  refused is fine too
        return
    assert "<" not in text.replace("<br>", "")


@given(st.text(max_size=40), st.sampled_from(["{{ x|nl2br }}", "{{ x|e }}", "{{ x }}", "{{ x|string }}"]))
@settings(max_examples=50, deadline=None)
def test_text_parts_escape_nothing(value: str, source: str) -> None:
    expected = value.replace("\r\n", "\n").replace("\r", "\n") if "nl2br" in source else value
    assert render(source, TEXT, x=value) == expected


@given(st.text(max_size=200), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_wrapped_words_fit_and_none_is_lost(value: str, width: int) -> None:
    text = render("{{ x|wordwrap(w) }}", TEXT, x=value, w=width)
    assert all(len(line) <= width for line in text.split("\n"))
    assert "".join(text.split()) == "".join(value.split())


@pytest.mark.parametrize("text", ["<" * 200_000, "<!--" * 50_000, "<a" * 100_000, "<" + "a" * 200_000])
def test_tags_are_stripped_in_one_go(text: str) -> None:
    render("{{ x|striptags|length }}", x=text)


@pytest.mark.parametrize(
    ("source", "markup"),
    [
        ("<p>{{ x }}</p>", False),
        ("{{ x|e }}{{ x|tojson }}{% set y = x %}{{ y }}", False),
        ("{{ x|nl2br }}", True),
        ("{% for a in x %}{{ a|trim|nl2br|upper }}{% endfor %}", True),
        (BUTTON + "{{ button(x) }}", True),
        ("{% macro m() %}Hello{% endmacro %}{{ m() }}", False),
        ("{% set y %}<b>{% endset %}", True),
        ("{% set y %}Dear {{ x }}{% endset %}", False),
        ("{% filter upper %}<b>{% endfilter %}", True),
        ("{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}<b>{% endcall %}", True),
    ],
)
def test_a_template_that_makes_elements_of_values_is_recognized(source: str, markup: bool) -> None:
    assert yields_markup(HTML.parse(source)) is markup


# --- partials and layouts -------------------------------------------------------------------------

PAGE = layout(
    "{% include 'macros' %}<html lang='en'><body>{% block content %}{% endblock %}</body></html>",
    partials=[
        {"name": "macros", "html": BUTTON},
        {"name": "link", "html": '<a href="{{ url }}">{{ label }}</a>'},
    ],
)


def test_a_macro_of_a_layouts_partial_is_called_in_the_template() -> None:
    assert (
        '<a href="https://x.org">Zoë</a>'
        in validated('{{ button("https://x.org", name) }}', page=PAGE).samples[0].rendered.html
    )


def test_a_partial_takes_what_with_gives_it() -> None:
    html = '{% with url="https://x.org", label=name %}{% include "link" %}{% endwith %}'
    assert '<a href="https://x.org">Zoë</a>' in validated(html, page=PAGE).samples[0].rendered.html


# --- CSS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "css",
    [
        "@media(max-width:600px){#main{width:100%}}",
        "@media x{#a,#b>c{color:red}}",
        "@media x{#a:hover{color:#fff}#b{}}",
        "@media x{#-a{}}@media y{#b{}}",
        "@media x{#\\31 a{}}",
        "@media x{#ärger{}}",
    ],
)
def test_an_id_selector_after_a_brace_is_css(css: str) -> None:
    assert render(f"<STYLE type='text/css'>{css}</STYLE>{{{{ x }}}}{{# a #}}", x="y") == (
        f"<STYLE type='text/css'>{css}</STYLE>y"
    )


@pytest.mark.parametrize("remark", ["{# remark #}", "{#remark#}", "{#- x -#}", "{#a, b\n: c #}", "{# {#a #}"])
def test_a_comment_in_a_style_is_a_comment(remark: str) -> None:
    assert render(f"<style>a{{b:c}}{remark}</style>") == "<style>a{b:c}</style>"


def test_lines_are_those_of_the_source_after_such_css() -> None:
    problem = refusal("<style>\n@media x{#a{b:c}}\n</style>\n{{ gone }}")
    assert problem.line == 4


def test_a_comment_without_end_is_explained() -> None:
    problem = refusal("a\n<p>{#id</p>")
    assert (problem.line, problem.code) == (2, Code.TEMPLATE_SYNTAX)
    assert "`{#` begins a comment" in problem.message
    assert "a space between `{` and `#`" in problem.message


@pytest.mark.parametrize("css", ["p { color: {{ name }} }", "{% if name %}p { color: red }{% endif %}"])
def test_a_style_sheet_is_no_template(css: str) -> None:
    problem = problem_of("<p>{{ name }}</p>", css=f"\n{css}")
    assert (problem.field, problem.line, problem.code) == ("spec.css", 2, Code.CSS_INVALID)
    assert "is the same for every event" in problem.message


def test_a_style_sheet_may_have_an_id_after_a_brace() -> None:
    assert validated("<p id='a'>{{ name }}</p>", css="@media print{#a{color:red}}").passed


# --- letters --------------------------------------------------------------------------------------


def test_an_escaped_value_is_plain_in_the_text_part() -> None:
    made = live("<p>Hello {{ name|e }}</p>").render(event(name="Tom & Jerry <Ltd>"))
    assert "Hello Tom &amp; Jerry &lt;Ltd&gt;" in made.html
    assert made.text == "Hello Tom & Jerry <Ltd>\n"


def test_a_text_of_several_lines_has_them_in_html() -> None:
    made = live("<p>{{ name|nl2br }}</p>", subject="x").render(event(name="Happy birthday!\nAda & Bob"))
    assert "<p>Happy birthday!<br>Ada &amp; Bob</p>" in made.html
    assert made.text == "Happy birthday!\nAda & Bob\n"


def test_a_null_is_not_in_the_letter() -> None:
    schema: dict[str, Any] = variables(name={"type": "string"}, title={"type": ["string", "null"]})
    letters = live(
        "<p>Hello {{ title }} {{ name }}</p>", variables=schema, samples=one_sample(name="A", title="Dr")
    )
    made = letters.render(event(name="Lovelace", title=None))
    assert "None" not in made.subject + made.html + made.text


def test_the_meter_of_a_macro_is_the_renderings() -> None:
    source = "{% macro m() %}{% for i in l %}{% endfor %}{% endmacro %}" + "{{ m() }}" * 3
    assert refusal(source, l=[0] * 4000).code is Code.RENDER_LIMIT
    assert Script(HTML, source, "x").render({"letter": {}, "l": [0] * 3000}, RenderBudget()) == ""
