"""Mistakes from other template languages: recognized, with the Jinja form; and no false alarms."""

import time

import pytest

from postroom.letter.language.other_languages import MOST, constructs, placeholders
from postroom.letter.language.stylesheets import hide, show
from postroom.letter.problems import Code, Severity
from tests.letter.factories import problems_of, refusal, validated

DECLARED = ("firstName", "name")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{#if x}}", "write `{% if x %}`"),
        ("{{~#if x~}}", "write `{% if x %}`"),
        ("{{#unless x}}", "write `{% if not x %}`"),
        ("{{#each xs}}", "write `{% for item in xs %}`"),
        ("{{#each xs as |x|}}", "write `{% for x in xs %}`"),
        ("{{#with x}}", "write `{% with item = x %}`"),
        ("{{#xs}}", "write `{% if xs %}` or `{% for item in … %}`"),
        ("{{^xs}}", "write `{% if not xs %}`"),
        ("{{#a}}{{/if}}", "write `{% if a %}`"),
        ("{{/if}}", "write `{% endif %}`"),
        ("{{/each}}", "write `{% endfor %}`"),
        ("{{/with}}", "write `{% endwith %}`"),
        ("{{{ x.y }}}", "write `{{ x.y }}`; values are always escaped"),
        ("{{& x}}", "write `{{ x }}`"),
        ("{{> footer}}", 'write `{% include "footer" %}`'),
        ("{{! a remark }}", "write `{# a remark #}`"),
        ("{{@index}}", "write `{{ loop.index0 }}`"),
        ("{{@first}}", "write `{{ loop.first }}`"),
        ("{{@key}}", "for key, value in x.items()"),
        ("{{../x}}", "write `{{ x }}`"),
        ("{{.Name}}", "write `{{ Name }}`"),
        ("{{.}}", "write `{{ item }}`"),
        ("{{if .X}}{{.Y}}", "write `{% if X %}`"),
        ("{{range $x := .Xs}}", "write"),
        ("{{ formatDate at }}", "write `{{ at|formatDate }}` if"),
        ('{{ at | date: "%Y" }}', 'write `|date("%Y")` with the argument in brackets'),
        ("{{ x|default:'a' }}", "write `|default('a')`"),
        ("{% assign x = 1 %}", "write `{% set name = value %}`"),
        ("{% trans 'x' %}", "stands in `messages` or `locales`"),
        ("{% blocktrans %}", "stands in `messages` or `locales`"),
        ("{% url 'x' %}", "write the whole address"),
        ("{% load i18n %}", "nothing to load"),
        ("{% csrf_token %}", "no form"),
        ("{% render 'a' %}", 'write `{% include "name" %}`'),
        ("{% capture x %}", "write `{% set name %}…{% endset %}`"),
        ("{% unless x %}", "write `{% if not … %}`"),
        ("{% if a %}{% elsif b %}", "write `{% elif … %}`"),
        ("{% if a %}{% else if b %}", "write `{% elif b %}`"),
        ("{% endunless %}", "write `{% endif %}`"),
        ("{% for x in xs %}{% empty %}", "write `{% else %}`"),
        ("{% for x of xs %}", "write `{% for x in xs %}`"),
        ("{% for (var x in xs) %}", "write `{% for x in xs %}`"),
        ("{% break %}", "items[:3]"),
        ("{% comment %}", "write `{# … #}`"),
        ("{% verbatim %}", "write `{% raw %}`"),
        ("{% if x = 1 %}", "write `{% if x == 1 %}`"),
        ('{% include "a" with b=1 %}', 'write `{% with b=1 %}{% include "a" %}{% endwith %}`'),
        (
            '{% include "a" with {b: 1, "c": x} %}',
            'write `{% with b=1, c=x %}{% include "a" %}{% endwith %}`',
        ),
        ('{% include "a" only %}', 'write `{% include "a" %}`'),
        ("{{ a && b }}", "write `and` for `&&`"),
        ("{% if a || b %}", "write `or` for `||`"),
        ("{{ !a }}", "write `not a`"),
        ("{% if !a.b %}", "write `not a.b`"),
        ("{% if a === b %}", "write `==` for `===`"),
        ("{% if a !== b %}", "write `!=` for `!==`"),
        ("{{ a ? 'b' : 'c' }}", "write `'b' if a else 'c'`"),
        ("{{ a ?? b }}", "write `or` for `??`"),
        ("{{ a?.b }}", "write `.` for `?.`"),
        ("{{ $a }}", "write `a`"),
        ("{{ a->b }}", "write `.` for `->`"),
    ],
)
def test_a_tag_of_another_language_is_shown_in_jinja(source: str, words: str) -> None:
    problem = refusal("one\n" + source, x=1, xs=[], a=1, b=1)
    assert words in problem.message
    assert (problem.code, problem.line, problem.column) in {
        (Code.TEMPLATE_SYNTAX, 2, 1),
        (Code.TEMPLATE_SYNTAX, 2, source.rfind("{%") + 1),
    }


def test_all_of_them_are_shown_at_once_with_their_places() -> None:
    problems = problems_of("{{#if name}}\n <b>{{{name}}}</b>\n{{else}}{{/if}}")
    assert [(each.line, each.column, each.length) for each in problems] == [
        (1, 1, 12),
        (2, 5, 10),
        (3, 1, 8),
        (3, 9, 7),
    ]


