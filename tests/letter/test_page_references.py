"""Findings about images, addresses and entities in a letter, at their positions in the source."""

import base64
from typing import Any

import pytest

from postroom.letter.problems import Code, Problem, Severity
from postroom.letter.validation.page_references import addresses
from tests.letter.factories import layout, validated, variables

PNG = base64.b64encode(b"\x89PNG").decode()
CODES = frozenset(
    (
        Code.CID_DANGLING,
        Code.CID_UNUSED,
        Code.IMAGE_IS_DATA,
        Code.ADDRESS_RELATIVE,
        Code.ENTITY_IN_TEXT,
        Code.CALENDAR_METHOD,
    )
)


def findings(html: str, **more: Any) -> list[Problem]:
    validation = validated(f"<p>{{{{ name }}}}</p>\n{html}", **more)
    return [each for each in validation.warnings if each.code in CODES]


def places(found: list[Problem]) -> list[tuple[Code, str, int | None, int | None, int | None]]:
    return [(each.code, each.field, each.line, each.column, each.length) for each in found]


def file(name: str, content_id: str | None = None, kind: str = "image/png") -> dict[str, Any]:
    whole = {"filename": name, "contentType": kind, "content": PNG, "contentId": content_id}
    return {key: value for key, value in whole.items() if value}


def test_a_dangling_reference_is_found_at_its_position() -> None:
    (found,) = findings('<img src="cid:logo" alt="">')
    assert places([found]) == [(Code.CID_DANGLING, "spec.html", 2, 11, 8)]
    assert found.severity is Severity.WARNING
    assert "add it to spec.attachments with contentId" in found.message


@pytest.mark.parametrize(
    ("html", "attachment"),
    [
        ('<img src="cid:logo" alt="">', file("a.png", "logo")),
        ('<img src="cid:logo.png" alt="">', file("logo.png")),
        ('<td background="cid:logo.png"></td>', file("logo.png")),
        ("<style>p { background: url(cid:logo@x.org) }</style>", file("a.png", "logo@x.org")),
        ('<!--[if mso]><v:fill src="cid:logo"/><![endif]-->', file("a.png", "logo")),
    ],
)
def test_a_reference_that_is_resolved_is_no_finding(html: str, attachment: dict[str, Any]) -> None:
    assert findings(html, attachments=[attachment]) == []


def test_the_nearest_content_id_is_named() -> None:
    found = findings(
        '<img src="cid:Logo" alt=""><img src="cid:logo" alt="">', attachments=[file("a.png", "logo")]
    )
    assert [each.code for each in found] == [Code.CID_DANGLING]
    assert "did you mean logo?" in found[0].message


def test_a_file_that_is_not_an_image_cannot_be_referred_to_by_its_name() -> None:
    (found,) = findings(
        '<img src="cid:terms.pdf" alt="">', attachments=[file("terms.pdf", kind="application/pdf")]
    )
    assert "give it a contentId to show it" in found.message


def test_a_reference_from_data_is_checked_in_the_samples() -> None:
    names = variables(name={"type": "string"}, picture={"type": "string"})
    samples = [
        {"name": "sound", "data": {"name": "Z", "picture": "logo"}},
        {"name": "broken", "data": {"name": "Z", "picture": "none"}},
    ]
    found = findings(
        '<img src="cid:{{ picture }}" alt="">',
        variables=names,
        samples=samples,
        attachments=[file("a.png", "logo")],
    )
    assert places(found) == [(Code.CID_DANGLING, "spec.html", 2, 11, 17)]


def test_an_image_that_events_bring_is_named_by_the_sample() -> None:
    samples = [{"name": "only", "data": {"name": "Z"}, "contentIds": ["qr"]}]
    assert findings('<img src="cid:qr" alt="">', samples=samples) == []


def test_an_unused_part_is_an_info() -> None:
    (found,) = findings("<p>x</p>", attachments=[file("a.png", "logo"), file("b.png")])
    assert (found.code, found.field) == (Code.CID_UNUSED, "spec.attachments[0].contentId")
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    ("html", "column"),
    [
        (f'<img src="data:image/png;base64,{PNG}" alt="">', 11),
        (f"<p style=\"background:url('data:image/png;base64,{PNG}')\">x</p>", 27),
        (f"<p style='background:url(data:image/png;base64,{PNG})'>x</p>", 26),
    ],
)
def test_an_image_in_a_data_address_is_found(html: str, column: int) -> None:
    assert places(findings(html)) == [(Code.IMAGE_IS_DATA, "spec.html", 2, column, len("data:image/png"))]


