"""One page for several languages: each letter in its own words, and a finding where one lacks some."""

from dataclasses import replace
from typing import Any

import pytest

from postroom.letter.language.environment import HTML, TEXT
from postroom.letter.language.message_text import is_markup, key_rule, message_rule, pieces_of
from postroom.letter.language.messages import (
    Catalogue,
    can_yield_markup,
    merged,
    needed_categories,
    put_in,
)
from postroom.letter.language.pieces import Source
from postroom.letter.problems import Code, Problem, Rejected, Severity
from postroom.letter.renderer import TemplateRenderer
from postroom.letter.validation.validate import validate_template
from tests.letter.factories import (
    event,
    layout,
    live,
    one_sample,
    problems_of,
    template,
    validated,
    variables,
)
from tests.letter.factories import refusal as refused_source
from tests.letter.factories import render as render_source

COUNT: dict[str, Any] = {
    "variables": variables(n={"type": "number"}),
    "samples": one_sample(n=1),
    "subject": "Count",
}
CODES = frozenset(
    (
        Code.MESSAGE_INVALID,
        Code.MESSAGE_NOT_FOUND,
        Code.MESSAGE_VALUE_MISSING,
        Code.MESSAGE_UNTRANSLATED,
        Code.MESSAGE_VALUE_UNUSED,
        Code.MESSAGE_UNUSED,
        Code.PLURAL_INCOMPLETE,
    )
)


def html_of(
    source: str, locale: str | None = None, *, page: Any = None, data: Any = None, **spec: Any
) -> str:
    """The body of a letter in a language."""
    validation = validated(f"<html><body>{source}</body></html>", page=page, **spec)
    assert validation.compiled is not None
    letter = TemplateRenderer(validation.compiled).render(
        replace(event(**(data or {"name": "Zoë"})), locale=locale)
    )
    return letter.html.partition("<body>")[2].partition("</body>")[0]


def counted(number: float, locale: str | None, **spec: Any) -> str:
    return html_of('{{ t("items", count=n) }}', locale, data={"n": number}, **{**COUNT, **spec})


def findings(html: str, *, page: Any = None, **spec: Any) -> list[Problem]:
    validation = validate_template(template(html, **spec), page)
    return [each for each in (*validation.problems, *validation.warnings) if each.code in CODES]


# --- what comes out ----------------------------------------------------------------------------------------


def test_each_letter_has_the_words_of_its_language() -> None:
    spec: dict[str, Any] = {
        "subject": '{{ t("hi", name=name) }}',
        "text": '{{ t("hi", name=name) }}',
        "messages": {"hi": "Hello {name}"},
        "locales": [{"tag": "de", "messages": {"hi": "Hallo {name}"}}],
    }
    found = live('<p>{{ t("hi", name=name) }}</p>', **spec)
    letter = found.render(replace(event(name="Zoë & Co"), locale="de-AT"))
    assert (letter.subject, letter.text, letter.language) == ("Hallo Zoë & Co", "Hallo Zoë & Co", "de")
    assert "<p>Hallo Zo" in letter.html
    assert "&amp; Co</p>" in letter.html
    assert found.render(event(name="x")).subject == "Hello x"


def test_a_language_falls_back_along_its_chain() -> None:
    spec: dict[str, Any] = {
        "messages": {"a": "a-en", "b": "b-en", "c": "c-en"},
        "locales": [
            {"tag": "de", "messages": {"a": "a-de", "b": "b-de"}},
            {"tag": "de-AT", "messages": {"a": "a-at"}},
        ],
    }
    assert (
        html_of('{{ t("a") }} {{ t("b") }} {{ t("c") }}{{ name[:0] }}', "de-AT", **spec) == "a-at b-de c-en"
    )


def test_a_message_is_text_and_escaped_with_its_values() -> None:
    spec: dict[str, Any] = {"messages": {"x": "<b>{name}</b>"}}
    assert html_of('{{ t("x", name=name) }}', data={"name": "<i>"}, **spec) == "&lt;b&gt;&lt;i&gt;&lt;/b&gt;"


