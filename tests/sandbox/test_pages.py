"""The pages: their texts, that they work without scripts, and that a letter cannot inject markup."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from postroom.sandbox import formatting, pages
from postroom.sandbox.detail_view import VIEWS
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.list_view import SEND_COMMAND
from postroom.sandbox.mime import StoredLetter
from postroom.sandbox.store import RetentionLimits
from postroom.sandbox.untrusted_content import with_color_scheme
from tests.sandbox.conftest import Call
from tests.sandbox.sample_letters import letter, raw, with_file

Capture = Callable[..., StoredLetter]

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</title><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "<svg/onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "]]><script>alert(1)</script>",
    "\u2028<script>alert(1)</script>",
]


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def visible(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def hostile_letter(payload: str) -> bytes:
    """A letter with the payload in every field that a page shows."""
    encoded = payload.encode()
    return b"".join(
        [
            b'From: "' + encoded + b'" <a@x.org>\r\nTo: ' + encoded + b"\r\nSubject: " + encoded,
            b"\r\nX-Postroom-Template: " + encoded + b"@" + encoded + b"\r\nX-Other: " + encoded,
            b'\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n' + encoded,
            b'\r\n--b\r\nContent-Type: text/html\r\n\r\n<a href="' + encoded + b'">' + encoded + b"</a>",
            b'\r\n--b\r\nContent-Type: application/x; name="'
            + encoded.replace(b'"', b"'")
            + b'"\r\n\r\nx\r\n--b--',
        ]
    )


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_content_of_a_letter_becomes_markup(call: Call, capture: Capture, payload: str) -> None:
    capture(hostile_letter(payload), f'"{payload}"@x.org')
    for view in VIEWS:
        page = Elements(call("GET", f"/letters/1?view={view}").text)
        assert len(page.named("script")) == 1
        for tag, attributes in page.found:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            assert "style" not in attributes
            assert not (attributes.get("href") or "").startswith(("javascript:", "data:"))
        assert [a for a in page.named("img") if a] == []


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_input_of_the_user_becomes_markup(call: Call, capture: Capture, payload: str) -> None:
    capture(raw(letter()))
    page = Elements(call("GET", "/", params={"q": payload, "view": payload[:20]}).text)
    assert len(page.named("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)


def test_pages_allow_no_inline_script_or_style(call: Call, capture: Capture) -> None:
    capture(raw(letter(html="<p>x</p>")))
    answer = call("GET", "/letters/1")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    page = Elements(answer.text)
    assert page.named("style") == []
    assert [a.get("src") for a in page.named("script")] == ["/static/postroom.js"]


def test_a_letters_html_is_shown_under_a_policy_that_runs_and_loads_nothing(
    call: Call, capture: Capture
) -> None:
    capture(raw(letter(html="<script>alert(1)</script><img src=https://evil.example/x.png>")))
    (frame,) = Elements(call("GET", "/letters/1").text).named("iframe")
    assert frame["sandbox"] in ("", None)
    answer = call("GET", str(frame["src"]))
    policy = answer.headers["content-security-policy"]
    directives = {name: value for name, _, value in (part.partition(" ") for part in policy.split("; "))}
    assert directives["default-src"] == "'none'"
    assert directives["sandbox"] == ""
    assert directives["img-src"] == "data: 127.0.0.1:8025/letters/1/pictures/"
    assert directives["form-action"] == directives["base-uri"] == "'none'"
    assert "script-src" not in directives


def test_a_hostile_host_header_stays_out_of_the_policy(call: Call, capture: Capture) -> None:
    capture(raw(letter(html="<p>x</p>")))
    answer = call("GET", "/letters/1/frame", headers={"host": "127.0.0.1; script-src *"})
    assert answer.status_code == 421


def test_every_asset_is_served_by_the_inbox(call: Call, capture: Capture) -> None:
    capture(raw(letter(html="<p>x</p>")))
    page = Elements(call("GET", "/letters/1").text)
    links = [a["href"] for tag in ("link", "use") for a in page.named(tag)]
    links += [a["src"] for tag in ("script", "iframe") for a in page.named(tag)]
    for link in links:
        assert str(link).startswith(("/static/", "/letters/"))
        assert call("GET", str(link).partition("#")[0]).status_code == 200
    for file in (pages.PACKAGE / "static").iterdir():
        assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", file.read_text())


def test_every_icon_of_the_pages_exists() -> None:
    drawn = set(re.findall(r'id="i-([\w-]+)"', (pages.PACKAGE / "static/icons.svg").read_text()))
    used = {icon for _, icon in VIEWS.values()}
    for template in (pages.PACKAGE / "templates").iterdir():
        used |= set(re.findall(r'icon\("([\w-]+)"\)', template.read_text()))
    assert used <= drawn


def test_the_empty_inbox_shows_how_to_send_a_letter(call: Call) -> None:
    page = call("GET", "/").text
    assert "The inbox is empty" in page
    assert SEND_COMMAND in page
    event_type = SEND_COMMAND.split()[2]
    examples = Path(__file__).parents[2] / "manifests/examples"
    assert any(f"- {event_type}\n" in example.read_text() for example in examples.glob("*.yaml"))
    assert "<code>127.0.0.1</code>, port <code>1025</code>" in page


def test_the_list_shows_captured_letters(call: Call, capture: Capture) -> None:
    capture(raw(letter("Your receipt")), "mira@example.com", "jonas@example.com")
    page = visible(call("GET", "/").text)
    assert "Unread. Your receipt" in page
    assert "mira@example.com and 1 more receipt" in page
    assert "1 of 1 letter, times in UTC." in page


def test_opening_a_letter_marks_it_read_but_a_foreign_page_cannot(
    call: Call, capture: Capture, inbox: Inbox
) -> None:
    capture(raw(letter()))
    call("GET", "/letters/1", headers={"sec-fetch-site": "cross-site"})
    assert inbox.store.counts().unread == 1
    call("GET", "/letters/1")
    assert inbox.store.counts().unread == 0
    call("POST", "/letters/1/unread")
    assert inbox.store.counts().unread == 1


def test_a_deletion_can_be_undone(call: Call, capture: Capture, inbox: Inbox) -> None:
    capture(raw(letter()))
    answer = call("POST", "/letters/1/delete")
    assert answer.status_code == 303
    page = call("GET", answer.headers["location"]).text
    undo = next(
        str(form["action"]) for form in Elements(page).named("form") if "/undo" in str(form["action"])
    )
    assert "1 letter deleted." in page
    assert inbox.store.counts().letters == 0
    assert call("POST", undo).headers["location"] == "/"
    assert inbox.store.counts().letters == 1


def test_a_missing_letter_is_404_with_an_explanation(call: Call, capture: Capture) -> None:
    capture(raw(letter()))
    answer = call("GET", "/letters/99")
    assert answer.status_code == 404
    assert "There is no letter 99." in answer.text


def test_every_link_keeps_the_search(call: Call, capture: Capture) -> None:
    for number in range(3):
        capture(raw(letter(f"Order {number}")))
    capture(raw(letter("Else")))
    page = call("GET", "/letters/2?q=subject:order&view=text").text
    hrefs = {str(a.get("href")) for a in Elements(page).named("a")}
    assert "/letters/3?q=subject%3Aorder&view=text" in hrefs
    assert "/letters/2?q=subject%3Aorder&view=source" in hrefs
    assert "/letters/2?q=subject%3Aorder" in hrefs
    assert "Else" not in page


def test_older_letters_are_on_further_pages(call: Call, capture: Capture) -> None:
    for number in range(53):
        capture(raw(letter(f"Letter {number}")))
    first = call("GET", "/").text
    assert "50 of 53 letters" in first
    second = call("GET", "/?before=4").text
    assert "Letter 2" in second
    assert "Back to the newest" in second


def test_an_unknown_operator_gets_a_suggestion(call: Call, capture: Capture) -> None:
    capture(raw(letter()))
    page = call("GET", "/?q=has:attachement").text
    assert 'href="/?q=has%3Aattachment"' in page


def test_each_view_shows_its_part_of_the_letter(call: Call, capture: Capture) -> None:
    capture(raw(with_file("invoice.pdf")))
    shown = {view: visible(call("GET", f"/letters/1?view={view}").text) for view in VIEWS}
    assert "Thank you." in shown["text"]
    assert "X-Postroom-Template: receipt@a3f9c21" in shown["source"]
    assert "X-Postroom-Template receipt@a3f9c21" in shown["headers"]
    assert "multipart/mixed" in shown["attachments"]
    assert "invoice.pdf" in shown["attachments"]
    assert "375 px wide." in shown["phone"]
    assert "The letter has no dark style of its own" in shown["dark"]


def test_views_name_a_missing_part(call: Call, capture: Capture) -> None:
    capture(raw(letter(html=None)))
    capture(raw(letter(html="<p>x</p>", text=None)))
    assert "No HTML part" in call("GET", "/letters/1").text
    assert "No text part" in call("GET", "/letters/2?view=text").text


def test_the_page_has_the_theme_of_the_cookie(call: Call) -> None:
    assert '<html lang="en" data-theme="dark">' in call("GET", "/", headers={"cookie": "theme=dark"}).text
    assert '<html lang="en">' in call("GET", "/", headers={"cookie": 'theme="><script>'}).text


def test_the_dark_scheme_selects_the_dark_rules() -> None:
    css = (
        "@media (prefers-color-scheme: dark) { a {} } @media screen and (PREFERS-color-scheme:light) { b {} }"
    )
    dark = with_color_scheme(css, dark=True)
    assert dark == "@media (min-width: 0px) { a {} } @media screen and (max-width: 0px) { b {} }"
    assert with_color_scheme(css, dark=False) != dark


def test_the_gauge_shows_how_full_the_inbox_is(call: Call, capture: Capture, inbox: Inbox) -> None:
    inbox.limits = RetentionLimits(letters=4)
    capture(raw(letter()))
    assert '<rect class="fill" width="25" height="6"/>' in call("GET", "/").text


# -- contrast of text and controls with their backgrounds, in both themes


def luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def tokens() -> dict[str, tuple[str, str]]:
    css = Path(pages.PACKAGE / "static/tokens.css").read_text()
    pair = r"--([\w-]+):\s+light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)"
    return {name: (light, dark) for name, light, dark in re.findall(pair, css)}


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ground", ["desk", "sheet", "paper", "sunk", "hover", "accent-soft"])
@pytest.mark.parametrize("ink", ["ink", "ink-2", "ink-3", "accent", "failed", "captured"])
def test_text_has_contrast(theme: int, ground: str, ink: str) -> None:
    found = tokens()
    assert contrast(found[ink][theme], found[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ground", ["desk", "sheet", "paper"])
@pytest.mark.parametrize("line", ["edge", "focus"])
def test_controls_and_focus_have_contrast(theme: int, ground: str, line: str) -> None:
    found = tokens()
    assert contrast(found[line][theme], found[ground][theme]) >= 3


def test_a_group_shows_its_letters_and_its_title_the_unread(
    call: Call, capture: Capture, inbox: Inbox
) -> None:
    for _ in range(3):
        capture(raw(letter("One")))
    call("GET", "/letters/1", headers={"sec-fetch-site": "none"})
    page = call("GET", "/").text
    assert 'title="3 letters, 2 unread">3<' in page


def test_an_international_domain_is_shown_in_unicode(call: Call, capture: Capture) -> None:
    capture(raw(letter("One")), "ada@xn--bcher-kva.example")
    page = call("GET", "/letters/1").text
    assert "<b>ada@bücher.example</b>" in page
    assert 'title="ada@xn--bcher-kva.example"' in page


@pytest.mark.parametrize("text", ["ada@xn--.example", "ada@xn--a.example", "xn--bcher-kva", "", "a@XN--0.b"])
def test_a_domain_that_does_not_encode_back_is_shown_unchanged(text: str) -> None:
    assert formatting.display_address(text) == text


def test_the_inbox_links_to_the_template_studio_if_there_is_one(call: Call, inbox: Inbox) -> None:
    assert "Templates" not in call("GET", "/").text
    inbox.studio = "http://127.0.0.1:8026"
    assert '<a href="http://127.0.0.1:8026/templates">' in call("GET", "/").text
