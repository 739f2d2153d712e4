"""Rendering: an event gives the parts of a letter."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from postroom.letter.language.bounds import Timers
from postroom.letter.language.origin import origins
from postroom.letter.problems import Code, Rejected
from postroom.letter.renderer import LINE_BREAKING_CHARACTERS
from tests.letter.factories import NOON, attachment, event, layout, live, validated, variables


def test_a_letter_has_subject_html_and_text() -> None:
    letter = live().render(event(name="Mira"))
    assert letter.subject == "Hello Mira"
    assert "<p>Hello Mira</p>" in letter.html
    assert letter.text == "Hello Mira\n"
    assert (letter.template, letter.language, letter.sender, letter.unsubscribe) == ("test", "en", None, None)


def test_a_page_without_a_layout_is_completed() -> None:
    html = live().render(event(name="Mira")).html
    assert html.startswith('<!doctype html>\n<html lang="en" dir="ltr">')
    assert "<title>Hello Mira</title>" in html


def test_a_script_in_a_name_is_escaped_in_html_and_raw_in_text() -> None:
    letter = live().render(event(name="<script>alert(1)</script>"))
    assert "&lt;script&gt;" in letter.html
    assert "<script" not in letter.html
    assert letter.text == "Hello <script>alert(1)</script>\n"
    assert letter.subject == "Hello <script>alert(1)</script>"


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ({}, Code.VARIABLE_MISSING, "data.name"),
        ({"name": "x", "nam": "y"}, Code.VARIABLE_UNKNOWN, "data.nam"),
        ({"name": 7}, Code.VARIABLE_INVALID, "data.name"),
        ({"name": None}, Code.VARIABLE_INVALID, "data.name"),
    ],
)
def test_data_that_breaks_the_schema_is_rejected_by_name(
    data: dict[str, object], code: Code, field: str
) -> None:
    with pytest.raises(Rejected) as caught:
        live().render(event(**data))
    assert [(problem.code, problem.field) for problem in caught.value.problems] == [(code, field)]


def test_a_misspelt_variable_gets_the_declared_name() -> None:
    with pytest.raises(Rejected) as caught:
        live().render(event(nmae="x"))
    assert "did you mean" in str(caught.value)
    assert "name" in str(caught.value)


def test_a_problem_holds_no_data() -> None:
    schema = variables(code={"type": "string", "pattern": "^[0-9]{6}$"})
    template = live(
        "{{ code }}", subject="x", variables=schema, samples=[{"name": "a", "data": {"code": "123456"}}]
    )
    with pytest.raises(Rejected) as caught:
        template.render(event(code="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_defaults_are_filled_in_at_every_depth() -> None:
    schema = {
        "type": "object",
        "properties": {
            "greeting": {"type": "string", "default": "Hi"},
            "items": {
                "type": "array",
                "items": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}},
            },
            "who": {"$ref": "#/$defs/person"},
        },
        "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string", "default": "you"}}}},
    }
    html = "<p>{{ greeting }} {{ who.name }} {% for i in items %}{{ i.n }}{% endfor %}</p>"
    samples = [{"name": "a", "data": {"items": [{}], "who": {}}}]
    data = {"items": [{}, {"n": 5}], "who": {}}
    template = live(html, subject="x", variables=schema, samples=samples)
    assert "<p>Hi you 15</p>" in template.render(event(**data)).html
    assert data == {"items": [{}, {"n": 5}], "who": {}}


LOCALES: dict[str, Any] = {
    "locales": [
        {"tag": "de", "subject": "Hallo {{ name }}", "html": "<p>Guten Tag {{ name }}</p>"},
        {"tag": "de-AT", "subject": "Servus {{ name }}"},
        {"tag": "pt-BR", "html": "<p>Oi {{ name }}</p>"},
    ]
}


@pytest.mark.parametrize(
    ("locale", "subject", "body", "language"),
    [
        (None, "Hello x", "Hello x", "en"),
        ("en-GB", "Hello x", "Hello x", "en"),
        ("de", "Hallo x", "Guten Tag x", "de"),
        ("DE-ch", "Hallo x", "Guten Tag x", "de"),
        ("de-AT", "Servus x", "Guten Tag x", "de-AT"),
        ("de-AT-Latn", "Servus x", "Guten Tag x", "de-AT"),
        ("pt-BR", "Hello x", "Oi x", "pt-BR"),
        ("pt", "Hello x", "Hello x", "en"),
        ("not a tag", "Hello x", "Hello x", "en"),
    ],
)
def test_the_nearest_language_is_chosen(locale: str | None, subject: str, body: str, language: str) -> None:
    letter = live(**LOCALES).render(replace(event(name="x"), locale=locale))
    assert (letter.subject, letter.text.strip(), letter.language) == (subject, body, language)


def test_a_text_in_another_language_than_the_html_is_not_sent_with_it() -> None:
    template = live(text="English {{ name }}", locales=[{"tag": "de", "html": "<p>Deutsch {{ name }}</p>"}])
    assert template.render(replace(event(name="x"), locale="de")).text == "Deutsch x\n"
    assert template.render(event(name="x")).text == "English x"


def test_a_recipient_always_gets_the_same_subject_variant() -> None:
    variants = [{"name": "a", "subject": "A"}, {"name": "b", "subject": "B", "weight": 3}]
    template = live(subjectVariants=variants)
    events = [replace(event(name="x"), recipient=f"r{n}@example.org") for n in range(400)]
    subjects = [template.render(each).subject for each in events]
    assert subjects == [template.render(each).subject for each in events]
    assert 60 < Counter(subjects)["A"] < 140


@pytest.mark.parametrize("name", ["a\nBcc: evil@x.org", "a\r\nb", "a\0b", "a\u2028b", "\x85"])
def test_a_line_end_in_a_subject_is_rejected(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        live().render(event(name=name))
    [problem] = caught.value.problems
    assert (problem.code, problem.field) == (Code.CONTROL_CHARACTER, "subject")
    assert problem.message.endswith("it comes from `name`")
    assert "evil" not in problem.message


@pytest.mark.parametrize(
    ("subject", "named"),
    [
        ("{{ plain }} {{ order.title }} {{ order['title'] }}", ["order.title"]),
        ("{{ plain.upper() }} {{ order.count }}{% if x %}\n{% endif %}", ["plain", "order.count"]),
        ("{% for item in order['items'] %}{{ item }}{% endfor %}", []),
    ],
)
def test_a_character_is_traced_to_the_variables_that_hold_it(subject: str, named: list[str]) -> None:
    data = {"plain": "x", "order": {"title": "a\nb", "count": 2, "items": ["\n"]}}
    assert origins(subject, data, LINE_BREAKING_CHARACTERS) == named


def test_an_empty_subject_is_rejected() -> None:
    template = live(subject="{{ name }}")
    with pytest.raises(Rejected, match="empty"):
        template.render(event(name="  "))


def test_a_template_can_use_the_attributes_of_the_letter() -> None:
    names = ("recipient", "locale", "event_type", "time", "subject")
    html = " ".join(f"{{{{ letter.{name} }}}}" for name in names)
    text = live(html).render(replace(event(name="x"), locale="en-GB")).text
    assert text == "mira@example.org en-GB shop.test 2026-11-23T12:00:00+00:00 Hello x\n"


def test_the_preview_line_is_shown_first_and_only_in_html() -> None:
    letter = live(preheader="Peek at {{ name }} & co").render(event(name="x"))
    body = letter.html.partition("<body>")[2]
    assert "display:none" in body[:40]
    assert "Peek at x &amp; co" in body
    assert letter.text == "Hello x\n"


def test_a_layout_may_place_the_preview_line_itself() -> None:
    page = layout("<html><body><i>{{ letter.preheader }}</i>{% block content %}{% endblock %}</body></html>")
    validation = validated(page=page, preheader="Peek")
    assert validation.samples[0].rendered.html.count("Peek") == 1


ACCOUNTS: dict[str, Any] = {"from": {"name": "Accounts", "address": "accounts@larkfield.example"}}


def test_a_letter_has_headers_reply_address_sender_and_files() -> None:
    template = live(
        headers=[{"name": "X-Name", "value": "{{ name }}"}],
        replyTo="help@larkfield.example",
        attachments=[{"filename": "a.txt", "contentType": "text/plain", "content": "aGk="}],
        **ACCOUNTS,
    )
    letter = template.render(replace(event(name="x"), attachments=(attachment(),), reply_to="me@example.org"))
    assert letter.headers == (("X-Name", "x"),)
    assert letter.reply_to == "me@example.org"
    assert [file.filename for file in letter.attachments] == ["a.txt", "invoice.pdf"]
    assert letter.attachments[0].content == b"hi"
    assert letter.sender is not None
    assert letter.sender.address == "accounts@larkfield.example"
    with pytest.raises(Rejected):
        template.render(event(name="a\nb"))


SUBSCRIPTION: dict[str, Any] = {
    "category": "Subscription",
    "unsubscribeUrl": "https://larkfield.example/u?t={{ name|urlencode }}",
    "html": '<p>x <a href="{{ letter.unsubscribe_url }}">Unsubscribe</a></p>',
}


def test_a_subscription_has_its_link_in_header_and_body() -> None:
    letter = live(**SUBSCRIPTION).render(event(name="a b&c"))
    assert letter.unsubscribe == "https://larkfield.example/u?t=a%20b%26c"
    assert f'href="{letter.unsubscribe}"' in letter.html


@pytest.mark.parametrize(
    "url", ["http://x.org", "javascript:alert(1)", "https://x.org/>", "https://x.org/a b", "https://é.org"]
)
def test_an_invalid_unsubscribe_link_is_rejected(url: str) -> None:
    template = live(
        **{
            **SUBSCRIPTION,
            "unsubscribeUrl": "{{ name }}",
            "samples": [{"name": "a", "data": {"name": "https://x.org"}}],
        }
    )
    with pytest.raises(Rejected, match="https"):
        template.render(event(name=url))


def test_a_letter_expires_with_its_event_or_its_template() -> None:
    template = live(expiresAfter="10m")
    assert template.expires(event(name="x")) == NOON + timedelta(minutes=10)
    assert template.expires(replace(event(name="x"), expires=NOON)) == NOON
    assert live().expires(event(name="x")) is None


def test_the_time_of_a_rendering_can_be_bounded() -> None:
    found = live("{% for a in range(100) %}{% for b in range(9) %}x{% endfor %}{% endfor %}{{ name }}")
    ticks = count(step=1.0)
    found._clocks = Timers(lambda: next(ticks), lambda: next(ticks))
    with pytest.raises(Rejected) as caught:
        found.render(event(name="x"))
    assert caught.value.code is Code.RENDER_LIMIT


TEXTS = [
    ("<h1>A</h1><p>b <b>c</b></p>", "A\n\nb c\n"),
    ("<p>a</p>{% if name == 'no' %}<p>gone</p>{% endif %}<p>b</p>", "a\n\nb\n"),
    ('<p>see <a href="https://x.org">here</a>.</p>', "see here (https://x.org).\n"),
    ('<p><a href="https://x.org/{{ name }}">Go</a></p>', "Go:\nhttps://x.org/x\n"),
    ('<p><a href="mailto:a@b.org">a@b.org</a></p>', "a@b.org\n"),
    ("<ul><li>a</li><li>b</li></ul>", "- a\n- b\n"),
    ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a  b\nc\n"),
    ('<p>a<br>b</p><hr><img src="x" alt="A cup"><img src="y" alt="">', "a\nb\n\n----------\n\n[A cup]\n"),
    ('<p style="display:none">hidden</p><script>x</script><p>shown</p>', "shown\n"),
    ("<p>{% for c in name %}{{ c }},{% endfor %}</p>", "x,\n"),
    ("<p>1 &lt; 2 &amp; 3&nbsp;km</p>", "1 < 2 & 3\xa0km\n"),
]


@pytest.mark.parametrize(("html", "text"), TEXTS)
def test_the_text_is_derived_from_the_html(html: str, text: str) -> None:
    validation = validated(html)
    assert validation.compiled is not None
    assert validation.compiled.variants[0].text_origin == "render"
    assert live(html).render(event(name="x")).text == text


def test_loops_count_once_for_html_and_derived_text() -> None:
    found = live("{% for a in range(1000) %}{% for b in range(9) %}x{% endfor %}{% endfor %}{{ name }}")
    assert found.render(event(name="y")).text == "x" * 9000 + "y\n"
