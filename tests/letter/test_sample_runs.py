"""Sample runs: which precomputed letters are compared with the reference form, and the effect of a
difference.
"""

from typing import Any

import pytest

from postroom.letter.bundle import LocaleVariant
from postroom.letter.html.stylesheet import CannotInline
from postroom.letter.html.template_source import InlinedSource, inlined
from postroom.letter.problems import Code
from postroom.letter.renderer import TemplateRenderer
from postroom.letter.validation.validate import validate_template
from tests.letter.factories import template, variables

INLINED = "postroom.letter.validation.sample_runs.inlined"
PAGE = "<style>b { color: red }</style>{% for n in range(count) %}<b>{{ n }}</b>{% endfor %}"
COUNT = variables(count={"type": "integer"})


def samples(*counts: int) -> list[dict[str, Any]]:
    return [{"name": f"of-{count}", "data": {"count": count}} for count in counts]


def counted(*counts: int, html: str = PAGE) -> Any:
    return validate_template(template(html, subject="x", variables=COUNT, samples=samples(*counts)), None)


@pytest.fixture
def wrong_for_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Precomputing damages letters with three elements or more."""

    def damage(*args: Any) -> InlinedSource:
        damaged = inlined(*args).text.replace("{% for", "{% if count > 2 %}@@{% endif %}{% for")
        return InlinedSource(damaged)

    monkeypatch.setattr(INLINED, damage)


@pytest.mark.usefixtures("wrong_for_three")
@pytest.mark.parametrize("counts", [(3,), (1, 3), (3, 1)])
def test_the_largest_letter_is_compared_with_the_reference_form(counts: tuple[int, ...]) -> None:
    validation = counted(*counts)
    assert validation.compiled is not None
    assert validation.compiled.variants[0].inline == "render"
    assert all("@@" not in result.rendered.html for result in validation.samples)
    found = [each.message for each in validation.warnings if each.code is Code.CSS_INLINED_PER_LETTER]
    assert len(found) == 1
    assert "sample `of-3` renders differently (html)" in found[0]


def test_a_letter_that_the_precomputed_form_rejects_uses_the_reference_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(INLINED, lambda *args: InlinedSource(inlined(*args).text + "{{ 1 // (2 - count) }}"))
    validation = counted(2, 3)
    assert [len(result.rendered.html) > 0 for result in validation.samples] == [True, True]
    assert validation.compiled.variants[0].inline == "render"


def test_a_letter_that_cannot_be_rendered_has_the_line_of_the_manifest() -> None:
    html = "<style>\nb { color: red }\n</style>\n<b>{{ 1 // count }}</b>"
    validation = counted(0, 1, html=html)
    assert [(each.field, each.line) for each in validation.problems] == [("spec.html", 4)]
    assert validation.problems[0].message.startswith("sample `of-0`")


def test_a_language_inlined_per_letter_is_rendered_once_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> LocaleVariant:
        raise CannotInline("no reason")

    monkeypatch.setattr(INLINED, refuse)
    written: list[object] = []
    right = TemplateRenderer.render_validated

    def write(live: Any, event: Any, data: Any) -> Any:
        written.append(data)
        return right(live, event, data)

    monkeypatch.setattr(TemplateRenderer, "render_validated", write)
    assert counted(1, 2).passed
    assert len(written) == 2
