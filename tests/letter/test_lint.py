"""Lint: findings have their position in the source, and correct letters get none."""

from dataclasses import replace
from typing import Any

import pytest

from postroom.letter.problems import Code, Problem, Severity
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.drafts import locale_drafts
from postroom.letter.validation.lint import AuthoredPage, DeliveredLetter, blank, style_in_body
from postroom.letter.validation.rules import LINT, RULES, Rule
from postroom.letter.validation.validate import validate_template
from tests.letter.factories import layout, one_sample, template, validated, variables

NAME = "<p>{{ name }}</p>"


def found(html: str, **spec: Any) -> list[Problem]:
    return list(validated(html, **spec).warnings)


def codes(html: str, **spec: Any) -> set[Code]:
    return {problem.code for problem in found(html, **spec)}


def underlined(problem: Problem, text: str) -> str:
    assert problem.line is not None
    assert problem.column is not None
    assert problem.length is not None
    return text.split("\n")[problem.line - 1][problem.column - 1 : problem.column - 1 + problem.length]


@pytest.mark.parametrize(
    ("html", "code", "words"),
    [
        ('<p>{{ name }}\n <img src="x.png"></p>', Code.IMAGE_WITHOUT_ALT, '<img src="x.png">'),
        ('{% if name == "no" %}<img src="x.png">{% endif %}', Code.IMAGE_WITHOUT_ALT, '<img src="x.png">'),
        ('<img alt="" src="https://x.org/a.SVG?v=1">', Code.IMAGE_IS_SVG, 'src="https://x.org/a.SVG?v=1"'),
        ('é{{ name }} <svg width="1"><path d=""/></svg>', Code.SVG_NOT_SHOWN, '<svg width="1">'),
        ("<p>x</p>\n<script>1</script>", Code.ELEMENT_REMOVED, "<script>"),
        ('<iframe src="x"></iframe>', Code.ELEMENT_REMOVED, '<iframe src="x">'),
        ("<form>{{ name }}</form>", Code.FORM_UNRELIABLE, "<form>"),
        (
            '<video src="https://x.org/a.mp4"> <source src="https://x.org/b"> </video>',
            Code.VIDEO_WITHOUT_FALLBACK,
            '<video src="https://x.org/a.mp4">',
        ),
        (
            '<link rel="stylesheet" href="/a.css">',
            Code.STYLESHEET_NOT_LOADED,
            '<link rel="stylesheet" href="/a.css">',
        ),
        ("<html><body>{{ name }}</body></html>", Code.LANGUAGE_MISSING, "<html>"),
        ('<a class="b" href="#">x</a>', Code.LINK_LEADS_NOWHERE, 'href="#"'),
        ('<a href=" ">x</a>', Code.LINK_LEADS_NOWHERE, 'href=" "'),
        ('<a href="#a">x</a><p id="b">x</p>', Code.LINK_LEADS_NOWHERE, 'href="#a"'),
        ('<a href="JavaScript:void(0)">x</a>', Code.LINK_LEADS_NOWHERE, 'href="JavaScript:void(0)"'),
        ('<a href="http://x.org">{{ name }}</a>', Code.LINK_INSECURE, 'href="http://x.org"'),
        ('<img alt="" src="http://x.org">', Code.LINK_INSECURE, 'src="http://x.org"'),
        ("<p style='position: absolute'>x</p>", Code.POSITION_UNSUPPORTED, "<p style='position: absolute'>"),
        ('<p style="color: var(--a)">x</p>', Code.CSS_VARIABLE_UNSUPPORTED, "color: var(--a)"),
        (
            '<img src="https://x.org/a" alt="" style="max-width:150px">',
            Code.IMAGE_WITHOUT_WIDTH,
            '<img src="https://x.org/a" alt="" style="max-width:150px">',
        ),
        (
            '<div style="background:url(https://x.org/a.png)">x</div>',
            Code.BACKGROUND_WITHOUT_FALLBACK,
            '<div style="background:url(https://x.org/a.png)">',
        ),
    ],
)
def test_a_finding_has_its_position_in_the_authors_source(html: str, code: Code, words: str) -> None:
    source = html + NAME
    (problem,) = (each for each in found(source) if each.code is code)
    assert problem.field == "spec.html"
    assert underlined(problem, source) == words
    assert problem.severity is RULES[code].severity