def test_a_key_that_ends_in_html_holds_markup_with_escaped_values() -> None:
    spec: dict[str, Any] = {"messages": {"x_html": '<b title="{name}">{name}</b>'}}
    out = html_of('{{ t("x_html", name=name) }}', data={"name": '"<i>'}, **spec)
    assert out == '<b title="&#34;&lt;i&gt;">&#34;&lt;i&gt;</b>'


def test_a_value_that_is_markup_already_is_not_escaped_twice() -> None:
    assert html_of('{{ t("x", name=name|e) }}', data={"name": "A & B"}, messages={"x": "<{name}>"}) == (
        "&lt;A &amp; B&gt;"
    )


def test_filters_work_on_a_message_before_it_is_escaped() -> None:
    assert html_of('{{ t("x")|upper }}{{ name[:0] }}', messages={"x": "a & b"}) == "A &amp; B"


def test_braces_are_doubled() -> None:
    assert html_of('{{ t("x") }}{{ name[:0] }}', messages={"x": "{{ a b }} {{}}"}) == "{ a b } {}"
    assert pieces_of("a {{ b }} {c}") == (("a { b } ", "c"), ("", None))


@pytest.mark.parametrize(
    ("locale", "number", "text"),
    [
        (None, 1, "one thing"),
        (None, 1.0, "one thing"),
        (None, 2, "2 things"),
        (None, 0, "nothing"),
        (None, 12345, "12,345 things"),
        ("de", 0, "0 Dinge"),
        ("de", 1, "ein Ding"),
        ("de", 1.5, "1,5 Dinge"),
        ("pl", 1, "1 rzecz"),
        ("pl", 2, "2 rzeczy"),
        ("pl", 5, "5 rzeczy (wiele)"),
        ("pl", 1.5, "1,5 rzeczy (inne)"),
        ("ja", 1, "1個"),
    ],
)
def test_a_plural_follows_the_language_of_its_text(locale: str | None, number: float, text: str) -> None:
    messages = {"items_zero": "nothing", "items_one": "one thing", "items_other": "{count} things"}
    polish = {
        "items_one": "{count} rzecz",
        "items_few": "{count} rzeczy",
        "items_many": "{count} rzeczy (wiele)",
        "items_other": "{count} rzeczy (inne)",
    }
    locales = [
        {"tag": "de", "messages": {"items_one": "ein Ding", "items_other": "{count} Dinge"}},
        {"tag": "pl", "messages": polish},
        {"tag": "ja", "messages": {"items_other": "{count}個"}},
    ]
    assert counted(number, locale, messages=messages, locales=locales) == text


def test_a_plural_that_another_language_lends_counts_as_that_language_does() -> None:
    spec: dict[str, Any] = {
        "messages": {"items_one": "{count} thing", "items_other": "{count} things"},
        "locales": [{"tag": "fr", "subject": "Bonjour"}],
    }
    assert counted(0, "fr", **spec) == "0 things"  # 0 is singular in French
    assert counted(1234.5, "fr", **spec) == "1,234.5 things"


def test_a_layout_has_words_of_its_own_and_the_templates_come_first() -> None:
    page = layout(
        '<html><body>{% block content %}{% endblock %} {{ t("help") }} {{ t("bye") }}</body></html>',
        messages={"help": "Help", "bye": "Bye"},
        locales=[{"tag": "de", "messages": {"help": "Hilfe", "bye": "Tschüs"}}],
    )
    spec: dict[str, Any] = {
        "messages": {"bye": "See you"},
        "locales": [{"tag": "de", "messages": {"bye": "Servus"}}],
    }
    validation = validated("{{ name }}", page=page, **spec)
    assert [result.rendered.text.strip() for result in validation.samples] == [
        "Zoë Help See you",
        "Zoë Hilfe Servus",
    ]
    assert [each for each in validation.warnings if each.code in CODES] == []


