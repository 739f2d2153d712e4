"""Template source as HTML: where each construct stands, and what data may change."""

from typing import Any

import pytest

from postroom.letter.html.inline import inline_page
from postroom.letter.html.stylesheet import CannotInline
from postroom.letter.html.template_source import TemplateSource, inline_source
from tests.letter.factories import render


@pytest.mark.parametrize(
    ("source", "context", "tag", "attribute"),
    [
        ("<p>{{ a }}</p>", "text", "p", ""),
        ("{{ a }}", "text", "", ""),
        ('<a href="x?{{ a }}">b</a>', "value", "a", "href"),
        ("<a href='{{ a }}'>b</a>", "value", "a", "href"),
        ("<a href={{ a }}>b</a>", "tag", "a", ""),
        ("<a {% if b %}href='x'{% endif %}>b</a>", "tag", "a", ""),
        ("<p>x</p{{ a }}>", "tag", "p", ""),
        ("<!-- {{ a }} -->", "comment", "", ""),
        ("<p><!--[if mso]>{{ a }}<![endif]--></p>", "comment", "p", ""),
        ("<title>{{ a }}</title>", "raw", "title", ""),
        ("<style>p{color:{{ a }}}</style>", "raw", "style", ""),
        ("<p title='<!--'>{{ a }}</p>", "text", "p", ""),
        ("<p>x<br>{{ a }}</p>", "text", "p", ""),
        ("<ul><li>{{ a }}</ul>", "text", "li", ""),
    ],
)
def test_each_construct_has_its_place(source: str, context: str, tag: str, attribute: str) -> None:
    found = TemplateSource(source).constructs[0]
    element = found.element
    # an end tag may belong to what it closes or to what is around it
    assert (found.context, found.attribute) == (context, attribute)
    assert (element.tag if element is not None else "") == tag


def test_the_parsed_copy_has_every_offset_of_the_source() -> None:
    source = TemplateSource(
        "<p class='{{ a }}'>\n{% if\nb %}{# gone #}{% raw %}{{ x }}{% endraw %}{% endif %}</p>"
    )
    assert len(source.markup.source) == len(source.text)
    assert source.markup.source.count("\n") == source.text.count("\n")
    assert "{{ x }}" in source.markup.source


BRANCHES = [
    '<p class="a {% if f %}on{% endif %}">x</p>',
    '<p class="a{% if f %} on{% endif %}">x</p>',
    '<p class="a {% if f %}on{% elif g %}off{% else %}no{% endif %} b">x</p>',
    "<p class=\"a {{ 'on' if f else 'off' }}\">x</p>",
    "<p class=\"a{{ ' on' if f else '' }}\">x</p>",
    "<p class=\"{{ 'on a' if f else 'off a' }} b\">x</p>",
    '<p class="{% if f %}a on{% else %}a off{% endif %}">x</p>',
    '<p class="a x-{% if f %}on{% else %}off{% endif %}">x</p>',
]


@pytest.mark.parametrize("source", BRANCHES)
@pytest.mark.parametrize("data", [{"f": True, "g": True}, {"f": False, "g": True}, {"f": False, "g": False}])
def test_branches_may_decide_classes_that_no_selector_names(source: str, data: dict[str, Any]) -> None:
    css = "p { margin: 0 } .c { color: red } div.b { top: 0 }"
    early = render(inline_source(source, css), **data)
    late = inline_page(render(source, **data), css)
    assert early[early.index("<p") :] == late[late.index("<p") :]


@pytest.mark.parametrize(
    ("source", "css"),
    [
        (BRANCHES[0], ".on { color: red }"),
        (BRANCHES[0], ".ON { color: red }"),
        (BRANCHES[1], "p:not(.on) { color: red }"),
        (BRANCHES[2], ".no { color: red }"),
        (BRANCHES[3], ".off { color: red }"),
        (BRANCHES[0], "[class=a] { color: red }"),
        (BRANCHES[7], ".x-on { color: red }"),
        (BRANCHES[7], ".x- { color: red }"),
        ('<p class="a{% if f %}b{% endif %}">x</p>', ".a { color: red }"),
        ('<p class="a{{ "b" if f }}">x</p>', ".a { color: red }"),
        ('<p class="a {%- if f %} b{% endif %}">x</p>', ".a { color: red }"),
        ('<p class="a {% for x in y %}b{% endfor %}">x</p>', ".b { color: red }"),
        ('<p class="a {{ f }}">x</p>', ".c { color: red }"),
    ],
)
def test_classes_that_a_selector_names_may_not_depend_on_data(source: str, css: str) -> None:
    with pytest.raises(CannotInline, match="`class` depends on the event"):
        inline_source(source, css)


def test_a_selector_that_matches_nothing_counts_no_neighbours() -> None:
    source = "<div>{% if a %}<p>x</p>{% endif %}<p>y</p></div>"
    assert "color:red" in inline_source(source, "p { color: red } p + .never { color: blue }")
    with pytest.raises(CannotInline, match="which elements"):
        inline_source(source, "p + p { color: blue }")
