"""Where the body of a page begins, and what is a whole page: by tags, and by nothing that only looks so."""

from dataclasses import replace

import pytest

from postroom.letter.html.document import Place, body_starts, is_whole_page
from postroom.letter.html.layout import flatten
from postroom.letter.language.locale_tags import direction_of, language_of
from postroom.letter.language.pieces import split
from postroom.letter.problems import Code, Rejected
from tests.letter.factories import event, layout, live, problem_of

HERE = "⚑"
"""Stands in each page where the preview line belongs."""

PAGES = [
    "<html><body>⚑a</body></html>",
    "<html><body class=\"a>b\" title='c>d'>⚑a</body></html>",
    "<!-- <body> --><!DOCTYPE html><HTML><BODY\n class=a\n>⚑a",
    "<title><body></title><script>'<body>'</script><style>/* <body> */</style><body>⚑a",
    "<!--[if mso]><body class=mso><![endif]--><!--[if !mso]><!--><body>⚑a<!--<![endif]-->",
    "<![if !mso]><body>⚑<![endif]>a",
    '<html><body class="{{ a }}" {% if b %}dir="rtl"{% endif %}>⚑a',
    '<html><body{% if b %} dir="rtl"{% endif %}>⚑a',
    "<body>⚑a<body class=b>c",
    "{{ a }}<body>⚑b",
    "<template><body></template><body>⚑b",
    "<html><head><title>a</title></head>\n⚑<p>b</p></html>",
    "<!doctype html><title>a</title><meta charset=utf-8>\n⚑b",
    "<!-- c --> <!doctype html>⚑<p>a",
    "\ufeff<?xml version='1.0'?><!doctype html><html>⚑<p>a",
    "<html><head>{% if a %}<title>b</title>{% endif %}</head>{% set c = 1 %}⚑{{ c }}",
    "<html>⚑{% if a %}<p>b</p>{% endif %}c",
    "<html>{% macro b() %}<p>c</p>{% endmacro %}⚑<p>a",
    "<html><head><noscript><style>p{}</style></noscript></head>⚑<p>a",
    "{% if a %}<body dir=rtl>⚑{% else %}<body>⚑{% endif %}b",
    "{% if a %}<body dir=rtl>⚑b{% else %}<body>⚑c{% endif %}d",
    "{% if a %}<body dir=rtl>{% endif %}⚑b",
    "{% if a %}<body>{% elif c %}<body class=c>{% endif %}⚑b",
    "{% if a %}<html><body>⚑b</body></html>{% endif %}",
    "{% raw %}{{{% endraw %}<html><body>⚑a",
    "<html><head></head>⚑",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_preview_line_stands_first_in_the_body(page: str) -> None:
    pieces = split(page.replace(HERE, ""), "spec.html")
    texts = [piece.text for piece in pieces]
    for place in reversed(body_starts(pieces)):
        if place.piece == len(texts):
            texts.append(HERE)
        else:
            text = texts[place.piece]
            texts[place.piece] = text[: place.offset] + HERE + text[place.offset :]
    assert "".join(texts) == page


def test_places_keep_the_length_of_what_a_tokenizer_would_change() -> None:
    before = "<html><!-- \x1a1\x1b --><body>"
    assert body_starts(split(f"{before}a", "spec.html")) == [Place(0, len(before))]


@pytest.mark.parametrize(
    ("html", "whole"),
    [
        ("<html><body>a", True),
        ("<!DOCTYPE html><p>a", True),
        ("\ufeff \n<!-- c --><?xml version='1.0'?>\n<!doctype html><p>a", True),
        ("{% set a = 1 %}<HTML{% if a %} lang=en{% endif %}>", True),
        ("<p>a</p>", False),
        ("<!-- <html> --><p>a</p>", False),
        ("<p title='<html>'>&lt;html></p>", False),
        ("<style>/* <!doctype html> */</style><p>a</p>", False),
        ("<htmlx>a", False),
    ],
)
def test_a_page_is_whole_by_its_tags(html: str, whole: bool) -> None:
    assert is_whole_page(split(html, "spec.html")) is whole


@pytest.mark.parametrize(
    "use",
    ["{{ letter.preheader }}", "{{letter['preheader']|upper}}", "{% set p = letter.preheader %}{{ p }}"],
)
def test_a_preview_line_that_the_author_places_is_not_added_again(use: str) -> None:
    page = f"<html><body>{use}<p>a</p></body></html>"
    assert flatten(page, "spec.html", None, preheader=True).text == page


def test_lines_stay_where_they_were_after_the_preview_line() -> None:
    page = "<html>\n<body\n>a\n{{ nmae }}</body></html>"
    assert problem_of(page, preheader="Peek").line == 4


def test_the_preview_line_is_not_in_the_text() -> None:
    letter = live("<html><body>{{ name }}</body></html>", preheader="Peek").render(event(name="x"))
    assert "Peek" in letter.html
    assert letter.text == "x\n"


def test_blocks_stand_in_values_titles_and_style_sheets() -> None:
    page = layout(
        "<html><head><title>{% block title %}T{% endblock %}</title>"
        "<style>p { color: {% block colour %}red{% endblock %} }</style></head>"
        '<body class="{% block class %}a{% endblock %}">{% block content %}{% endblock %}</body></html>'
    )
    html = (
        "{% block title %}{{ super() }}: {{ name }}{% endblock title %}{% block colour %}blue{% endblock %}"
        "{% block class %}{{- super() -}} b{% endblock %}{% block content %}<p>c</p>{% endblock %}"
    )
    flat = flatten(html, "spec.html", page).text
    assert "<title>T: {{ name }}</title>" in flat
    assert "color: blue" in flat
    assert 'class="a b"' in flat or 'class="ab"' in flat


@pytest.mark.parametrize(
    ("html", "line", "words"),
    [
        ("{% block content %}a{% endblock %}\n{% block content %}b{% endblock %}", 2, "filled twice"),
        ("{% block content %}a\n{% endblock foot %}", 2, "ends the block `content`"),
        ("{% block content %}\n{{ super()|upper }}{% endblock %}", 2, "`{{ super() }}` alone"),
        ("\n{% block %}a{% endblock %}", 2, "needs a name"),
        ("{% block content %}a{% endblock %}\n\n{% block x %}{% endblock %}", 3, "no block `x`"),
    ],
)
def test_a_mistake_in_a_block_is_named_with_its_line(html: str, line: int, words: str) -> None:
    with pytest.raises(Rejected) as caught:
        flatten(html, "spec.html", layout("<html><body>{% block content %}{% endblock %}</body></html>"))
    [problem] = caught.value.problems
    assert (problem.field, problem.line) == ("spec.html", line)
    assert problem.code in (Code.TEMPLATE_SYNTAX, Code.BLOCK_NOT_FOUND)
    assert words in problem.message


@pytest.mark.parametrize(
    ("tag", "direction"),
    [
        ("en", "ltr"),
        ("ar-EG", "rtl"),
        ("he", "rtl"),
        ("dv", "rtl"),
        ("az", "ltr"),
        ("az-Arab", "rtl"),
        ("AZ-arab-IR", "rtl"),
        ("az-IR", "rtl"),
        ("ks", "rtl"),
        ("ks-Deva", "ltr"),
        ("ar-Latn", "ltr"),
        ("not a tag", "ltr"),
        ("", "ltr"),
    ],
)
def test_the_direction_is_that_of_the_script(tag: str, direction: str) -> None:
    assert direction_of(tag) == direction


def test_a_layout_can_ask_for_language_and_direction() -> None:
    assert language_of("AR-EG") == "ar"
    html = '<html lang="{{ letter.language }}" dir="{{ letter.direction }}"><body>{{ name }}</body></html>'
    template = live(html, locales=[{"tag": "ar", "subject": "x"}])
    assert '<html lang="ar" dir="rtl">' in template.render(replace(event(name="x"), locale="ar-EG")).html
    assert '<html lang="en" dir="ltr">' in template.render(event(name="x")).html