def test_a_layouts_default_locale_may_be_another_than_the_templates() -> None:
    page = layout(
        '<html><body>{% block content %}{% endblock %}{{ t("help") }}</body></html>',
        messages={"help": "Help"},
        locales=[{"tag": "de", "messages": {"help": "Hilfe"}}],
    )
    validation = validated(
        "{{ name }} ", page=page, defaultLocale="de", locales=[{"tag": "en", "subject": "Hi"}]
    )
    assert [each.rendered.text.strip() for each in validation.samples] == ["Zoë Hilfe", "Zoë Help"]


def test_styles_reach_the_elements_of_a_message_ahead() -> None:
    spec: dict[str, Any] = {
        "messages": {"x_html": "<b>Now</b>,\n<i>{name}</i>"},
        "css": "b { color: #123456 }",
    }
    validation = validated(
        '<html lang="en"><body>\n<p>{{ t("x_html", name=name) }}</p>\n{{ name }}</body></html>', **spec
    )
    assert validation.compiled is not None
    (edition,) = validation.compiled.variants
    assert edition.inline == "source"
    assert "color:#123456" in validation.samples[0].rendered.html.replace(" ", "")
    assert validation.samples[0].rendered.text == "Now, Zoë\n\nZoë\n"


def test_elements_that_are_not_known_ahead_are_styled_in_each_letter() -> None:
    messages = {"n_html_one": "<b>one</b>", "n_html_other": "<b>{count}</b>"}
    validation = validated(
        '<p>{{ t("n_html", count=n) }}</p>', messages=messages, css="b { color: #123456 }", **COUNT
    )
    assert validation.compiled is not None
    assert validation.compiled.variants[0].inline == "render"
    assert "color:#123456" in validation.samples[0].rendered.html.replace(" ", "")


def test_headers_and_the_reply_address_have_messages_too() -> None:
    found = live(
        "<p>{{ name }}</p>",
        headers=[{"name": "X-Kind", "value": '{{ t("kind") }}'}],
        replyTo='{{ t("team") }} <help@x.org>',
        messages={"kind": "Order", "team": "The team"},
        locales=[{"tag": "de", "messages": {"kind": "Bestellung", "team": "Das Team"}}],
    )
    letter = found.render(replace(event(name="x"), locale="de"))
    assert letter.headers == (("X-Kind", "Bestellung"),)
    assert letter.reply_to == '"Das Team" <help@x.org>'


def test_only_the_texts_that_are_used_travel_to_workers() -> None:
    page = layout(
        "{% block content %}{% endblock %}", messages={"a": "A", "b": "B", "c_one": "1", "c_other": "n"}
    )
    validation = validated('<p>{{ t("a") }}{{ t("c", count=3) }}{{ name }}</p>', page=page)
    assert validation.compiled is not None
    assert dict(validation.compiled.variants[0].messages) == {"a": "A", "c_one": "1", "c_other": "n"}
    validation = validated("<p>{{ t(name, default=name) }}</p>", page=page)
    assert validation.compiled is not None
    assert len(validation.compiled.variants[0].messages) == 4


# --- at run time -------------------------------------------------------------------------------------------

SOME = Catalogue({"hi": "Hi {name}", "x_html": "<b>", "n_one": "one"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ t(key) }}", "no message has; give it default="),
        ("{{ t(1) }}", "no message has; give it default="),
        ('{{ t("hi") }}', "message `hi` needs name="),
        ('{{ t("hi", name=none) }}', "`{name}` of message `hi` gets a value that is no text and no number"),
        ('{{ t("hi", name=true) }}', "no text and no number"),
        ('{{ t("hi", name=[]) }}', "no text and no number"),
        ('{{ t("n", count="2") }}', "`count` of `t` needs a number"),
        ('{{ t("n", count=true) }}', "`count` of `t` needs a number"),
        ('{{ t("hi", name=missing) }}', "`missing` is not there"),
        ('{{ t("n", count=missing) }}', "`missing` is not there"),
    ],
)
def test_what_cannot_be_printed_is_refused_by_name(source: str, message: str) -> None:
    problem = refused_source(source, key="secret value", _messages=SOME)
    assert message in problem.message
    assert "secret" not in problem.message


def test_markup_is_refused_where_it_would_show() -> None:
    assert "markup" in refused_source('{{ t("x_html") }}', TEXT, _messages=SOME).message