@pytest.mark.parametrize(
    ("html", "value"),
    [
        ('<img src="images/logo.png" alt="">', "images/logo.png"),
        ('<a href="/orders?a=1&amp;b=2">x</a>', "/orders?a=1&amp;b=2"),
        ('<a href="orders.html">x</a>', "orders.html"),
        ('<img src="//cdn.example/x.png" alt="">', "//cdn.example/x.png"),
        ('<table><tr><td background="bg.png">x</td></tr></table>', "bg.png"),
        ('<p style="background:url(img/bg.png)">x</p>', "img/bg.png"),
        ("<style>p { background: url('img/bg.png') }</style>", "img/bg.png"),
        ('<!--[if mso]><v:fill src="img/bg.png"/><![endif]-->', "img/bg.png"),
        ('<img srcset="https://x.org/a.png 1x, b.png 2x" alt="">', "b.png"),
        ("<img src=logo.png alt=''>", "logo.png"),
    ],
)
def test_a_relative_address_is_found_at_its_position(html: str, value: str) -> None:
    (found,) = findings(html)
    assert (found.code, found.field, found.line) == (Code.ADDRESS_RELATIVE, "spec.html", 2)
    assert html[found.column - 1 :][: found.length or 0] == value  # type: ignore[operator]


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://x.org/">x</a>',
        '<a href="#top">x</a><p id="top">x</p>',
        '<a href="mailto:a@x.org">x</a><a href="tel:+32">x</a><a href="sms:1">x</a>',
        '<a name="top">x</a>',
        '<img src="https://x.org/a.png" alt="">',
        '<img src=" https://x.org/a.png " alt="">',
        '<p>write src=logo.png and &lt;img src="logo.png"&gt;</p>',
        "<style>/* url(img/a.png) */ p { color: red }</style>",
        '<svg><rect fill="url(#a)"/></svg>',
        '<p style="fill:url(#a)">x</p>',
        '<link rel="stylesheet" href="style.css">',
        "<!-- <img src='old.png'> -->",
        "<style>@import url(fonts.css);</style>",
    ],
)
def test_an_address_that_a_reader_can_open_is_no_finding(html: str) -> None:
    assert "@import" in html or findings(html) == []
    assert [
        each for each in addresses(html) if each in ("fonts.css", "old.png", "style.css", "logo.png")
    ] == []


def test_an_address_made_of_data_is_found_at_its_expression() -> None:
    names = variables(name={"type": "string"}, path={"type": "string"})
    samples = [{"name": "only", "data": {"name": "Z", "path": "orders/1"}}]
    found = findings('<a href="/my/{{ path }}">x</a>', variables=names, samples=samples)
    assert places(found) == [(Code.ADDRESS_RELATIVE, "spec.html", 2, 10, len("/my/{{ path }}"))]


def test_an_address_that_is_all_data_names_the_sample() -> None:
    names = variables(name={"type": "string"}, path={"type": "string"})
    samples = [{"name": "only", "data": {"name": "Z", "path": "orders/1"}}]
    (found,) = findings('<a href="{{ path }}">x</a>', variables=names, samples=samples)
    assert found.line is None
    assert "sample `only`: `orders/1` is relative" in found.message


def test_a_finding_in_the_layout_has_its_position_there() -> None:
    page = layout(
        "<html><body>\n{% include 'foot' %}{% block content %}{% endblock %}</body></html>",
        css="p { background: url(bg.png) }",
        partials=[{"name": "foot", "html": '<img src="foot.png" alt="">'}],
    )
    found = findings("<p>x</p>", page=page)
    assert sorted((each.field, each.line, each.column) for each in found) == [
        ("EmailLayout/page.spec.css", 1, 21),
        ("EmailLayout/page.spec.partials[0].html", 1, 11),
    ]


@pytest.mark.parametrize(
    ("spec", "field", "column"),
    [
        ({"subject": "Smith &amp; Sons for {{ name }}"}, "spec.subject", 7),
        ({"preheader": "A&nbsp;B"}, "spec.preheader", 2),
        ({"text": "{{ name }} &#8364;"}, "spec.text", 12),
        ({"subjectVariants": [{"name": "a", "subject": "x &lt;"}]}, "spec.subjectVariants[0].subject", 3),
        ({"locales": [{"tag": "de", "subject": "Müller &amp; S."}]}, "spec.locales[0].subject", 8),
        (
            {"from": {"name": "A &amp; B", "address": "a@x.org"}},
            "spec.from.name",
            3,
        ),
    ],
)
def test_an_entity_in_a_text_is_found(spec: dict[str, Any], field: str, column: int) -> None:
    (found,) = findings("<p>&amp;</p>", **spec)
    assert (found.code, found.field, found.line, found.column) == (Code.ENTITY_IN_TEXT, field, 1, column)
    assert found.severity is Severity.WARNING


@pytest.mark.parametrize(
    "subject", ["A & B", "{{ name|replace('&amp;', '&') }}", "AT&T; more", "x &nosuchthing; y", "a&b"]
)
def test_a_bare_ampersand_is_no_finding(subject: str) -> None:
    assert findings("<p>x</p>", subject=subject) == []


def test_an_entity_from_the_data_names_the_sample() -> None:
    (found,) = findings("<p>x</p>", samples=[{"name": "only", "data": {"name": "A &amp; B"}}])
    assert (found.field, found.line) == ("spec.subject", None)
    assert "sample `only`" in found.message
    assert "comes from the data" in found.message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n", []),
        (b"BEGIN:VCALENDAR\r\nmethod:request\r\n", []),
        (b"BEGIN:VCALENDAR\r\nMETHOD:CANCEL\r\n", [Code.CALENDAR_METHOD]),
        (b"BEGIN:VCALENDAR\r\n", [Code.CALENDAR_METHOD]),
    ],
)
def test_an_invitations_method_is_that_of_its_type(content: bytes, found: list[Code]) -> None:
    invite = {
        "filename": "a.ics",
        "contentType": "text/calendar; method=REQUEST",
        "content": base64.b64encode(content).decode(),
    }
    assert [each.code for each in findings("<p>x</p>", attachments=[invite])] == found
    plain = {**invite, "contentType": "text/calendar"}
    assert findings("<p>x</p>", attachments=[plain]) == []
