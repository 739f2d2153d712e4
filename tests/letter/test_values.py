"""Values that every client understands, and those that some do not."""

import pytest

from postroom.letter.html.values import is_certain


@pytest.mark.parametrize(
    "declaration",
    [
        "color:red",
        "color:#FFF",
        "background:#336699",
        "background:none",
        "margin:0 auto",
        "margin:-4px 0 1.5em 10%",
        "margin-top:-.5em",
        "padding:0 10px 20px 5%",
        "width:600px",
        "max-width:none",
        "border:1px solid #eee",
        "border:0",
        "border-top:none",
        "font-family:'Open Sans', Helvetica Neue, sans-serif",
        "font-size:14px",
        "font-weight:700",
        "line-height:1.5",
        "display:inline-block",
        "text-decoration:none",
        "vertical-align:middle",
        "-webkit-text-size-adjust:100%",
        "mso-line-height-rule:exactly",
    ],
)
def test_what_every_client_understands_is_certain(declaration: str) -> None:
    name, _, value = declaration.partition(":")
    assert is_certain(name, value)


@pytest.mark.parametrize(
    "declaration",
    [
        "color:grean",
        "color:4px",
        "color:inherit",
        "color:currentcolor",
        "color:#ff",
        "color:#12345678",
        "color:rgb(0 0 0 / 50%)",
        "color:var(--a)",
        "background:linear-gradient(red, blue)",
        "margin:10",
        "margin:default",
        "margin:0 0 0 0 0",
        "padding:-1px",
        "padding:auto",
        "width:max-content",
        "width:calc(100% - 2px)",
        "width:10rem",
        "border:1px solid red blue",
        "display:flex",
        "display:grid",
        "text-align:start",
        "text-decoration:underline dotted",
        "font-family:",
        "unknown:red",
    ],
)
def test_a_mistake_and_what_is_recent_are_not_certain(declaration: str) -> None:
    name, _, value = declaration.partition(":")
    assert not is_certain(name, value)
