"""Validation: the problems of templates with their positions, and the results of sets of manifests."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.letter.problems import Code
from postroom.letter.profile import SmtpProfile
from postroom.letter.references import ObjectKey
from postroom.letter.template import EmailTemplate
from postroom.letter.validation.validate import validate_manifests, validate_template
from tests.letter.factories import layout, one_sample, problem_of, problems_of, template, validated, variables

PAGE = layout(
    "<html><body>\n{% block content %}{% endblock %}\n{% block foot %}the foot{% endblock %}\n</body></html>",
    partials=[{"name": "address", "html": "1 Quay\nStreet"}],
)


@pytest.mark.parametrize(
    ("html", "code", "line", "words"),
    [
        ("a\nb\nc\nd\ne\nf\n{% if %}", Code.TEMPLATE_SYNTAX, 7, ""),
        ("a\n<p>{{ name </p>\n<p>the rest</p>", Code.TEMPLATE_SYNTAX, 2, "`{{` is not closed"),
        ("a\n<p>{#a</p>", Code.TEMPLATE_SYNTAX, 2, "a space between `{` and `#`"),
        ("a\n\n{% if name", Code.TEMPLATE_SYNTAX, 3, "`{%` is not closed"),
        ("\n{{ ''.__class__ }}", Code.TEMPLATE_UNSAFE, 2, "unsafe attribute `__class__`"),
        ("\n{% include '/etc/passwd' %}", Code.PARTIAL_NOT_FOUND, 2, "partials"),
        ("{{ name|center(9) }}", Code.FILTER_NOT_ALLOWED, 1, "`center`"),
        ("<p\n title={{ name }}>x</p>", Code.TEMPLATE_UNSAFE, 2, "write quotes around `{{ name }}`"),
        ("<p {{ name }}>x</p>", Code.TEMPLATE_UNSAFE, 1, "write quotes"),
        ("<div>" * 300 + "{{ name }}", Code.TOO_DEEP, None, "256"),
        ("{% for i in range(300) %}<div>{% endfor %}{{ name }}", Code.TOO_DEEP, None, "256"),
        ("{{ name|safe }}", Code.FILTER_NOT_ALLOWED, 1, "`safe`"),
        ("\n\n{{ nmae }}", Code.VARIABLE_UNDECLARED, 3, "did you mean name"),
        (
            "{% set x = 1 %}{{ x }}\n{{ y }}",
            Code.VARIABLE_UNDECLARED,
            2,
            "which has name; declare it as spec.variables.properties.y",
        ),
        ("{{ letter.recipeint }}", Code.VARIABLE_UNDECLARED, 1, "did you mean recipient"),
        ("{{ name }}\n{{ name.upper().foo }}", Code.VARIABLE_MISSING, 2, "`foo`"),
        (
            "{% for i in range(200) %}{% for j in range(200) %}\n{% endfor %}{% endfor %}",
            Code.RENDER_LIMIT,
            1,
            "",
        ),
        ("<html>{% block content %}x{% endblock %}</html>", Code.LAYOUT_NOT_FOUND, None, "layoutRef"),
        ("<style>p { color }</style>", Code.CSS_INVALID, 1, ""),
    ],
)
def test_a_problem_of_html_has_rule_and_line(html: str, code: Code, line: int | None, words: str) -> None:
    problem = problem_of(html)
    assert (problem.field, problem.code, problem.line) == ("spec.html", code, line)
    assert words in problem.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"subject": "{{ nmae }}"}, "spec.subject"),
        ({"preheader": "{{ nmae }}"}, "spec.preheader"),
        ({"text": "{{ nmae }}"}, "spec.text"),
        ({"headers": [{"name": "X-A", "value": "{{ nmae }}"}]}, "spec.headers[0].value"),
        ({"locales": [{"tag": "fr"}, {"tag": "de", "subject": "{{ nmae }}"}]}, "spec.locales[1].subject"),
        ({"locales": [{"tag": "de", "html": "{{ nmae }}"}]}, "spec.locales[0].html"),
        ({"subjectVariants": [{"name": "a", "subject": "{{ nmae }}"}]}, "spec.subjectVariants[0].subject"),
        ({"unsubscribeUrl": "https://x.org/{{ nmae }}"}, "spec.unsubscribeUrl"),
    ],
)
def test_a_problem_has_the_field_that_it_is_in(spec: dict[str, Any], field: str) -> None:
    problem = problem_of("<p>{{ name }}</p>", **spec)
    assert (problem.field, problem.code, problem.line) == (field, Code.VARIABLE_UNDECLARED, 1)


ORDER = variables(
    order={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string"},
            "items": {
                "type": "array",
                "items": {"type": "object", "additionalProperties": False, "properties": {"title": {}}},
            },
            "open": {"type": "object"},
        },
    }
)


def test_all_visible_problems_are_reported_at_once() -> None:
    problems = problems_of("{{ name|uper }}\n{{ nmae }}", subject="{{ nmae }}")
    assert [(problem.code, problem.line) for problem in problems] == [
        (Code.VARIABLE_UNDECLARED, 1),
        (Code.FILTER_NOT_ALLOWED, 1),
        (Code.VARIABLE_UNDECLARED, 2),
    ]
    assert "did you mean upper?" in problems[1].message


@pytest.mark.parametrize(
    ("html", "name"),
    [
        ("{{ order.ident }}", "ident"),
        ("{{ order['ident'] }}", "ident"),
        ("{% for item in order.items %}{{ item.titel }}{% endfor %}", "titel"),
        ("{{ order.items[0].titel }}", "titel"),
        ("{% set o = order %}{{ o.ident }}", "ident"),
        ("{% with o = order %}{{ o.ident }}{% endwith %}", "ident"),
        ("{% if order.ident %}{% endif %}", "ident"),
    ],
)
def test_paths_are_followed_where_the_schema_is_closed(html: str, name: str) -> None:
    spec: dict[str, Any] = {
        "subject": "x",
        "variables": ORDER,
        "samples": one_sample(order={"id": "1", "items": [{"title": "a"}]}),
    }
    problem = problem_of(html, **spec)
    assert problem.code is Code.VARIABLE_UNDECLARED
    assert f"`{name}`" in problem.message


def test_properties_that_the_schema_leaves_open_are_not_checked() -> None:
    html = (
        "{% for k, v in order.open.items() %}{{ k }}{{ v }}{% endfor %}"
        "{% for i in order.items %}{{ loop.index }}{{ i.title }}{% endfor %}"
        "{{ order.items|length }}{{ 1 if order.open.anything is defined }}"
    )
    data = {"id": "1", "items": [{"title": "a"}], "open": {"a": 1}}
    assert validated(html, subject="x", variables=ORDER, samples=one_sample(order=data)).passed


def test_a_sample_that_breaks_the_schema_is_named() -> None:
    problems = problems_of(
        "<p>{{ name }}</p>",
        samples=[{"name": "a", "data": {"name": "x"}}, {"name": "b", "data": {"nmae": 1}}],
    )
    assert {problem.code for problem in problems} == {Code.VARIABLE_MISSING, Code.VARIABLE_UNKNOWN}
    assert all(problem.field.startswith("spec.samples[1].data.") for problem in problems)
    assert all("sample `b`" in problem.message for problem in problems)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"name": {"$ref": "other.json#/x"}}},
        {"properties": {"name": {"type": "strnig"}}},
        {"properties": {"name": {"pattern": "(unclosed"}}},
        {"properties": {"name": {"pattern": "(?=lookahead)"}}},
        {"properties": {"name": {"$ref": "#/$defs/none"}}},
        {"properties": {"name": {}, "letter": {}}},
    ],
)
def test_an_invalid_schema_is_rejected(schema: dict[str, Any]) -> None:
    problem = problems_of("<p>{{ name }}</p>", variables={"type": "object", **schema})[0]
    assert problem.code is Code.SCHEMA_INVALID
    assert problem.field.startswith("spec.variables")


def test_every_language_is_rendered_with_every_sample() -> None:
    validation = validated(
        locales=[{"tag": "de", "html": "<p>Hallo {{ name }}</p>"}],
        samples=[{"name": "a", "data": {"name": "A"}}, {"name": "b", "locale": "de", "data": {"name": "B"}}],
    )
    assert [(sample.name, sample.locale) for sample in validation.samples] == [
        ("a", "en"),
        ("a", "de"),
        ("b", "de"),
        ("b", "en"),
    ]
    assert all(sample.html_bytes > 10 < sample.text_bytes + 10 for sample in validation.samples)


def test_a_problem_in_only_one_language_is_found() -> None:
    problem = problem_of("<p>{{ name }}</p>", locales=[{"tag": "de", "html": "<p>\n{{ name.x }}</p>"}])
    assert (problem.field, problem.line) == ("spec.locales[0].html", 2)


def test_a_clean_template_gets_no_warning() -> None:
    assert validated().warnings == ()


PIECES = """<p> </p> <div class="a"> </div> <table> <tr> <td> </table> <style> </style> p{color:red} @media
    <!-- --> <title> </title> {{name}} {%if(name)%} {%else%} {%endif%} {%for(c)in(name)%} {%endfor%} {{c}}
    <a href=' '> " <br> < & &nbsp; é 田 <html> <body> </html> <head> </head> <!doctype {#c#} {%raw%}
    {%endraw%} <img text <script> </script> <svg> <o:p> {{ }} class="{{name}}" style="color:{{name}}" \\ '"""
