"""CSS onto elements: on pages and on source, with nothing read and nothing lost."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from postroom.letter.html.css import read_css
from postroom.letter.html.inline import canonical, inline_page, inline_source
from postroom.letter.html.protect import CannotInline
from postroom.letter.problems import Code, Rejected
from tests.letter.specimens import problem_of, proved, render, variables

PAGE = "<!doctype html>\n<html><head><title>t</title></head><body>{}</body></html>"
CSS = "p { color: #102030; margin: 0 } .hot { color: #ff0000 } a:hover { color: #00ff00 }"


@pytest.fixture
def no_way_out() -> Iterator[None]:
    """Fail when anything opens a file or a connection."""

    def refuse(*what: object, **_: object) -> None:
        raise AssertionError(f"opened {what}")

    inline_page("<p>warm</p>", "p { color: red }")
    with patch("builtins.open", refuse), patch("socket.socket", refuse), patch("codecs.open", refuse):
        yield


def test_styles_go_onto_elements_and_states_stay_important() -> None:
    out = inline_page(PAGE.format('<p class="hot">x</p><a href="https://x.org/?a=1&amp;b=2">y</a>'), CSS)
    assert '<p class="hot" style="color:#f00; margin:0">' in out
    assert "a:hover { color:#00ff00 !important }" in out
    assert 'href="https://x.org/?a=1&amp;b=2"' in out
    assert out.startswith("<!doctype html>\n<html>")


def test_media_queries_stay_and_win() -> None:
    css = "p { color: #111111 } @media (prefers-color-scheme: dark) { p { color: #eeeeee; } }"
    out = inline_page(PAGE.format("<p>x</p>"), css)
    assert "@media (prefers-color-scheme: dark) {\np { color:#eeeeee !important }\n}" in out
    assert out.index("<style>") < out.index("</head>")


def test_styles_of_the_page_come_after_those_of_the_manifest() -> None:
    page = "<html><head><style>p { color: #222222 }</style></head><body><p>x</p></body></html>"
    assert 'style="color:#222"' in inline_page(page, "p { color: #111111 }")


def test_a_page_without_css_is_left_as_it_is() -> None:
    page = "<P>no closing tag &nbsp; {x}"
    assert inline_page(page, "") == page


@pytest.mark.usefixtures("no_way_out")
@pytest.mark.parametrize(
    "html",
    [
        '<link rel="stylesheet" href="/etc/passwd">',
        '<link rel="stylesheet" href="file:///etc/passwd">',
        '<link rel="stylesheet" href="http://127.0.0.1:9/x.css">',
        '<img src="http://127.0.0.1:9/x.png">',
        '<p style="background: url(http://127.0.0.1:9/x.png)">x</p>',
        "<style>p { background: url(file:///etc/passwd) }</style>",
    ],
)
def test_nothing_is_read_that_a_letter_names(html: str) -> None:
    out = inline_page(PAGE.format(html + "<p>x</p>"), "p { color: #102030 }")
    assert "root:" not in out
    assert "color:#102030" in out


@pytest.mark.parametrize("css", ["@import url(http://127.0.0.1:9/x.css);", '@import "/etc/passwd";'])
def test_an_import_is_refused_with_its_line(css: str) -> None:
    with pytest.raises(Rejected) as caught:
        inline_page(PAGE.format(""), f"p {{ color: red }}\n{css}")
    problem = caught.value.problems[0]
    assert (problem.code, problem.line) == (Code.CSS_INVALID, 2)
    assert "@import" in problem.message


@pytest.mark.parametrize(
    ("css", "line"),
    [
        ("p { color: red }\np { color }", 2),
        ("p { color: red }\n\n}", 3),
        ("\np[ { color: red }", 2),
        ("p { color: red }\n@font-feature-values x { }", 2),
        ("@media print {\n  p { color: red }\n  q { color }\n}", 3),
        ("p { q { color: red } }", 1),
    ],
)
def test_a_mistake_in_css_has_its_line(css: str, line: int) -> None:
    with pytest.raises(Rejected) as caught:
        read_css(css)
    assert (caught.value.code, caught.value.problems[0].line) == (Code.CSS_INVALID, line)


@pytest.mark.parametrize(
    ("css", "words"),
    [
        ("h1 color: red", "write `selector { property: value }`"),
        ("h1 { color red }", "in `h1`: this is no declaration: write `property: value;`"),
        ("h1 { color: red } }", "a { for each }"),
    ],
)
def test_a_mistake_in_css_is_said_without_the_parsers_words(css: str, words: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_css(css)
    assert words in caught.value.problems[0].message


def test_a_mistake_in_a_style_element_has_the_line_of_the_html() -> None:
    problem = problem_of("<p>{{ name }}</p>\n<style>\np { color: red }\np { color }\n</style>")
    assert (problem.field, problem.line) == ("spec.html", 4)


def test_what_mail_clients_do_not_know_is_kept_for_those_that_do() -> None:
    sheet = read_css(
        "* { margin: 0 } p { color: red } p::before { content: 'x' } @supports (x: y) { p { a: b } }"
    )
    assert sheet.inlined == "p { color:red }"
    assert "* { margin:0 !important }" in sheet.kept
    assert "p::before" in sheet.kept
    assert "@supports" in sheet.kept


SAME = [
    "<p>{{ a }}</p>",
    '<p class="hot">{% if a %}<b>{{ a }}</b>{% else %}<i class="hot">none</i>{% endif %}</p>',
    '<table>{% for x in items %}<tr><td class="hot">{{ x }}</td></tr>{% endfor %}</table>',
    '<a href="https://x.org/{{ a|urlencode }}?q={{ a }}&amp;r=1" title="{{ a }}">{{ a|upper }}</a>',
    '<p {% if a %}align="left"{% endif %}>x</p>',
    "<p>{% raw %}{{ not jinja }}{% endraw %}</p>",
    "<p>{# a comment <p> #}x</p>",
    "<!--[if mso]><p>{{ a }}</p><![endif]--><p>x</p>",
    "<p>&nbsp;&lt;{{ a }}&gt; é 田</p>",
    '<img src="{{ a }}" alt="">{% set b = a %}<p>{{ b }}</p>',
    "<p>{% for x in items %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}</p>",
    "<ul>{% for x in items %}\n  {%- if x %}<li>{{ x }}</li>{% endif -%}\n{% endfor %}</ul>",
]


@pytest.mark.parametrize("body", SAME)
@pytest.mark.parametrize("data", [{"a": "Zoë & <b>", "items": ["x", "<y>"]}, {"a": "", "items": []}])
def test_inlining_source_gives_the_page_that_inlining_afterwards_gives(
    body: str, data: dict[str, Any]
) -> None:
    source = (
        "<!doctype html><html><head><title>{{ a }}{% if a %}!{% endif %}</title></head><body>"
        + body
        + "</body></html>"
    )
    css = CSS + " td { padding: 1px } b, i { color: #333333 } @media print { p { color: #000 } }"
    early = render(inline_source(source, css), **data)
    late = inline_page(render(source, **data), css)
    assert canonical(early) == canonical(late)
    assert "jx" not in early


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('<p class="{{ a }}">x</p>', "`class` depends"),
        ('<p class="{% if a %}hot{% endif %}">x</p>', "`class` depends"),
        ('<p id="{{ a }}">x</p>', "`id` depends"),
        ('{% if a %}<div class="hot">{% else %}<div>{% endif %}<p>x</p></div>', "another shape"),
        ("<style>p { color: {{ a }} }</style><p>x</p>", "CSS itself"),
    ],
)
def test_what_an_event_could_change_is_inlined_afterwards(source: str, reason: str) -> None:
    with pytest.raises(CannotInline, match=reason):
        inline_source(source, CSS)


def test_neighbours_count_only_where_nothing_can_come_between() -> None:
    css = "li:first-child { color: #111111 }"
    assert "style=" in inline_source("<ul><li>{{ a }}</li><li>y</li></ul>", css)
    with pytest.raises(CannotInline, match="first-child"):
        inline_source("<ul>{% if a %}<li>{{ a }}</li>{% endif %}<li>y</li></ul>", css)


def test_a_template_that_is_inlined_at_each_letter_says_why_and_is_right() -> None:
    html = '<style>.hot { color: #ff0000 }</style><p class="{{ kind }}">x</p>'
    spec: dict[str, Any] = {
        "subject": "x",
        "variables": variables(kind={"type": "string"}),
        "samples": [{"name": "a", "data": {"kind": "hot"}}, {"name": "b", "data": {"kind": "cold"}}],
    }
    proof = proved(html, **spec)
    assert proof.compiled is not None
    assert proof.compiled.editions[0].inline == "render"
    assert any("`class` depends on the event" in warning.message for warning in proof.warnings)
    hot, cold = (sample.rendered.html for sample in proof.samples)
    assert 'style="color:#f00"' in hot
    assert "style=" not in cold


def test_a_template_is_inlined_once_where_that_is_sure() -> None:
    compiled = proved("<style>p { color: #ff0000 }</style><p>{{ name }}</p>").compiled
    assert compiled is not None
    assert compiled.editions[0].inline == "source"
    assert '<p style="color:#f00">{{ name }}</p>' in compiled.editions[0].html