def test_a_key_made_of_data_has_a_default() -> None:
    source = '{{ t("state." ~ state, default=state) }}'
    known = Catalogue({"state.sent": "On its way"})
    assert render_source(source, state="sent", _messages=known) == "On its way"
    assert render_source(source, state="<lost>", _messages=known) == "&lt;lost&gt;"


def test_a_long_message_counts_against_the_limits() -> None:
    problem = refused_source('{{ t("hi", name=name) }}', name="x" * 262_200, _messages=SOME)
    assert problem.code is Code.RENDER_LIMIT


def test_a_variable_called_t_still_works_where_there_are_no_messages() -> None:
    spec: dict[str, Any] = {
        "variables": variables(t={"type": "string"}),
        "samples": one_sample(t="x"),
        "subject": "Hi",
    }
    assert html_of("{{ t }}", data={"t": "y"}, **spec) == "y"
    problems = problems_of("<p>{{ t }}</p>", messages={"a": "b"}, **spec)
    assert [(each.code, each.field) for each in problems] == [
        (Code.SCHEMA_INVALID, "spec.variables.properties.t")
    ]


# --- findings ----------------------------------------------------------------------------------------------


def test_a_key_that_no_message_has_is_an_error_with_the_nearest() -> None:
    (found,) = findings('<p>{{ name }}</p>\n<p>{{ t("titel") }}</p>', messages={"title": "x"})
    assert (found.code, found.field, found.line) == (Code.MESSAGE_NOT_FOUND, "spec.html", 2)
    assert found.severity is Severity.ERROR
    assert "did you mean title?" in found.message


def test_a_key_is_looked_for_in_every_part() -> None:
    found = findings(
        "<p>{{ name }}</p>",
        subject='{{ t("a") }}',
        preheader='{{ t("b") }}',
        text='{{ t("c") }}',
        headers=[{"name": "X-A", "value": '{{ t("d") }}'}],
        replyTo='{{ t("e") }} <a@x.org>',
        locales=[{"tag": "de", "html": '<p>{{ t("f") }}</p>'}],
    )
    assert {each.field for each in found} == {
        "spec.subject",
        "spec.preheader",
        "spec.text",
        "spec.headers[0].value",
        "spec.replyTo",
        "spec.locales[0].html",
    }


def test_a_call_of_a_layout_is_judged_with_the_templates_messages() -> None:
    page = layout('<p>\n{{ t("foot") }}\n{% block content %}{% endblock %}</p>')
    (found,) = findings("{{ name }}", page=page)
    assert (found.field, found.line) == ("EmailLayout/page.spec.html", 2)
    assert findings("{{ name }}", page=page, messages={"foot": "x"}) == []


def test_a_plural_asked_for_without_a_count_says_so() -> None:
    (found,) = findings('{{ t("n") }}{{ name }}', messages={"n_one": "1", "n_other": "n"})
    assert "has plural forms; give count=" in found.message


def test_a_value_that_a_message_needs_and_a_call_does_not_give_is_an_error_in_each_language() -> None:
    found = findings(
        '{{ t("a", name=name) }}',
        messages={"a": "{name}"},
        locales=[{"tag": "de", "messages": {"a": "{nmae}"}}],
    )
    (missing,) = [each for each in found if each.code is Code.MESSAGE_VALUE_MISSING]
    assert "message `a` of de has {nmae}, and the call gives no nmae=; did you mean name?" in missing.message
    assert findings('{{ t("a", **{"name": name}) }}', messages={"a": "{name}"}) == []


def test_a_value_that_no_text_prints_is_a_warning_at_the_call() -> None:
    (found,) = findings('\n{{ t("a", nam=name) }}', messages={"a": "x"})
    assert (found.code, found.field, found.line) == (Code.MESSAGE_VALUE_UNUSED, "spec.html", 2)
    assert found.severity is Severity.WARNING


def test_a_value_that_one_language_leaves_out_is_a_warning_at_its_text() -> None:
    spec: dict[str, Any] = {"messages": {"a": "{name}"}, "locales": [{"tag": "de", "messages": {"a": "x"}}]}
    (found,) = findings('{{ t("a", name=name) }}', **spec)
    assert (found.code, found.field) == (Code.MESSAGE_VALUE_UNUSED, "spec.locales[0].messages.a")