FRAGMENTS = st.sampled_from(PIECES.split())
MONSTERS = ["<!--" * 15_000, "<style>" * 8_000, "<div>" * 5_000, " " * 60_000, "<a b='" * 8_000]


@given(st.lists(FRAGMENTS, min_size=1, max_size=20), st.lists(FRAGMENTS, max_size=5))
@settings(max_examples=40, deadline=None)
def test_validation_reports_problems_and_never_raises(html: list[str], css: list[str]) -> None:
    validation = validate_template(
        template("".join(html).replace("(", " ").replace(")", " "), css="".join(css) or None), None
    )
    assert validation.passed != bool(validation.problems)


@pytest.mark.parametrize("html", MONSTERS)
def test_a_huge_page_is_parsed_in_linear_time(html: str) -> None:
    validate_template(template(html), None)


# --- layouts --------------------------------------------------------------------------------------


def test_a_template_without_blocks_fills_content() -> None:
    html = validated(page=PAGE).samples[0].rendered.html
    assert "<p>Hello Zoë</p>" in html
    assert "the foot" in html


def test_a_template_fills_the_blocks_it_names_and_may_keep_what_was_there() -> None:
    foot = "{% block foot %}{{ super() }}, {% include 'address' %}{% endblock %}"
    html = "{% block content %}{{ name }}{% endblock %}\n" + foot
    text = validated(html, page=PAGE).samples[0].rendered.text
    assert text == "Zoë the foot, 1 Quay Street\n"


