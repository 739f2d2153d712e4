"""The text of reduced source against the text of the page: the same for every template and event."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from postroom.letter.html.plaintext import text_of_page
from postroom.letter.html.textsource import text_of_source
from postroom.letter.html.tokens import CannotInline
from postroom.letter.problems import Rejected
from tests.letter.specimens import render

BOTH = [
    "<p>{{ a }}</p>",
    "<p>Smith &amp; {{ a|e }} &lt;{{ b }}&gt;</p>",
    "<ol>{% for each in list %}<li>{{ each }}</li>{% endfor %}</ol>",
    "<ol>{% for each in list %}<li>{{ each }}{% endfor %}</ol>",
    "<ol reversed>{% for each in list %}{% if yes %}<li>{{ each }}</li>{% endif %}{% endfor %}</ol>",
    '<ol start="{{ 3 }}"><li>a</li><li{% if yes %} value="9"{% endif %}>b</li></ol>',
    '<p style="{% if yes %}display:none{% endif %}">{{ a }}</p>b',
    "<p {% if yes %}hidden{% endif %}>{{ a }}</p>b",
    '<p style="display:none;{% if yes %}display:block{% endif %}">{{ a }}</p>b',
    '<div style="white-space:{{ a }}">x\n  y</div>',
    '<td style="font-size:{% if yes %}0{% else %}1px{% endif %}">a<span style="font-size:9px">b</span></td>',
    '<p><a href="{{ a }}">{{ a }}</a> <a href="{{ a }}">{{ b }}</a></p>',
    '<a href="{{ a }}"><table><tr><td>{{ b }}</td></tr></table></a>',
    "<table>{% for each in list %}<tr><td>{{ each }}</td><td>{{ a }}</td></tr>{% endfor %}</table>",
    "<table><tr>{% if yes %}<th>A</th>{% endif %}<td>{{ a }}</td></tr></table>",
    "{% if yes %}<table><tr><td>{% endif %}x{% if yes %}</td></tr></table>{% endif %}",
    "{% if yes %}<p>{% else %}<div>{% endif %}x",
    "<pre>\n\n a  {{ a }}\n\n\n b </pre>",
    "<p>a {%- if yes %} b {%- endif %} c</p>",
    "<p>a<b> {%- if yes %}b{% endif -%} </b> c</p>",
    "<p>{<b>{</b> a }} {<i>% if %}</i> &#123;{ {% raw %}{{ a }}{% endraw %}</p>",
    "<p>&copy<b>x</b> &am<i>p;</i></p>",
    '<img alt="{{ a }}"><img alt="a{% if yes %}b{% endif %}">',
    "<title>{{ a }}</title><style>p{ {{ a }} }</style><!-- {{ a }} -->x",
    '<div style="display:none">{{ a }}&zwnj;&nbsp;{% if yes %}x{% endif %}</div>b',
    '<div style="display:none"><p>{{ a }}</div>b',
    "<p>{{ a }}<svg><text>{{ b }}</text><p>c</svg></p>d",
    "{% set x = a %}<p title='{% set x = b %}'>{{ x }}</p>",
    "<!-- {% set x = a %} --><p>{{ x|default('none') }}</p>",
    "<p>{% for each in list %}<i class='{{ loop.cycle(1, 2) }}'>{{ each }}</i>{% endfor %}</p>",
    '<p style="color:red" style="display:none">x</p>',
    '<p style="color:red" STYLE="display:none">x</p><SPAN HIDDEN>y</SPAN>',
    "<p style='display:none' hidden=''>x</p><p hidden style='display:block'>y</p>",
    "<!DOCTYPE html><p>a<table><tr><td>b</table>c",
    "<p>a<table><tr><td>b</table>c",
    "<ul><li>a<ul style='list-style:none'><li>b</ul><li type=square>c</ul>",
    "{% for each in list %}<i>a<q></i>{{ each }}{% endfor %}",
    "<p><b>a</p><q></b>b",
    "<i><q>{% if yes %}</i>{% endif %}a",
    "{% if yes %}<i><q>{% endif %}a</i>b",
    "<noscript><pre>a  {\n{{ a }}</pre><b title='{% if yes %}a{% endif %}'>b</b></noscript>",
    "<select><option>{{ a }}</select><textarea><b>{{ b }}</textarea>x",
]
DATA: list[dict[str, Any]] = [
    {"a": "x", "b": "y", "yes": True, "list": ["one", "two"]},
    {"a": "x", "b": "y", "yes": False, "list": []},
    {"a": "a&<b> \"c'\n\n d", "b": "&amp;", "yes": True, "list": ["<li>", "\x1a0\x1b\x01", "{{ a }}"]},
    {"a": "pre-line", "b": "", "yes": False, "list": [" ", "\u200c\u00a0", "x\u00a0y"]},
]


@pytest.mark.parametrize("source", BOTH)
def test_the_text_is_the_same_whichever_way_it_is_derived(source: str) -> None:
    reduced = text_of_source(source)
    for data in DATA:
        assert text_of_page(render(reduced, **data)) == text_of_page(render(source, **data)), reduced


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("<{{ a }}>x", "stands before a value"),
        ("<h{{ a }}>x", "name of an element"),
        ("a &am{{ a }}", "stands before a value"),
        ("<p title={{ a }}>x", "without quotes"),
        ("<p {{ a }}>x", "without quotes"),
        ('<p {% if yes %}title="{% endif %}a">x', "different tags or attributes"),
        ("{% if yes %}<!-- {% endif %}a-->", "different tags or attributes"),
        ("{% if yes %}<style>{% endif %}a</style>", "different tags or attributes"),
        ("<!-- a -{% if yes %}-{% endif %}> b -->c", "markup is being declared"),
        ("<style></{% if yes %}style{% endif %}></style>", "could end"),
        ("</p {% if yes %}x{% endif %}>", "markup is being declared"),
        ("<style>{% set x = 1 %}</style>{{ x }}", "assigns or calls"),
        ("<svg><style>a</style></svg>", "inside <svg>"),
        ("<p title='a", "not closed"),
        ("a\x1a0\x1bb", "control characters"),
        ("<xmp>{{ a }}</xmp>", "as it is written"),
        ("<b>" * 201, "open at once"),
    ],
)
def test_source_that_an_event_could_cut_otherwise_is_refused(source: str, reason: str) -> None:
    with pytest.raises(CannotInline, match=reason):
        text_of_source(source)


def test_elements_that_a_loop_leaves_open_are_kept() -> None:
    source = "{% for each in list %}<span>{{ each }}{% endfor %}<p style='display:none'>x"
    data: dict[str, Any] = {"list": ["a"] * 600}
    assert text_of_page(render(text_of_source(source), **data)) == text_of_page(render(source, **data))
    assert "<span>" in text_of_source(source)


@pytest.mark.parametrize(
    ("source", "reduced"),
    [
        ('<p class="x" style="color:red"><b>a</b> {{ a }}</p>', "<p>a {{ a }}</p>"),
        ("<style>p{}</style><!-- c --><title>{{ a }}</title>a", "a"),
        ('<div style="display:none">{{ a }}&#847;</div>a', '<div style="display:none"></div>a'),
        ('<td style="font-size:14px;padding:0">a</td>', "<td>a</td>"),
        ('<a class="b" href="{{ a }}" style="color:red">a</a>', '<a href="{{ a }}">a</a>'),
    ],
)
def test_what_says_nothing_about_the_text_is_left_out(source: str, reduced: str) -> None:
    assert text_of_source(source) == reduced


NAMES = st.sampled_from(
    "p div span b a ul ol li table tr td th tbody pre br hr blockquote dl dt dd h1 font sup q i svg".split()  # noqa: SIM905  a table
)
STYLES = st.sampled_from(
    [
        "display:none",
        "display:block",
        "color:red",
        "font-size:0",
        "font-size:2em",
        "font:12px/1 x",
        "visibility:hidden",
        "visibility:visible",
        "white-space:pre-line",
        "white-space:pre",
        "white-space:normal",
        "list-style:none",
        "{% if yes %}display:none{% endif %}",
        "max-height:0;overflow:hidden",
        "{{ a }}",
    ]
)
ATTRIBUTES = st.one_of(
    st.just(""),
    STYLES.map(lambda style: f' style="{style}"'),
    st.sampled_from(
        [
            ' class="x"',
            " hidden",
            " {% if yes %}hidden{% endif %}",
            ' href="{{ a }}"',
            ' href="https://x.y/?a=1&copy=2"',
            " reversed",
            ' type="a"',
            ' value="4"',
            ' role="presentation"',
            ' alt="{{ b }} x"',
            "{% if yes %} style='display:none'{% else %} class='x'{% endif %}",
        ]
    ),
)
WORDS = st.sampled_from(
    [
        "a",
        " ",
        "\n",
        "x  y",
        "{{ a }}",
        "{{ b }}",
        "&amp;",
        "&nbsp;",
        "&zwnj;",
        "&#847;",
        "&am",
        "{",
        "}",
        "{<b>{",
        "<!-- c -->",
        "<style>p{}</style>",
        "<title>t</title>",
        "<br>",
        "<img alt='i'>",
        "{%- if yes -%}a{%- endif %}",
    ]
)
TAGS = st.one_of(
    st.tuples(NAMES, ATTRIBUTES).map(lambda tag: f"<{tag[0]}{tag[1]}>"),
    NAMES.map(lambda name: f"</{name}>"),
)


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    many = st.lists(inner, max_size=4).map("".join)
    return st.one_of(
        st.tuples(NAMES, ATTRIBUTES, many).map(lambda e: f"<{e[0]}{e[1]}>{e[2]}</{e[0]}>"),
        many.map(lambda body: f"{{% if yes %}}{body}{{% endif %}}"),
        st.tuples(many, many).map(lambda e: f"{{% if yes %}}{e[0]}{{% else %}}{e[1]}{{% endif %}}"),
        many.map(lambda body: f"{{% for each in list %}}{body}{{{{ each }}}}{{% endfor %}}"),
        many,
    )


SOURCES = st.recursive(st.one_of(WORDS, WORDS, TAGS), containers, max_leaves=25)
VALUES = st.text(
    st.sampled_from("ab <>&\"';{}%#\n\u00a0\u200c\u200b\x01\x1a0\x1b;\u3042"), max_size=6
) | st.sampled_from(["https://x.y/", "display:none", "mailto:a@b.org", "&amp;", "font-size:0", "amp;"])


@pytest.mark.searches
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(SOURCES, VALUES, VALUES, st.booleans(), st.lists(VALUES, max_size=3))
@example("<ul><li>{{ a }}</ul>", "", "", True, [])
def test_random_templates_give_the_same_text_both_ways(
    source: str, a: str, b: str, yes: bool, many: list[str]
) -> None:
    data: dict[str, Any] = {"a": a, "b": b, "yes": yes, "list": many}
    try:
        page, reduced = render(source, **data), text_of_source(source)
    except (CannotInline, Rejected):
        assume(False)
    assert text_of_page(render(reduced, **data)) == text_of_page(page), reduced
