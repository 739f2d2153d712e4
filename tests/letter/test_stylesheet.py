"""A style sheet, read as browsers read it: in order, flat, with what is wrong with it."""

import pytest

from postroom.letter.html.stylesheet import Group, StyleRule, Verbatim, read_declarations, read_sheet


def flat(css: str) -> list[tuple[str, str]]:
    """Selectors and declarations of all rules, in order."""
    return [
        (
            ", ".join(selector.text for selector in rule.selectors),
            ";".join(each.text(important=each.important) for each in rule.declarations),
        )
        for rule in read_sheet(css).rules
    ]


@pytest.mark.parametrize(
    ("css", "rules"),
    [
        ("p{color:red}", [("p", "color:red")]),
        ("P , .a{COLOR : Red !IMPORTANT ;}", [("P, .a", "color:Red !important")]),
        ("p{--A:  b c}", [("p", "--A:b c")]),
        ("p{a:b;a:c}", [("p", "a:b;a:c")]),
        ("p{a: /* x */ b\n  c}", [("p", "a:b c")]),
        ("p{}", []),
        ("<!-- p{a:b} -->", [("p", "a:b")]),
        ("p{a:b} } b{c:d}", [("p", "a:b")]),
        ("p{a:b; c; d:e}", [("p", "a:b;d:e")]),
        ("p{a:b", [("p", "a:b")]),
        ("p,{a:b} b{c:d}", [("b", "c:d")]),
        ("p{a:b; &.x{c:d} e:f}", [("p", "a:b"), ("p.x", "c:d"), ("p", "e:f")]),
        ("p{b &{c:d} > i{e:f} + u &{g:h}}", [("b p", "c:d"), ("p > i", "e:f"), ("p + u p", "g:h")]),
        ("p, #a{b{c:d}}", [(":is(p, #a) b", "c:d")]),
        ("p, b{i{c:d}}", [("p i, b i", "c:d")]),
        ("p{@media print{a:b}}", [("p", "a:b")]),
    ],
)
def test_rules_are_read_flat_and_in_order(css: str, rules: list[tuple[str, str]]) -> None:
    assert flat(css) == rules


def test_what_is_in_a_group_is_conditional_and_has_the_condition_of_all_groups_around_it() -> None:
    css = "p{a:b} @media print{p{a:b} @supports (x: y){p{a:b}}} @layer x{p{a:b}}"
    found = [(rule.conditional, rule.condition, rule.layered) for rule in read_sheet(css).rules]
    assert found == [
        (False, "", False),
        (True, " @media print", False),
        (True, " @media print @supports (x: y)", False),
        (True, " @layer x", True),
    ]


@pytest.mark.parametrize(
    ("comment", "conditional"),
    [
        ("/* postroom: keep */", [True, False]),
        ("/* juice ignore next */", [True, False]),
        ("/* postroom: keep start */", [True, True]),
        ("/* postroom: keep start *//* postroom: keep end */", [False, False]),
        ("/* keep */", [False, False]),
    ],
)
def test_a_comment_keeps_a_rule_or_a_stretch(comment: str, conditional: list[bool]) -> None:
    assert [rule.conditional for rule in read_sheet(f"{comment} p{{a:b}} b{{a:b}}").rules] == conditional


@pytest.mark.parametrize(
    ("media", "conditional"), [("", False), (" ALL ", False), ("screen", True), ("print", True)]
)
def test_the_media_of_a_style_element_is_a_condition(media: str, *, conditional: bool) -> None:
    (rule,) = read_sheet("p{a:b}", media).rules
    assert (rule.conditional, bool(rule.condition)) == (conditional, conditional)


def test_other_at_rules_are_passed_on_as_they_are() -> None:
    css = "@import url(x.css);@font-face{font-family:X;src:url(x)}@media print{@page{margin:0}}"
    items = read_sheet(css).items
    assert [type(item) for item in items] == [Verbatim, Verbatim, Group]
    assert isinstance(items[2], Group)
    assert [type(item) for item in items[2].items] == [Verbatim]


def test_properties_of_keyframes_are_animated() -> None:
    assert read_sheet("@-webkit-keyframes x{from{top:0}50%{color:red}}").animated == {"top", "color"}


@pytest.mark.parametrize(
    ("css", "whole"),
    [("p, a:hover{a:b}", False), ("p, a::-moz-x{a:b}", True), ("p:is(b, :unknown){a:b}", True)],
)
def test_a_rule_that_some_browser_leaves_out_stays_whole(css: str, *, whole: bool) -> None:
    (rule,) = read_sheet(css).rules
    assert isinstance(rule, StyleRule)
    assert rule.whole is whole


@pytest.mark.parametrize(
    ("css", "line", "column"),
    [
        ("p { a:b }\np { color }", 2, 5),
        ("p { a:b }\n\n  p[ { a:b }", 3, 4),
        ("p { *zoom: 1 }", 1, 5),
        ("p { color: red\\9 }", 1, 5),
    ],
)
def test_what_a_browser_would_skip_has_a_place(css: str, line: int, column: int) -> None:
    problem = read_sheet(css).problems[0]
    assert (problem.line, problem.column) == (line, column)


def test_the_declarations_of_an_attribute_are_those_that_a_browser_reads() -> None:
    found = read_declarations("color:red; ; b; Margin : 0 !important; background:url(a;b)")
    assert [(each.name, each.value, each.important) for each in found] == [
        ("color", "red", False),
        ("margin", "0", True),
        ("background", "url(a;b)", False),
    ]