@pytest.mark.parametrize(
    ("html", "code", "line", "words"),
    [
        ("{% block contnet %}{{ name }}{% endblock %}", Code.BLOCK_NOT_FOUND, 1, "did you mean content"),
        ("{% block content %}{{ name }}", Code.TEMPLATE_SYNTAX, 1, "endblock"),
        (
            "{% block content %}{{ name }}{% endblock %}\n\nlost",
            Code.TEMPLATE_SYNTAX,
            3,
            "outside the blocks",
        ),
        ("a\n{% include 'adress' %}", Code.PARTIAL_NOT_FOUND, 2, "did you mean address"),
        ("a\n{% include name %}", Code.PARTIAL_NOT_FOUND, 2, "`name`"),
        ("a\nb\n{{ nmae }}", Code.VARIABLE_UNDECLARED, 3, "did you mean"),
    ],
)
def test_lines_are_those_of_the_template_also_in_a_layout(
    html: str, code: Code, line: int, words: str
) -> None:
    problem = problem_of(html, page=PAGE)
    assert (problem.field, problem.code, problem.line) == ("spec.html", code, line)
    assert words in problem.message


def test_a_problem_in_the_layout_has_the_layouts_field() -> None:
    page = layout(
        "<html><body>\n{{ nmae }}\n{% block content %}{% endblock %}{% include 'a' %}</body></html>",
        partials=[{"name": "a", "html": "x\n{{ missing }}"}],
    )
    problems = problems_of("<p>{{ name }}</p>", page=page)
    assert [(problem.field, problem.line) for problem in problems] == [
        ("EmailLayout/page.spec.html", 2),
        ("EmailLayout/page.spec.partials[0].html", 2),
    ]


