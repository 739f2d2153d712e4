"""The tags of a page by position: what `scan_page` finds and what it skips."""

import pytest

from postroom.local.browser_check import byte_difference, scan_page


def names(page: str) -> list[str]:
    return [tag.name for tag in scan_page(page).tags]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<P>a<Br/>b", ["p", "br"]),
        ("<!-- <b> --><i>", ["i"]),
        ("<!--><b>", ["b"]),
        ("<!---><b>", ["b"]),
        ("<!-- a --!><b>", ["b"]),
        ("<!-- never closed <b>", []),
        ("<!--[if mso]><table><![endif]--><td>", ["td"]),
        ("<!--[if !mso]><!--><b><!--<![endif]-->", ["b"]),
        ("<![if !mso]><b><![endif]>", ["b"]),
        ("<?xml version='1.0'?><b>", ["b"]),
        ("</ b><i>", ["i"]),
        ("</><i>", ["i"]),
        ("a < b <i>", ["i"]),
        ("<script>'<b>'</script><i>", ["script", "i"]),
        ("<title><b></title><i>", ["title", "i"]),
        ("<textarea><b></TEXTAREA ><i>", ["textarea", "i"]),
        ("<style><b></style><i>", ["i"]),
        ("<style><b></styles></style><i>", ["i"]),
        ("<svg><title><b></title></svg><title><i></title>", ["svg", "title", "b", "title"]),
        ("<svg/><title><i></title>", ["svg", "title"]),
        ("<svg><![CDATA[<b>]]><g></svg>", ["svg", "g"]),
        ("<p><![CDATA[<b>]]>", ["p"]),
        ("<plaintext><b>", ["plaintext"]),
        ("<a title='>' href=x><b>", ["a", "b"]),
        ('<a title="<b>"><i>', ["a", "i"]),
        ("<a title='never closed><b>", []),
        ("<v:roundrect arcsize=10%><w:anchorlock/>", ["v:roundrect", "w:anchorlock"]),
    ],
)
def test_start_tags_are_found_as_the_standard_defines(page: str, expected: list[str]) -> None:
    assert names(page) == expected


def test_attributes_are_found_in_every_notation() -> None:
    page = "<td/class=a\nSTYLE = 'x'  bgcolor=#fff style=\"y\" nowrap =b>"
    (tag,) = scan_page(page).tags
    assert [name for name, _, _ in tag.attributes] == [
        "class",
        "style",
        "bgcolor",
        "style",
        "nowrap",
        "=b",
    ] or [name for name, _, _ in tag.attributes] == ["class", "style", "bgcolor", "style", "nowrap"]
    assert scan_page(page).without_styles() == "<td/class=a  bgcolor=#fff nowrap =b>"


def test_tags_are_numbered_and_the_sheet_comes_before_the_pages_styles() -> None:
    page = "<!doctype html>\n<html><head><style>b{}</style></head><body>"
    marked = scan_page(page).marked("a{}")
    assert marked == (
        '<!doctype html>\n<html data-postroom-tag="0"><head data-postroom-tag="1">'
        '<style>a{}</style><style>b{}</style></head><body data-postroom-tag="2">'
    )


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<!doctype html><p>", "<!doctype html><style>a{}</style><p"),
        ("<!-- x --><!DOCTYPE html><p>", "<!-- x --><!DOCTYPE html><style>a{}</style><p"),
        ("<p>", "<style>a{}</style><p"),
        ("<html lang=en><p>", '<html data-postroom-tag="0" lang=en><style>a{}</style><p'),
    ],
)
def test_a_page_without_a_head_gets_the_sheet_where_a_head_would_begin(page: str, expected: str) -> None:
    assert scan_page(page).marked("a{}").startswith(expected)


@pytest.mark.parametrize(
    ("source", "delivered"),
    [
        ("<p>a</p>", '<p style="color: red">a</p>'),
        ("<p style=a>a</p>", '<p style="a; b">a</p>'),
        ("<br/>", '<br style="a"/>'),
        ("<head>\n<style>a</style>\n</head>", "<head>\n</head>"),
        ("<head>\n<style>a</style>\n</head>", "<head></head>"),
        ("<head>\n</head>", "<head>\n<style>a</style>\n</head>"),
        ("<head><style>a</style><style>b</style></head>", "<head><style>c</style></head>"),
        ("a <!-- <style>a</style> --> b", "a <!-- <style>a</style> --> b"),
        ("<a href='\n x \n'><img src=\" y\">", "<a href='x'><img src=\"y\">"),
    ],
)
def test_style_attributes_and_blocks_may_change(source: str, delivered: str) -> None:
    assert byte_difference(scan_page(source), scan_page(delivered)) is None


@pytest.mark.parametrize(
    ("source", "delivered", "line"),
    [
        ("<p>\n&nbsp;</p>", "<p>\n\u00a0</p>", 2),
        ("<td align=left>", "<td align='left'>", 1),
        ("<td>", '<td bgcolor="#fff" style="a">', 1),
        ("<style>\n\n</style>\n<P>", "<style>\n\n</style>\n<p>", 4),
        ("<p>a</p>", "<p>a</p>\n", 1),
        ("a <!-- <style>a</style> --> b", "a <!--  --> b", 1),
        ("<a href=' x y '>", "<a href='xy'>", 1),
        ("<a title=' x '>", "<a title='x'>", 1),
    ],
)
def test_any_other_change_is_a_difference_at_its_line(source: str, delivered: str, line: int) -> None:
    found = byte_difference(scan_page(source), scan_page(delivered))
    assert found is not None
    assert found[0] == line