@pytest.mark.parametrize(
    "html",
    [
        '<img src="https://x.org/a" alt="">',
        '<img src="https://x.org/a" {% if name %}alt="{{ name }}"{% endif %}>',
        '<img src="https://x.org/a" width="1" height="1">',
        '<img src="https://x.org/a" aria-hidden="true">',
        '<div style="display:none"><img src="https://x.org/a"></div>',
        '<script type="application/ld+json">{"@context": "https://schema.org"}</script>',
        '<!--[if mso]><img src="https://x.org/a"><v:rect></v:rect><![endif]-->',
        '<video src="https://x.org/a.mp4"><a href="https://x.org">Watch</a></video>',
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css2?family=Inter">',
        '<link rel="stylesheet" href="//fonts.shop.example/a.css">',
        '<link rel="stylesheet" href="https://shop.example/css2?display=swap&amp;family=Inter">',
        '<link rel="icon" href="https://x.org/icon.png">',
        '<html lang="en"><body>x</body></html>',
        '<html lang="{{ letter.locale }}"><body>x</body></html>',
        '<html {% if name %}lang="{{ letter.locale }}"{% endif %}><body>x</body></html>',
        '<a href="#b">x</a><p id="b">x</p>',
        '<a href="#top">x</a>',
        '<a name="here">x</a>',
        '<a href="#{{ name }}">x</a>',
        '<a href="https://x.org/{{ name }}">x</a>',
        '<a href="mailto:a@x.org">x</a>',
        '<p style="color: #111; color: var(--a)">x</p>',
        '<p style="--a: var(--b); position: relative">x</p>',
        '<img src="https://x.org/a" alt="" width="10" style="width:10px">',
        '<img src="https://x.org/a" alt="" style="width:100%">',
        '<div style="background: #111 url(https://x.org/a.png)">x</div>',
        '<td style="background-image:url(https://x.org/a.png);background-color:#111">x</td>',
        '<table><tr><td bgcolor="#111111" background="https://x.org/a.png">x</td></tr></table>',
    ],
)
def test_a_correct_letter_gets_no_finding(html: str) -> None:
    assert found(html + NAME) == []


@pytest.mark.parametrize(
    "rule",
    [rule for rule in LINT if rule.instead and rule.code is not Code.STYLE_IN_BODY],
    ids=lambda rule: rule.code,
)
def test_the_two_examples_of_a_rule_do_and_do_not_get_its_finding(rule: Rule) -> None:
    assert rule.code in codes(**_example(rule, rule.example))
    assert rule.code not in codes(**_example(rule, rule.instead))


def _example(rule: Rule, text: str) -> dict[str, Any]:
    """A template with an example in its subject, its style sheet or its page."""
    if text.startswith("subject: "):
        return {"html": NAME, "subject": text.removeprefix("subject: ")}
    if text.startswith((".", "@")):
        return {"html": '<p class="card">{{ name }} {{ tracking_url }}</p>', "css": text, **_data()}
    page = (
        text if "<html" in text or "<body" in text or "<head" in text else f"<table><tr>{text}</tr></table>"
    )
    page = page if "<td" in text or page == text else text
    spec = _data() | {"html": page + "{{ name }}{{ tracking_url }}"}
    if rule.code is Code.UNSUBSCRIBE_NOT_SHOWN:
        spec |= {"category": "Subscription", "unsubscribeUrl": "https://shop.example/u"}
    return spec


def _data() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "variables": variables(name=text, tracking_url=text),
        "samples": one_sample(name="Zoë", tracking_url="https://shop.example/t"),
    }


def test_an_address_from_data_is_checked_in_the_samples() -> None:
    html = '<a href="https://a.org">a</a>\n<a href="{{ name }}">b</a>\n<a href="{{ other }}">c</a>'
    text = {"type": "string"}
    spec = {"variables": variables(name=text, other=text)}
    problems = found(html, samples=one_sample(name="http://x.org", other=""), **spec)
    insecure, empty = (each for each in problems if each.code is not Code.CSS_INLINED_PER_LETTER)
    assert (insecure.code, insecure.line) == (Code.LINK_INSECURE, 2)
    assert (empty.code, empty.message) == (Code.LINK_LEADS_NOWHERE, "sample `only`: this link has no address")
    assert found(html, samples=one_sample(name="https://x.org", other="mailto:a@x.org"), **spec) == []