def test_a_partial_that_includes_itself_is_rejected() -> None:
    page = layout(
        "{% block content %}{% endblock %}{% include 'a' %}",
        partials=[{"name": "a", "html": "{% include 'a' %}"}],
    )
    assert problem_of("<p>{{ name }}</p>", page=page).code is Code.TEMPLATE_UNSAFE


def test_partials_that_double_each_other_are_limited() -> None:
    partials = [{"name": f"p{n}", "html": f"{{% include 'p{n + 1}' %}}" * 40} for n in range(6)]
    page = layout(
        "{% block content %}{% endblock %}{% include 'p0' %}",
        partials=[*partials, {"name": "p6", "html": "x"}],
    )
    assert problem_of("<p>{{ name }}</p>", page=page).code is Code.TOO_LARGE


# --- sets -----------------------------------------------------------------------------------------


def profile(name: str = "shop", **spec: Any) -> SmtpProfile:
    return SmtpProfile.model_validate(
        {
            "apiVersion": "postroom.dev/v1alpha1",
            "kind": "SmtpProfile",
            "metadata": {"name": name},
            "spec": {"from": {"address": "post@larkfield.example"}, **spec},
        }
    )


def named(name: str, **spec: Any) -> EmailTemplate:
    found = template(**spec)
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"name": name})})


def key(name: str, kind: str = "EmailTemplate") -> ObjectKey:
    return ObjectKey(kind, "default", name)


def test_a_set_gives_each_profile_its_templates() -> None:
    verdict = validate_manifests([profile(), named("a", eventTypes=["a.a"]), named("b", eventTypes=["b.b"])])
    assert verdict.passed
    assert [each.name for each in verdict.compiled("default", "shop")] == ["a", "b"]
    assert verdict.compiled("default", "other") == []
    assert verdict.compiled("elsewhere", "shop") == []


def test_the_first_template_keeps_an_event_type() -> None:
    verdict = validate_manifests([profile(), named("old"), named("new")])
    assert [each.name for each in verdict.compiled("default", "shop")] == ["old"]
    [problem] = verdict.results[key("new")].problems
    assert (problem.code, problem.field) == (Code.EVENT_TYPE_CONFLICT, "spec.eventTypes[0]")
    assert "old" in problem.message


def test_the_first_profile_keeps_a_topic() -> None:
    for topic in ("postroom.default.shop", "postroom.default.shop.dlq", "postroom.default.shop.status"):
        second = profile(name="late", kafka={"topic": topic})
        verdict = validate_manifests([profile(), second, named("a", smtpProfileRef={"name": "late"})])
        [problem] = verdict.results[key("late", "SmtpProfile")].problems
        assert (problem.code, problem.field) == (Code.TOPIC_CONFLICT, "spec.kafka.topic")
        assert "delete shop first" in problem.message
        assert [each.name for each in verdict.profiles] == ["shop"]
        assert verdict.compiled("default", "late") == []


def test_an_invalid_template_claims_no_event_type() -> None:
    verdict = validate_manifests([profile(), named("old", html="{% if %}"), named("new")])
    assert [each.name for each in verdict.compiled("default", "shop")] == ["new"]


