"""`postroom check --browser`: the findings about a letter that looks different from its source page."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from postroom.cli.app import app
from postroom.letter.problems import Code, Severity
from postroom.letter.validation import sample_runs
from postroom.letter.validation.validate import ManifestValidation, object_key, validate_template
from postroom.local import browser_check
from postroom.local.browser_check import Comparison, Difference, add_browser_findings, appearance_problems
from tests.layers import missing_browser, unavailable
from tests.letter.factories import layout, template

PAGE = """<!doctype html>
<html lang="en"><head><title>x</title></head><body>
<p class="a">Hello {{ name }}</p>
<p class="b">Bye</p>
</body></html>
"""
MANIFESTS = """apiVersion: postroom.dev/v1alpha1
kind: SmtpProfile
metadata: {name: shop}
spec:
  from: {name: Shop, address: post@larkfield.example}
---
apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata: {name: hello}
spec:
  smtpProfileRef: {name: shop}
  eventTypes: [shop.hello]
  subject: Hello
  html: |
    <!doctype html>
    <html lang="en"><body><p class="a">Hello</p></body></html>
  css: ".a { color: red } .a:hover { color: blue }"
  samples: [{name: only, data: {}}]
"""


@pytest.fixture
def _chromium() -> None:
    if (missing := missing_browser()) is not None:
        unavailable("check --browser", missing)


class Differs:
    """A browser that finds the given differences in every pair."""

    def __init__(self, *differences: Difference) -> None:
        self.differences = differences
        self.sources: list[str] = []

    def compare(self, pairs):  # type: ignore[no-untyped-def]
        self.sources += [pair.source for pair in pairs]
        return [Comparison(pair.name, 3, 3, 0, 0, 1, self.differences) for pair in pairs]


def reported(browser: Differs, html: str = PAGE, **spec: object) -> list[tuple[str, int | None]]:
    item = template(html, **spec)
    found = appearance_problems(item, None, validate_template(item, None), browser)  # type: ignore[arg-type]
    return [(problem.message, problem.line) for problem in found]


def difference(
    check: str = "styles", name: str = "color", path: str = "html > p", **more: object
) -> Difference:
    values = {"line": 3, "source": "red", "delivered": "blue", "width": 600, "scheme": "light", **more}
    return Difference(check, path, property=name, **values)  # type: ignore[arg-type]


def test_a_difference_names_the_sample_the_element_and_both_values() -> None:
    assert reported(Differs(difference(line=4))) == [
        ("sample `zoe`: `html > p`: color red became blue at 600 pixels, light", 4)
    ]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("hover", "blue while it is hovered or focused"),
        ("gmail", "blue with the elements that Gmail adds"),
        ("inlined", "blue in clients that ignore `<style>`"),
    ],
)
def test_a_difference_names_the_check_that_found_it(check: str, words: str) -> None:
    assert reported(Differs(difference(check)))[0][0].endswith(words)


def test_a_line_that_comes_from_data_has_no_source_line() -> None:
    assert reported(Differs(difference(line=3)))[0][1] is None
    assert reported(Differs(difference(line=4)))[0][1] == 4
    assert reported(Differs(difference(line=None)))[0][1] is None
    twice = PAGE.replace("Hello {{ name }}", "Bye").replace('"a"', '"b"')
    assert reported(Differs(difference(line=4)), twice + "{{ name }}")[0][1] is None


def test_a_finding_lists_at_most_four_properties_of_an_element() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    found = reported(
        Differs(*(difference(name=name, scheme=scheme) for scheme in ("light", "dark") for name in names))
    )
    assert len(found) == 1
    assert "d red became blue and 2 more properties" in found[0][0]


def test_a_consequence_of_another_difference_is_omitted() -> None:
    follows = difference(name="border-top-color"), difference(name="width")
    assert "border" not in reported(Differs(difference(), *follows))[0][0]
    assert "border-top-color red became blue, width red became blue at" in reported(Differs(*follows))[0][0]


def test_eight_elements_are_reported_and_the_rest_is_counted() -> None:
    found = reported(Differs(*(difference(path=f"p:nth({n})") for n in range(20))))
    assert len(found) == 9
    assert found[-1] == ("sample `zoe`: 12 more elements differ", None)


def test_the_same_difference_in_two_samples_is_reported_once() -> None:
    samples = [{"name": "zoe", "data": {"name": "Zoë"}}, {"name": "al", "data": {"name": "Al"}}]
    assert len(reported(Differs(difference()), samples=samples)) == 1


def test_differences_of_bytes_and_elements_have_their_own_messages() -> None:
    bytes_, elements = reported(
        Differs(
            difference("bytes", "text", "", source="&nbsp;", delivered=" "),
            difference("elements", "element", "html > a", source="TD 4", delivered="TD (implied)"),
        )
    )
    assert "outside of `style` attributes and `<style>` elements: '&nbsp;' became ' '" in bytes_[0]
    assert "the browser creates other elements: TD 4 became TD (implied)" in elements[0]


def test_the_source_page_has_the_samples_data_and_its_own_styles() -> None:
    browser = Differs()
    html = PAGE.replace("</title>", "</title><style>.b { color: red }</style>")
    reported(browser, html, css=".a { color: red }")
    assert browser.sources == [html.replace("{{ name }}", "Zoë").removesuffix("\n")] or browser.sources == [
        html.replace("{{ name }}", "Zoë")
    ]


def test_source_pages_come_in_the_order_of_the_letters_with_the_layouts_sheet() -> None:
    page = layout("<html><body>{% block content %}{% endblock %}</body></html>", css="p { margin: 0 }")
    samples = [
        {"name": "zoe", "data": {"name": "Zoë"}},
        {"name": "al", "data": {"name": "Al"}, "locale": "de"},
    ]
    locales = [{"tag": "de", "html": "<p>Hallo {{ name }}</p>"}]
    item = template(layoutRef={"name": "page"}, samples=samples, locales=locales, css="p { color: red }")
    proof = validate_template(item, page)
    assert proof.compiled is not None
    found = list(sample_runs.source_pages(item, page, proof.compiled))
    assert [(each.sample, each.locale) for each in found] == [
        (each.name, each.locale) for each in proof.samples
    ]
    assert {each.css for each in found} == {"p { margin: 0 }\np { color: red }"}
    assert "<p>Hallo Al</p>" in next(each.page for each in found if each.sample == "al")


@pytest.mark.browser
@pytest.mark.usefixtures("_chromium")
def test_check_compares_only_templates_that_pass(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    done = CliRunner().invoke(app, ["check", str(tmp_path), "--browser"])
    assert done.exit_code == 0, done.output
    assert "page_differs" not in done.output


@pytest.mark.browser
@pytest.mark.usefixtures("_chromium")
def test_a_difference_is_a_warning_of_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    item, page = template(), layout("<p>{% block content %}{% endblock %}")
    proof = validate_template(item, None)
    damaged = [
        sample_runs.SourcePage(each.name, each.locale, each.rendered.html.replace("Hello", "Hallo"), "")
        for each in proof.samples
    ]
    monkeypatch.setattr(browser_check, "source_pages", lambda *_: iter(damaged))
    validation = add_browser_findings(
        [item, page],
        ManifestValidation({object_key(item): proof, object_key(page): validate_template(item, None)}),
    )
    (warning,) = [
        each for each in validation.results[object_key(item)].warnings if each.code is Code.PAGE_DIFFERS
    ]
    assert warning.severity is Severity.WARNING
    assert "Hallo" in warning.message
    assert not validation.results[object_key(item)].problems


def test_check_without_chromium_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["check", str(tmp_path), "--browser"])
    assert done.exit_code == 1
    assert "apt-get install chromium" in str(done.exception)