def test_a_form_that_does_not_print_the_count_is_no_finding() -> None:
    assert findings('{{ t("n", count=1) }}{{ name }}', messages={"n_one": "one", "n_other": "{count}"}) == []


def test_texts_that_a_language_lacks_are_listed_once() -> None:
    spec: dict[str, Any] = {
        "messages": {"a": "A", "b": "B", "c": "C"},
        "locales": [{"tag": "de", "messages": {"a": "x"}}, {"tag": "en-GB", "messages": {"a": "x"}}],
    }
    (found,) = findings('{{ t("a") }}{{ t("b") }}{{ t("c") }}{{ name }}', **spec)
    assert (found.code, found.field) == (Code.MESSAGE_UNTRANSLATED, "spec.locales[0].messages")
    assert "de has no text for `b`, `c`; letters in it show the one of en" in found.message


def test_forms_that_a_language_counts_with_are_asked_for() -> None:
    polish = {"n_one": "1", "n_other": "{count}"}
    spec: dict[str, Any] = {"messages": dict(polish), "locales": [{"tag": "pl", "messages": polish}]}
    (found,) = findings('{{ t("n", count=1) }}{{ name }}', **spec)
    assert (found.code, found.field) == (Code.PLURAL_INCOMPLETE, "spec.locales[0].messages.n_one")
    assert "add `n_few`, `n_many`" in found.message


def test_a_plural_without_its_last_form_is_an_error() -> None:
    (found,) = findings('{{ t("n", count=1) }}{{ name }}', messages={"n_one": "1"})
    assert (found.code, found.field) == (Code.MESSAGE_NOT_FOUND, "spec.messages.n_one")


def test_a_text_that_nothing_asks_for_is_an_information() -> None:
    spec: dict[str, Any] = {
        "messages": {"title": "x"},
        "locales": [{"tag": "de", "messages": {"title": "x", "titel": "y"}}],
    }
    (found,) = findings('{{ t("title") }}{{ name }}', **spec)
    assert (found.code, found.field) == (Code.MESSAGE_UNUSED, "spec.locales[0].messages.titel")
    assert found.severity is Severity.INFO
    assert "did you mean title?" in found.message
    assert findings('{{ t(name, default="") }}', messages={"title": "x"}) == []


def test_markup_in_a_text_is_an_error() -> None:
    (found,) = findings("{{ name }}", subject='{{ t("x_html") }}', messages={"x_html": "<b>"})
    assert (found.code, found.field) == (Code.MESSAGE_INVALID, "spec.subject")


def test_a_call_without_a_key_is_an_error() -> None:
    (found,) = findings("{{ t() }}{{ name }}", messages={})
    assert "takes a message's key" in found.message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Hello {name}", None),
        ("100 % {{}}", None),
        ("a {{ b", None),
        ("Hello {{name}}", "one brace on each side: {name}"),
        ("Hello {{ user.name }}", "one brace on each side: {user_name}"),
        ("Hello {name", "single brace"),
        ("Hello }", "single brace"),
        ("Hello {0}", "single brace"),
        ("{n, plural, one {# item} other {# items}}", "keys that end in _one"),
    ],
)
def test_a_message_text_is_read_strictly(text: str, rule: str | None) -> None:
    found = message_rule(text)
    assert found is None if rule is None else rule in (found or "")


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ('<a href="{url}">x</a>', True),
        ("<b>{url}</b>", True),
        ("a > {b} < {c}", True),
        ("<a href={url}>x</a>", False),
        ('<a title="x" {attribute}>x</a>', False),
        ("<a title='>' href={url}>x</a>", False),
    ],
)
def test_a_value_in_a_tag_stands_in_quotes(text: str, sound: bool) -> None:
    assert (message_rule(text, markup=True) is None) == sound


