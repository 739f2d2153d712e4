"""A frame shows the letter and fetches nothing; dark is the author's own, or a simulation."""

import re

import pytest

from postroom.letter.event import Attachment
from postroom.local.studio.preview import frame_html, inbox_line, invert, invert_css, remote_images

REMOTE = (
    '<p>a</p><img src="https://cdn.example/a.png?x=1&amp;y=2" srcset="https://cdn.example/b.png 2x" '
    'alt="Logo" width=120>'
)


@pytest.mark.parametrize(
    "tag",
    [
        '<img src="https://x.example/a.png">',
        "<img src='https://x.example/a.png'>",
        "<IMG SRC=https://x.example/a.png>",
        '<img alt=">" src = "//x.example/a.png"/>',
        '<img\nsrc="https://x.example/a.png"\n>',
        '<img/src="https://x.example/a.png">',
        '<img alt="" srcset="https://x.example/a.png 1x">',
    ],
)
@pytest.mark.parametrize("images", [True, False])
def test_no_image_of_another_server_is_left(tag: str, *, images: bool) -> None:
    assert "x.example" not in frame_html(tag, "light", images=images)


def test_a_placeholder_has_the_images_size_and_the_alt_text_stays() -> None:
    shown = frame_html(REMOTE, "light", images=True)
    assert 'alt="Logo"' in shown
    assert "width%3D%22120%22" in shown
    assert "a.png" in shown


def test_images_off_leave_the_alt_text() -> None:
    shown = frame_html(REMOTE, "light", images=False)
    assert 'alt="Logo"' in shown
    assert "data:image" not in shown


def test_an_own_image_shows_and_a_dangling_one_is_a_placeholder() -> None:
    logo = Attachment("logo.png", "image/png", b"PNG")
    html = '<img src="cid:logo.png"><img src="cid:other.png"><img src="data:image/gif;base64,R0">'
    shown = frame_html(html, "light", [logo], images=True)
    assert 'src="data:image/png;base64,UE5H"' in shown
    assert "other.png" in shown
    assert 'src="data:image/gif;base64,R0"' in shown


def test_an_attachment_that_is_no_image_is_never_shown_as_one() -> None:
    page = Attachment("x.svg", "image/svg+xml", b"<svg/>")
    assert "base64" not in frame_html('<img src="cid:x.svg">', "light", [page], images=True)


def test_remote_images_are_counted() -> None:
    assert remote_images(REMOTE + '<img src="cid:a"><img alt="none">') == 1


@pytest.mark.parametrize(
    ("css", "expected"),
    [
        ("color: #000", "color: #ebebeb"),
        ("color: #fff", "color: #ffffff"),
        ("background: #FFFFFF", "background: #1a1a1a"),
        ("background-color: rgb(255, 255, 255)", "background-color: #1a1a1a"),
        (
            "background: white url(https://x.example/white.png)",
            "background: #1a1a1a url(https://x.example/white.png)",
        ),
        ("background: #123", "background: #112233"),
        ("color: inherit", "color: inherit"),
        ("color: rgba(0, 0, 0, 0.5)", "color: rgba(235, 235, 235, 0.5)"),
        ("border-bottom: 1px solid #eee", "border-bottom: 1px solid #242424"),
        ("font-family: Black Ops", "font-family: Black Ops"),
        ("color: var(--black)", "color: var(--black)"),
    ],
)
def test_light_grounds_become_dark_and_dark_words_light(css: str, expected: str) -> None:
    assert invert_css(css) == expected


def test_hues_stay() -> None:
    found = re.search(r"#(..)(..)(..)", invert_css("color: #002050"))
    assert found
    red, _, blue = (int(each, 16) for each in found.groups())
    assert blue > red


def test_style_blocks_and_old_attributes_are_inverted_and_words_are_not() -> None:
    html = '<style>p { color: black }</style><td bgcolor="white" style="color:#000">color: black</td>'
    assert invert(html) == (
        '<style>p { color: #ebebeb }</style><td bgcolor="#1a1a1a" style="color:#ebebeb">color: black</td>'
    )


def test_dark_follows_the_authors_media_query_and_inversion_does_not() -> None:
    html = (
        "<html><head><style>@media (prefers-color-scheme: dark) { p { color: #fff } }</style></head></html>"
    )
    assert "(min-width: 0px)" in frame_html(html, "dark", images=True)
    for scheme in ("light", "inverted"):
        assert "(max-width: 0px)" in frame_html(html, scheme, images=True)


def test_what_a_dark_client_puts_under_a_letter_comes_before_its_own_rules() -> None:
    html = "<!doctype html><html><head><style>html { background: #333 }</style></head></html>"
    shown = frame_html(html, "inverted", images=True)
    assert shown.startswith("<!doctype html><html><head><style>html { background: #1b1b1b")


def test_an_inbox_shows_the_first_words_hidden_ones_too() -> None:
    html = (
        "<html><head><title>no</title><style>p { color: red }</style></head><body><!-- no -->"
        '<div style="display:none">Thank you&#847;&zwnj;&nbsp;</div><p>Hello &amp; welcome</p></body></html>'
    )
    assert inbox_line(html) == "Thank you Hello & welcome"