@pytest.mark.parametrize(
    ("spec", "code", "field"),
    [
        ({"layoutRef": {"name": "pgae"}}, Code.LAYOUT_NOT_FOUND, "spec.layoutRef.name"),
        ({"smtpProfileRef": {"name": "shpo"}}, Code.PROFILE_NOT_FOUND, "spec.smtpProfileRef.name"),
        ({"from": {"address": "x@evil.example"}}, Code.SENDER_NOT_ALLOWED, "spec.from.address"),
    ],
)
def test_a_reference_to_a_missing_object_is_reported(spec: dict[str, Any], code: Code, field: str) -> None:
    verdict = validate_manifests(
        [profile(allowedFromDomains=["larkfield.example"]), PAGE, named("a", **spec)]
    )
    validation = verdict.results[key("a")]
    assert [(problem.code, problem.field) for problem in validation.problems] == [(code, field)]
    assert validation.compiled is None


FOR_A_LAYOUT = {"layoutRef": {"name": "away"}}


@pytest.mark.parametrize(
    ("spec", "code", "field"),
    [
        ({"subject": "Hello {{ nmae }}"}, Code.VARIABLE_UNDECLARED, "spec.subject"),
        ({"html": "<p>{{ nmae }}</p>"}, Code.VARIABLE_UNDECLARED, "spec.html"),
        ({"html": "<p>{{ name }"}, Code.TEMPLATE_SYNTAX, "spec.html"),
        ({"html": "{% block a %}{{ nmae }}{% endblock %}"}, Code.VARIABLE_UNDECLARED, "spec.html"),
        ({"locales": [{"tag": "de", "html": "{% if %}"}]}, Code.TEMPLATE_SYNTAX, "spec.locales[0].html"),
        ({"css": "p { color }"}, Code.CSS_INVALID, "spec.css"),
        ({"samples": [{"name": "a", "data": {}}]}, Code.VARIABLE_MISSING, "spec.samples[0].data.name"),
    ],
)
def test_a_missing_layout_hides_no_problem_of_the_template(
    spec: dict[str, Any], code: Code, field: str
) -> None:
    found = named("a", **FOR_A_LAYOUT, **spec)
    [missing, problem] = validate_manifests([profile(), found]).results[key("a")].problems
    assert missing.code is Code.LAYOUT_NOT_FOUND
    assert (problem.code, problem.field) == (code, field)


HOLES = [
    "{%block(a)%}",
    "{%block(a-b)%}",
    "{%block('%}{%')%}",
    "{%endblock%}",
    "{%include('x')%}",
    "{%include",
]


