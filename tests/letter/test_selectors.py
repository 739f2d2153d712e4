"""Selectors, taken apart: how specific, what decides their match, and who reads them."""

import pytest
import tinycss2  # type: ignore[import-untyped]

from postroom.letter.html.selectors import Selector, SelectorError, Specificity, read_selector, read_selectors


def selector(text: str) -> Selector:
    """The selector that a text is."""
    return read_selector(tinycss2.parse_component_value_list(text))


@pytest.mark.parametrize(
    ("text", "specificity"),
    [
        ("p", (0, 0, 1)),
        ("*", (0, 0, 0)),
        ("*|p", (0, 0, 1)),
        ("#a .b c", (1, 1, 1)),
        ("a[href]:hover::before", (0, 2, 2)),
        ("a:before", (0, 0, 2)),
        (":is(#a, p) b", (1, 0, 1)),
        (":where(#a) b", (0, 0, 1)),
        (":not(.a, .b.c)", (0, 2, 0)),
        ("p:has(> #a)", (1, 0, 1)),
        (":nth-child(2n + 1 of .a, #b)", (1, 1, 0)),
        ("p:nth-child(2)", (0, 1, 1)),
        (r".sm\:w-full", (0, 1, 0)),
        ("#\\31 23 > .größe", (1, 1, 0)),
    ],
)
def test_a_selector_is_as_specific_as_the_standard_has_it(text: str, specificity: Specificity) -> None:
    assert selector(text).specificity == specificity


@pytest.mark.parametrize(
    ("text", "is_static"),
    [
        ("p > .a + b", True),
        ("p:first-child:not(.a)", True),
        (":is(p, a)", True),
        ("a:hover", False),
        ("a:not(:hover)", False),
        ("p:has(:checked)", False),
        ("li:nth-child(1 of :hover)", False),
        ("p::before", False),
        ("svg|a", False),
    ],
)
def test_states_are_what_the_document_does_not_decide(text: str, *, is_static: bool) -> None:
    assert selector(text).is_static is is_static


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        ("a:hover::before", True),
        ("input::-webkit-inner-spin-button", True),
        ("[title=a i]", True),
        ("a::-moz-focus-inner", False),
        (":-moz-any-link", False),
        ("a:not(:blah)", False),
        ("p:has(::-ms-x)", False),
        ("[type=a s]", False),
        ("svg|a", False),
    ],
)
def test_a_selector_that_some_browser_does_not_read_is_not_known(text: str, *, is_known: bool) -> None:
    assert selector(text).is_known is is_known


def test_attributes_are_found_at_any_depth() -> None:
    assert selector("#a .b[TITLE] :is(p[href], :not([dir=rtl]))").attributes == {
        "id",
        "class",
        "title",
        "href",
        "dir",
    }


@pytest.mark.parametrize(
    ("text", "to_match"), [("*|p *|b", "p b"), ("*|*", "*"), ("a  >\n b", "a>b"), (r".a\.b", r".a\.b")]
)
def test_what_is_matched_has_no_namespaces(text: str, to_match: str) -> None:
    assert selector(text).to_match == to_match


def test_what_may_match_at_any_time_has_no_states() -> None:
    assert selector("a:hover > b:first-child::before").without_state == "a>b:first-child"
    assert selector(":hover").without_state == "*"


def test_neighbours_decide_siblings_and_structure() -> None:
    assert list(selector("div p + b:hover i:first-child").neighbour_compounds()) == ["p", "b", "i"]
    assert list(selector("div > p b").neighbour_compounds()) == []
    assert list(selector(":is(p + b, i)").neighbour_compounds()) == ["*"]


@pytest.mark.parametrize(
    "text", ["", " ", "> p", "p >", "p > > b", "p,", ".", "#1", "[", "[=a]", "p:", "p;", "5"]
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        read_selectors(tinycss2.parse_component_value_list(text))