def test_a_letter_that_gmail_clips_is_reported_with_its_parts() -> None:
    (problem,) = found(NAME + '<p style="color:#111111">long</p>' * 4000)
    assert problem.code is Code.LETTER_CLIPPED
    assert "KB once its CSS is inlined, of which style attributes are 50 KB" in problem.message


def test_styles_beyond_what_gmail_reads_are_found() -> None:
    kept = "@media (max-width: 600px) { .a { color: #111111 } }\n" * 400
    assert Code.STYLES_TOO_LARGE in codes(NAME, css=kept)
    assert Code.STYLES_TOO_LARGE not in codes(NAME, css=kept[: 52 * 200])


def test_a_style_in_the_body_is_found_at_its_position() -> None:
    style = "<style>@media (max-width: 600px) { .a { color: #111111 } }</style>"
    html = f"<html><body>\n {style}{NAME}</body></html>"
    (draft,) = locale_drafts(template(html).spec, None)
    sent = validated(html).samples[0].rendered
    (problem,) = style_in_body(AuthoredPage(draft), DeliveredLetter("a", replace(sent, html=html)))
    assert (problem.line, underlined(problem, html)) == (2, "<style>")
    assert list(
        style_in_body(AuthoredPage(draft), DeliveredLetter("a", replace(sent, html=style + html)))
    ) == [problem]


def test_a_finding_in_a_layout_has_the_layouts_field() -> None:
    page = layout('<html>\n<body>{% block content %}{% endblock %} <img src="https://x.org/a"></body></html>')
    image, language = sorted(found(NAME, page=page), key=lambda each: str(each.code))
    assert (image.field, image.line, image.column) == ("EmailLayout/page.spec.html", 2, 41)
    assert (language.field, language.line, language.column) == ("EmailLayout/page.spec.html", 1, 1)


def test_an_unused_variable_is_an_info() -> None:
    (problem,) = found("<p>x</p>", subject="x")
    assert (problem.code, problem.severity) == (Code.VARIABLE_UNUSED, Severity.INFO)
    assert problem.field == "spec.variables.properties.name"


def test_a_comment_ignores_a_rule_on_its_line_and_the_next() -> None:
    comment = "{# postroom: ignore link_insecure, image_without_alt #}"
    html = f'{comment}\n<a href="http://x.org">{{{{ name }}}}</a>\n<a href="http://y.org">x</a>'
    assert [problem.line for problem in found(html)] == [3]


def test_an_annotation_ignores_rules_in_the_whole_object() -> None:
    wanted = annotated(
        '<img src="https://x.org/a"><a href="#">{{ name }}</a>', "image_without_alt, link_leads_nowhere"
    )
    assert validate_template(wanted, None).warnings == ()


@pytest.mark.parametrize(
    ("name", "words"), [("image_without_text", "is not a rule"), ("css_invalid", "errors cannot be ignored")]
)
def test_a_request_to_ignore_an_unknown_rule_or_an_error_is_a_warning(name: str, words: str) -> None:
    html = f"<p>\n{{# postroom: ignore {name} #}}{{{{ name }}}}</p>"
    (problem,) = found(html)
    assert (problem.code, problem.severity) == (Code.IGNORE_INVALID, Severity.WARNING)
    assert underlined(problem, html) == name
    assert words in problem.message
    (of_annotation,) = validate_template(annotated(NAME, name), None).warnings
    assert of_annotation.field == "metadata.annotations.postroom.dev/ignore"


def annotated(html: str, rules: str) -> EmailTemplate:
    plain = template(html).model_dump(by_alias=True, exclude_none=True)
    plain["metadata"]["annotations"] = {"postroom.dev/ignore": rules}
    return EmailTemplate.model_validate(plain)


@pytest.mark.parametrize(
    "source",
    [
        '<a href="{{ a|default("<b>") }}">{% if a %}\nx{% endif %}</a>{# <i> #}',
        "a \n {%- if a -%} \n <b> {%- endif %}",
        "{% raw %}<b>{{ x }}</b>{% endraw %}",
        "plain",
    ],
)
def test_blanking_keeps_every_offset_of_html(source: str) -> None:
    blanked = blank(source)
    assert len(blanked) == len(source)
    assert all(found in (kept, " ", "\ue000") for found, kept in zip(blanked, source, strict=True))
    assert "{" not in blanked.replace("{{ x }}", "")