def test_what_is_jinja_is_left_alone_beside_a_mistake() -> None:
    source = (
        "{# {{#if}} #}{% raw %}{{#if}}{% endraw %}{{ 'a && b' }}{{ x|default('a ? b : c') }}{{ not x }}"
        "{% if x == '===' %}{{ x if y else z }}{{ x ~ '!y' }}{% endif %}{{ {'a': 1}.a }}{% set end = 1 %}"
        "\n{% if %}"
    )
    problems = list(constructs(source, "spec.html", 2))
    assert problems == []
    assert refusal(source).line == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("upcase", "; write `upper`"),
        ("linebreaksbr", "; write `nl2br`"),
        ("floatformat", "; write `number(2)`"),
        ("uper", "; did you mean upper?"),
        ("nl2b", "; did you mean nl2br?"),
    ],
)
def test_a_filter_of_another_language_is_known(name: str, words: str) -> None:
    problem = refusal(f"{{{{ x|{name} }}}}", x="")
    assert problem.code is Code.FILTER_NOT_ALLOWED
    assert words in problem.message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ x.replace('a', 'b') }}", '`x|replace("a", "b")`'),
        ("{{ ', '.join(x) }}", '`x|join(", ")`'),
        ("{{ '{}'.format(x) }}", '`"%s"|format(x)`'),
        ("{{ x.length }}", "`x|length`"),
        ("{{ x.toFixed(2) }}", "`x|number(2)`"),
        ("{% if [1].length %}{% endif %}", "`x|length`"),
        ("{% for a in [1] %}{{ loop.counter }}{% endfor %}", "`loop.index`"),
        ("{% for a in [1] %}{{ loop.parentloop.index }}{% endfor %}", "`{% set outer = loop %}`"),
    ],
)
def test_a_method_of_another_language_names_the_filter(source: str, words: str) -> None:
    assert words in refusal(source, x="a").message


# --- in the text ----------------------------------------------------------------------------------


def found(text: str) -> list[str]:
    return [each.message.split("`")[1] for each in placeholders([(text, "spec.html", 1)], DECLARED)]


@pytest.mark.parametrize(
    "text",
    [
        "${name}",
        "${ user.name }",
        "${name!'x'}",
        "%%name%%",
        "*|FNAME|*",
        "*|MC:SUBJECT|*",
        "*|IF:FNAME|*",
        "<%= name %>",
        "<% if name %>",
        "{$name}",
        "{!Contact.Name}",
        "[[name]]",
        "[[ first_name ]]",
        "[% name %]",
        "{name}",
        "{first_name}",
        "{ firstName.x }",
        "#{name}",
        "%name%",
        "@@name@@",
    ],
)
def test_a_placeholder_of_another_system_is_found(text: str) -> None:
    assert found(f'<p title="{text}">') == [text]


@pytest.mark.parametrize(
    "text",
    [
        "costs $5, {5}, ${5}, $ {x}",
        "100%% sure, 5% and 6%",
        "a [[1]] [[other]] {other} #{other} %other% @@other@@",
        "{}{{}}{name",
        "<style>a{name}b{${name}}</style>",
        "<script>`${name}`</script>",
        "<!-- ${name} -->",
        "a@b.org|c*|d",
        "<a href='x?a=%20name%20b'>",
        "p { color: red } .name{name:x}",
    ],
)
def test_what_readers_are_meant_to_see_is_no_placeholder(text: str) -> None:
    assert found(text) == []


def test_placeholders_are_warnings_with_a_place_and_a_way_out() -> None:
    validation = validated(
        "<p>{{ name }}</p>\n<p>Dear ${name},</p>{% raw %}${name}{% endraw %}", text="%%Name%% {{ name }}"
    )
    assert [(each.field, each.line, each.severity) for each in validation.warnings] == [
        ("spec.text", 1, Severity.WARNING),
        ("spec.html", 2, Severity.WARNING),
    ]
    assert (
        "write `{{ name }}` for the variable, or `{% raw %}${name}{% endraw %}` to show it"
        in validation.warnings[1].message
    )
    assert (validation.warnings[1].column, validation.warnings[1].length) == (9, 7)


@pytest.mark.parametrize(
    "source",
    [
        "{{" * 200_000,
        "{%" * 200_000,
        "{#" * 200_000,
        "{% raw %}" * 50_000,
        "{{ " + "a" * 300_000 + " ? }}",
        "{{ x " * 80_000,
        "<style" * 80_000 + "{#",
        "${" * 200_000,
        "[[ " * 100_000,
        "{ " * 200_000,
        "*|A" * 100_000,
        "${name}" * 50_000,
        "<!--" * 100_000 + "${name}",
    ],
)
def test_a_monstrous_source_is_read_in_one_go(source: str) -> None:
    source = source[:262_144]
    started = time.process_time()
    list(constructs(source, "spec.html", 1))
    assert len(list(placeholders([(source, "spec.html", 1)], DECLARED))) <= 12 * MOST
    assert show(hide(source)) == source
    assert time.process_time() - started < 5