@pytest.mark.parametrize(
    ("key", "sound"),
    [("order.title", True), ("a-b_c", True), ("a" * 120, True), ("a" * 121, False)]
    + [(key, False) for key in ("", "1a", "a b", "_a", "é")],
)
def test_keys_are_plain(key: str, sound: bool) -> None:
    assert (key_rule(key) is None) == sound


def test_a_message_that_cannot_be_read_is_named_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"order\.title"):
        template(messages={"order.title": "Hello {{name}}"})


# --- the parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "markup"),
    [("a_html", True), ("a_html_one", True), ("a", False), ("a_html_x", False), ("a_one", False)],
)
def test_a_key_says_whether_its_text_is_markup(key: str, markup: bool) -> None:
    assert is_markup(key) == markup


@pytest.mark.parametrize(
    ("source", "may"),
    [
        ('{{ t("a") }}', False),
        ('{{ t("a_html") }}', True),
        ("{{ t(key) }}", True),
        ('{{ t("#name", name=1) }}', False),
        ("{% set t = 1 %}{{ t }}", False),
        ("{{ a }}", False),
    ],
)
def test_it_is_known_whether_a_source_may_yield_elements(source: str, may: bool) -> None:
    assert can_yield_markup(HTML.parse(source)) == may


@pytest.mark.parametrize(
    ("piece", "markup"),
    [
        ('{{ t("x_html", name=a, b=c(")") ) }}', '<b>{{ t("#name", name=a, b=c(")")) }}</b>'),
        ("{{t('plain_html')}}", "<i>x</i>"),
        ('{{ t("x_html", name=a)|upper }}', None),
        ('{{ t("x_html", name=a) ~ t("plain_html") }}', None),
        ('{{- t("plain_html") }}', None),
        ('{{ t("brace_html") }}', None),
        ('{{ t("n_html", count=1) }}', None),
        ('{{ t("text") }}', None),
        ('{{ t("none_html", default="") }}', None),
    ],
)
def test_markup_is_put_into_the_page_where_it_is_known(piece: str, markup: str | None) -> None:
    texts = {"x_html": "<b>{name}</b>", "plain_html": "<i>x</i>", "brace_html": "{{%", "text": "x"}
    catalogue = Catalogue({**texts, "n_html_one": "x", "n_html_other": "y"})
    assert put_in(piece, HTML.parse(piece), catalogue) == markup


def test_lines_keep_their_places_when_a_source_is_edited() -> None:
    source = Source("a\nbXX\nXXc\nd", (("f", 1), ("f", 2), ("g", 7), ("g", 8)))
    edited = source.edited([(3, 8, "1\n2\n3\n4")])
    assert edited.text == "a\nb1\n2\n3\n4c\nd"
    assert edited.origin == (("f", 1), ("f", 2), ("f", 2), ("f", 2), ("f", 2), ("g", 8))


def test_the_forms_of_a_plural_come_from_one_catalogue() -> None:
    german = {"n_other": "n Dinge"}
    found, places = merged(
        [("de", "x", german), ("en", "y", {"n_one": "1", "n_other": "n", "a": "A"})], "de-AT"
    )
    assert found == Catalogue({"n_other": "n Dinge", "a": "A"}, {"a": "en"})
    assert places == {"n_other": "x.n_other", "a": "y.a"}


@pytest.mark.parametrize(
    ("tag", "needed"),
    [
        ("en", ("one", "other")),
        ("fr", ("one", "other")),
        ("pl", ("one", "few", "many", "other")),
        ("ar", ("zero", "one", "two", "few", "many", "other")),
        ("ja", ("other",)),
    ],
)
def test_the_forms_that_a_language_needs_are_those_of_everyday_numbers(
    tag: str, needed: tuple[str, ...]
) -> None:
    assert needed_categories(tag) == needed


def test_a_rejected_letter_names_the_field() -> None:
    found = live(
        "<p>{{ t(name) }}</p>",
        messages={"Zoe": "x"},
        samples=one_sample(name="Zoe"),
    )
    with pytest.raises(Rejected) as caught:
        found.render(event(name="other"))
    assert (caught.value.code, caught.value.problems[0].field) == (Code.RENDER_FAILED, "spec.html")