@given(st.lists(st.sampled_from([*PIECES.split(), *HOLES]), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_template_without_its_layout_is_read_and_never_raises(html: list[str]) -> None:
    found = named("a", html="".join(html).replace("(", " ").replace(")", " "), **FOR_A_LAYOUT)
    validation = validate_manifests([profile(), found], incomplete=True).results[key("a")]
    assert not any("EmailLayout/" in problem.field for problem in validation.problems)


@pytest.mark.parametrize(
    "html",
    [
        "<tr><td>{{ name }}</td></tr>",
        "{% block head %}{{ super() }}{% endblock %} {% block row %}<td>{{ name }}</td>{% endblock %}",
        "{% include 'open' %}{{ name }}</td>{% include 'close' %}",
    ],
)
def test_a_layout_outside_the_set_is_not_guessed(html: str) -> None:
    validation = validate_manifests([named("a", html=html, **FOR_A_LAYOUT)], incomplete=True).results[
        key("a")
    ]
    assert [each.code for each in validation.warnings] == [Code.LAYOUT_NOT_FOUND, Code.PROFILE_NOT_FOUND]
    assert (validation.problems, validation.passed, validation.samples) == ((), False, ())


def test_a_template_is_validated_fully_if_its_profile_is_outside_the_set() -> None:
    validation = validate_manifests([named("a")], incomplete=True).results[key("a")]
    assert [each.code for each in validation.warnings] == [Code.PROFILE_NOT_FOUND]
    assert (validation.passed, len(validation.samples)) == (True, 1)


def test_a_sender_that_the_profile_does_not_allow_is_a_problem_in_an_incomplete_set() -> None:
    known = [profile(allowedFromDomains=["larkfield.example"])]
    found = named("a", **{"from": {"address": "x@evil.example"}})
    [problem] = validate_manifests([*known, found], incomplete=True).results[key("a")].problems
    assert problem.code is Code.SENDER_NOT_ALLOWED


def test_an_invalid_object_is_not_reported_as_missing() -> None:
    broken = [key("shop", "SmtpProfile"), key("page", "EmailLayout")]
    for spec in ({}, {"layoutRef": {"name": "page"}}):
        validation = validate_manifests([named("a", **spec)], invalid=broken).results[key("a")]
        assert (validation.problems, validation.passed) == ((), False)
    validation = validate_manifests([named("a", subject="{{ nmae }}")], invalid=broken).results[key("a")]
    assert [problem.code for problem in validation.problems] == [Code.VARIABLE_UNDECLARED]


def test_a_profile_of_another_namespace_is_named() -> None:
    found = named("a")
    other = found.model_copy(update={"metadata": found.metadata.model_copy(update={"namespace": "other"})})
    [problem] = (
        validate_manifests([profile(), other]).results[ObjectKey("EmailTemplate", "other", "a")].problems
    )
    assert "`shop` in namespace other; there is one in default" in problem.message


def test_a_repeated_object_is_reported_and_the_first_counts() -> None:
    verdict = validate_manifests([profile(), named("a", subject="One"), named("a", subject="Two")])
    assert [problem.code for problem in verdict.results[key("a")].problems] == [Code.MANIFEST_INVALID]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("<b>{% block content %}{% endblok %}</b>", "{% block content %} has no endblock"),
        ("<b>{% block content %}{% endblock %}{% endblok %}</b>", "Encountered unknown tag 'endblok'"),
        ("<b>{% for a in name %}{% block content %}{% endblock %}</b>", "`{% for %}` is never closed;"),
        ("<b>{% block content %}{% endblock %}{{ name</b>", "`{{` is not closed;"),
        ("<b>{% block content %}{% endblock %}{% include 'x' %}</b>", "`x` is not among"),
    ],
)
@pytest.mark.parametrize(
    "html",
    [
        "<p>Hello {{ name }}</p>",
        "{% block content %}a{% endblock %}\n{% block why %}{{ name }}{% endblock %}",
        "{% block content %}a{% endblok %}",
        "outside {% block content %}a{% endblock %}",
    ],
)
def test_an_unreadable_layout_is_reported_for_every_template_without_consequences(
    html: str, broken: str, message: str
) -> None:
    [problem] = problems_of(html, page=layout(broken))
    assert (problem.field, problem.line) == ("EmailLayout/page.spec.html", 1)
    assert problem.message.startswith(message)


def test_a_block_that_a_readable_layout_lacks_is_the_templates_problem() -> None:
    page = layout("<b>{% block content %}{% endblock %}</b>")
    problem = problem_of("{% block content %}a{% endblock %}\n{% block cnotent %}b{% endblock %}", page=page)
    assert (problem.field, problem.line) == ("spec.html", 2)
    assert problem.code is Code.BLOCK_NOT_FOUND
    assert problem.message == "the layout has no block `cnotent`; did you mean content?"


def test_a_layout_is_validated_by_itself() -> None:
    bad = layout("<p>\n{% if %}", css="p { color }", partials=[{"name": "a", "html": "x"}])
    problems = validate_manifests([bad]).results[key("page", "EmailLayout")].problems
    assert [(problem.field, problem.line) for problem in problems] == [("spec.css", 1), ("spec.html", 2)]
    assert validate_manifests([PAGE]).passed
