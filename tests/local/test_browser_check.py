"""The browser check on hand-made pairs: pages that must be equal, and damage that it must find."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.local.browser_check import PICTURE_TOLERANCE, BrowserCheck, Comparison, PagePair
from postroom.local.chromium import Chromium, find_chromium
from postroom.local.errors import UserError
from tests.layers import missing_browser, unavailable

PAGE = "<!doctype html><html><head>{head}</head><body>{body}</body></html>"


def page(css: str, body: str) -> str:
    return PAGE.format(head=f"<style>{css}</style>", body=body)


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserCheck]:
    if (missing := missing_browser()) is not None:
        unavailable("the browser", missing)
    with BrowserCheck() as check:
        yield check


def compared(browser: BrowserCheck, source: str, delivered: str, css: str = "") -> Comparison:
    (found,) = browser.compare([PagePair(source, delivered, css)])
    return found


RED = '<p class="a" style="color:red">x</p>'
EQUAL = {
    "a rule inlined": (page(".a{color:red}", '<p class="a">x</p>'), page("", RED)),
    "a hover rule that beats what was inlined": (
        page(".a{color:red} .a:hover{color:blue}", '<p class="a">x</p>'),
        page(".a:hover{color:blue !important}", RED),
    ),
    "a media rule that beats what was inlined": (
        page(".a{color:red} @media(max-width:400px){.a{color:blue}}", '<p class="a">x</p>'),
        page("@media(max-width:400px){.a{color:blue !important}}", RED),
    ),
    "a pseudo-element kept": (
        page(".a{color:red} .a::before{content:'x'}", '<p class="a">x</p>'),
        page(".a::before{content:'x'}", RED),
    ),
    "an implied tbody keeps its rule": (
        page("tbody{background:red} td{color:red}", "<table><tr><td>x</table>"),
        page("tbody{background:red}", '<table><tr><td style="color:red">x</table>'),
    ),
    "an attribute selector kept or inlined": (
        page("[title]{color:red} .a{color:blue}", "<p title=x>x<p class=a title=x>y"),
        page(
            "[title]{color:red} .a{color:blue}",
            '<p title=x style="color:red">x<p class=a title=x style="color:blue">y',
        ),
    ),
    "a custom property kept for the body that has no tag": (
        "<style>body{--x:red}p{color:var(--x)}</style><p>x",
        '<style>body{--x:red}</style><p style="color:var(--x)">x',
    ),
    "quirks": ("<style>td{color:red}</style><table><td>x", '<table><td style="color:red">x'),
    "a font from the network is not waited for": (
        page("@import url(https://fonts.example/x.css); p{color:red}", "<p>x"),
        page("@import url(https://fonts.example/x.css);", '<p style="color:red">x'),
    ),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", EQUAL)
def test_equal_pages_are_equal_in_every_check(browser: BrowserCheck, name: str) -> None:
    source, delivered = EQUAL[name]
    found = compared(browser, source, delivered)
    assert found.differences == ()
    assert found.equal
    assert found.elements > 2


DAMAGE = {
    "color": (page(".a{color:red}", '<p class="a">x'), page("", '<p class="a">x'), "styles", "color"),
    "nothing is inlined": (
        page(".a{color:red}", '<p class="a">x'),
        page(".a{color:red}", '<p class="a">x'),
        "inlined",
        "color",
    ),
    "narrow": (
        page("@media(max-width:400px){.a{color:red}}", "<p class=a>x"),
        page("", "<p class=a>x"),
        "styles",
        "color",
    ),
    "wide": (
        page("@media(min-width:800px){.a{color:red}}", "<p class=a>x"),
        page("", "<p class=a>x"),
        "styles",
        "color",
    ),
    "device width": (
        page("@media(max-device-width:400px){.a{color:red}}", "<p class=a>x"),
        page("", "<p class=a>x"),
        "styles",
        "color",
    ),
    "dark": (
        page("@media(prefers-color-scheme:dark){.a{color:red}}", "<p class=a>x"),
        page("", "<p class=a>x"),
        "styles",
        "color",
    ),
    "hover": (
        page(".a:hover{color:red}", "<p class=a>x"),
        page(".a:hover{color:red}", '<p class=a style="color:black">x'),
        "hover",
        "color",
    ),
    "visited": (
        page("a:visited{color:red}", "<a href=x>x</a>"),
        page("", "<a href=x>x</a>"),
        "visited",
        "color",
    ),
    "checked": (
        page("input:checked + p{color:red}", "<input type=checkbox><p>x"),
        page("", "<input type=checkbox><p>x"),
        "checked",
        "color",
    ),
    "Outlook's hook": (
        page("[data-ogsc] p{color:red}", "<p>x"),
        page("", "<p>x"),
        "outlook",
        "color",
    ),
    "Gmail's hook": (
        page("u + .b p{color:red}", "<p>x").replace("<body>", "<body class=b>"),
        page("", "<p>x").replace("<body>", "<body class=b>"),
        "gmail",
        "color",
    ),
    "Apple's hook": (
        page("a[x-apple-data-detectors]{color:red}", "<p>x</p>"),
        page("", "<p>x</p>"),
        "apple",
        "color",
    ),
    "pseudo-element": (
        page("p::before{content:'y'}", "<p>x"),
        page("", "<p>x"),
        "styles",
        "::beforecontent",
    ),
    "custom property": (page("p{--x:1}", "<p>x"), page("", "<p>x"), "styles", "--x"),
    "a property of any name": (
        page("p{column-rule-style:dotted}", "<p>x"),
        page("", "<p>x"),
        "styles",
        "column-rule-style",
    ),
    "the rule of an implied element": (
        page("tbody{color:red}", "<table><tr><td>x</table>"),
        page("", "<table><tr><td>x</table>"),
        "styles",
        "color",
    ),
    "an element moved": (
        page("", "<a href=x><table><tr><td>x</table></a>"),
        page("", "<a href=x></a><table><tr><td>x</table>"),
        "bytes",
        "text",
    ),
    "an element in another order": (
        page("", "<b></b><i></i>"),
        page("", "<i></i><b></b>"),
        "elements",
        "element",
    ),
    "quirks mode lost": ("<p>x", "<!doctype html><p>x", "elements", "compatMode"),
    "an attribute added": (page("", "<td width=1>"), page("", "<td width=2>"), "bytes", "text"),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_is_found(browser: BrowserCheck, name: str) -> None:
    source, delivered, check, name_of_property = DAMAGE[name]
    found = compared(browser, source, delivered)
    assert not found.equal
    assert (check, name_of_property) in {(each.check, each.property) for each in found.differences}


@pytest.mark.browser
def test_the_separate_sheet_comes_before_the_pages_own_styles(browser: BrowserCheck) -> None:
    source = page("p{color:red}", "<p>x")
    assert compared(browser, source, page("", '<p style="color:red">x'), "p{color:blue}").equal
    assert not compared(browser, source, page("", '<p style="color:blue">x'), "p{color:blue}").equal


@pytest.mark.browser
def test_a_difference_names_element_line_and_both_values(browser: BrowserCheck) -> None:
    body = '<table>\n<tr><td class="a">1<td class="a">2</table>'
    found = compared(
        browser, page(".a{color:red}", body), page("", body.replace('a">1', 'a" style="color:red">1'))
    )
    first = found.differences[0]
    assert (first.line, first.property) == (2, "color")
    assert first.path == "html > body > table > tbody > tr > td.a:nth-of-type(2)"
    assert (first.source, first.delivered) == ("rgb(255, 0, 0)", "rgb(0, 0, 0)")
    assert (first.width, first.scheme) == (600, "light")
    assert str(first) == (
        "styles: line 2: html > body > table > tbody > tr > td.a:nth-of-type(2) color: "
        "'rgb(255, 0, 0)' became 'rgb(0, 0, 0)' (600 px, light)"
    )


@pytest.mark.browser
def test_elements_that_cannot_have_a_style_are_excluded_and_counted(browser: BrowserCheck) -> None:
    implied = "<style>tbody{color:red}</style><table><tr><td>x</table>"
    assert compared(browser, implied, implied).excluded == 3  # html, body, tbody
    twice = page("b{color:red}", "<p><b>x<p>y")
    assert compared(browser, twice, twice.replace("<b>", '<b style="color:red">')).excluded == 2


@pytest.mark.browser
def test_scripts_of_a_page_do_not_run(browser: BrowserCheck) -> None:
    source = page("", "<script>document.write('<b>x</b>')</script><p onclick=x>")
    assert compared(browser, source, source).elements == len(["html", "body", "p"])


@pytest.mark.browser
def test_many_pairs_keep_their_order(browser: BrowserCheck) -> None:
    pairs = [PagePair(page("", "<p>" * n), page("", "<p>" * n), name=str(n)) for n in range(60)]
    found = browser.compare(pairs)
    assert [(each.name, each.elements) for each in found] == [(str(n), n + 2) for n in range(60)]


@pytest.mark.browser
def test_pictures_are_compared_within_a_tolerance(browser: BrowserCheck) -> None:
    source = page("p{color:red;height:2000px}", "<p>some words")
    assert browser.compare_pictures(PagePair(source, source)) == 0
    assert browser.compare_pictures(PagePair(source, source.replace("red", "blue"))) > 0
    taller = source.replace("2000px", "2100px")
    assert browser.compare_pictures(PagePair(source, taller)) > PICTURE_TOLERANCE


@pytest.mark.browser
def test_an_exception_in_the_page_is_an_error_and_the_next_call_works() -> None:
    if (missing := missing_browser()) is not None:
        unavailable("the browser", missing)
    with Chromium() as chromium:
        with pytest.raises(UserError, match="nowhere is not defined"):
            chromium.evaluate("nowhere()")
        with pytest.raises(UserError, match=r"rejected Page\.noSuchCommand"):
            chromium.call("Page.noSuchCommand")
        assert chromium.evaluate("1 + 1") == 2


def test_without_chromium_the_error_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install chromium"):
        find_chromium()


@pytest.mark.parametrize("names", [["chromium-browser"], ["google-chrome", "chromium-browser"]])
def test_the_first_browser_on_path_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: list[str]
) -> None:
    for name in names:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() == tmp_path / names[0]


@pytest.mark.processes
def test_a_program_that_is_not_a_browser_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho no display >&2\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match="no display"), BrowserCheck(program):
        pass


@pytest.mark.processes
def test_a_program_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not start"), BrowserCheck(tmp_path / "chromium"):
        pass
