"""The pages: what they say, that they work without scripts, and that a letter cannot write into them."""

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
from tests.sandbox.conftest import Ask
from tests.sandbox.sample_letters import letter, raw, with_file

Keep = Callable[..., StoredLetter]

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
    """A letter that carries the payload in every place that a page shows."""
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
def test_nothing_that_a_letter_says_becomes_markup(ask: Ask, keep: Keep, payload: str) -> None:
    keep(hostile_letter(payload), f'"{payload}"@x.org')
    for view in VIEWS:
        page = Elements(ask("GET", f"/letters/1?view={view}").text)
        assert len(page.named("script")) == 1
        for tag, attributes in page.found:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            assert "style" not in attributes
            assert not (attributes.get("href") or "").startswith(("javascript:", "data:"))
        assert [a for a in page.named("img") if a] == []


@pytest.mark.parametrize("payload", HOSTILE)
def test_nothing_that_a_reader_types_becomes_markup(ask: Ask, keep: Keep, payload: str) -> None:
    keep(raw(letter()))
    page = Elements(ask("GET", "/", params={"q": payload, "view": payload[:20]}).text)
    assert len(page.named("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)


def test_pages_allow_no_inline_script_or_style(ask: Ask, keep: Keep) -> None:
    keep(raw(letter(html="<p>x</p>")))
    answer = ask("GET", "/letters/1")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    page = Elements(answer.text)
    assert page.named("style") == []
    assert [a.get("src") for a in page.named("script")] == ["/static/postroom.js"]


def test_a_letters_html_is_shown_under_a_policy_that_runs_and_loads_nothing(ask: Ask, keep: Keep) -> None:
    keep(raw(letter(html="<script>alert(1)</script><img src=https://evil.example/x.png>")))
    (frame,) = Elements(ask("GET", "/letters/1").text).named("iframe")
    assert frame["sandbox"] in ("", None)
    answer = ask("GET", str(frame["src"]))
    policy = answer.headers["content-security-policy"]
    directives = {name: value for name, _, value in (part.partition(" ") for part in policy.split("; "))}
    assert directives["default-src"] == "'none'"
    assert directives["sandbox"] == ""
    assert directives["img-src"] == "data: 127.0.0.1:8025/letters/1/pictures/"
    assert directives["form-action"] == directives["base-uri"] == "'none'"
    assert "script-src" not in directives


def test_a_hostile_host_header_stays_out_of_the_policy(ask: Ask, keep: Keep) -> None:
    keep(raw(letter(html="<p>x</p>")))
    answer = ask("GET", "/letters/1/frame", headers={"host": "127.0.0.1; script-src *"})
    assert answer.status_code == 421


def test_every_page_asset_is_our_own(ask: Ask, keep: Keep) -> None:
    keep(raw(letter(html="<p>x</p>")))
    page = Elements(ask("GET", "/letters/1").text)
    links = [a["href"] for tag in ("link", "use") for a in page.named(tag)]
    links += [a["src"] for tag in ("script", "iframe") for a in page.named(tag)]
    for link in links:
        assert str(link).startswith(("/static/", "/letters/"))
        assert ask("GET", str(link).partition("#")[0]).status_code == 200
    for file in (pages.PACKAGE / "static").iterdir():
        assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", file.read_text())


def test_every_icon_of_the_pages_is_drawn() -> None:
    drawn = set(re.findall(r'id="i-([\w-]+)"', (pages.PACKAGE / "static/icons.svg").read_text()))
    used = {icon for _, icon in VIEWS.values()}
    for template in (pages.PACKAGE / "templates").iterdir():
        used |= set(re.findall(r'icon\("([\w-]+)"\)', template.read_text()))
    assert used <= drawn


def test_the_empty_inbox_says_how_to_send_a_letter(ask: Ask) -> None:
    page = ask("GET", "/").text
    assert "The inbox is empty" in page
    assert SEND_COMMAND in page
    event_type = SEND_COMMAND.split()[2]
    examples = Path(__file__).parents[2] / "manifests/examples"
    assert any(f"- {event_type}\n" in example.read_text() for example in examples.glob("*.yaml"))
    assert "<code>127.0.0.1</code>, port <code>1025</code>" in page


def test_the_list_shows_what_came(ask: Ask, keep: Keep) -> None:
    keep(raw(letter("Your receipt")), "mira@example.com", "jonas@example.com")
    page = visible(ask("GET", "/").text)
    assert "Unread. Your receipt" in page
    assert "mira@example.com and 1 more receipt" in page
    assert "1 of 1 letter, times in UTC." in page


def test_opening_a_letter_marks_it_read_but_a_foreign_page_cannot(ask: Ask, keep: Keep, inbox: Inbox) -> None:
    keep(raw(letter()))
    ask("GET", "/letters/1", headers={"sec-fetch-site": "cross-site"})
    assert inbox.store.counts().unread == 1
    ask("GET", "/letters/1")
    assert inbox.store.counts().unread == 0
    ask("POST", "/letters/1/unread")
    assert inbox.store.counts().unread == 1


def test_deleting_offers_an_undo_that_works(ask: Ask, keep: Keep, inbox: Inbox) -> None:
    keep(raw(letter()))
    answer = ask("POST", "/letters/1/delete")
    assert answer.status_code == 303
    page = ask("GET", answer.headers["location"]).text
    undo = next(
        str(form["action"]) for form in Elements(page).named("form") if "/undo" in str(form["action"])
    )
    assert "1 letter deleted." in page
    assert inbox.store.counts().letters == 0
    assert ask("POST", undo).headers["location"] == "/"
    assert inbox.store.counts().letters == 1


def test_a_letter_that_is_not_there_is_said_to_be_gone(ask: Ask, keep: Keep) -> None:
    keep(raw(letter()))
    answer = ask("GET", "/letters/99")
    assert answer.status_code == 404
    assert "There is no letter 99." in answer.text


def test_a_search_keeps_its_place_in_every_link(ask: Ask, keep: Keep) -> None:
    for number in range(3):
        keep(raw(letter(f"Order {number}")))
    keep(raw(letter("Else")))
    page = ask("GET", "/letters/2?q=subject:order&view=text").text
    hrefs = {str(a.get("href")) for a in Elements(page).named("a")}
    assert "/letters/3?q=subject%3Aorder&view=text" in hrefs
    assert "/letters/2?q=subject%3Aorder&view=source" in hrefs
    assert "/letters/2?q=subject%3Aorder" in hrefs
    assert "Else" not in page


def test_older_letters_are_a_link_away(ask: Ask, keep: Keep) -> None:
    for number in range(53):
        keep(raw(letter(f"Letter {number}")))
    first = ask("GET", "/").text
    assert "50 of 53 letters" in first
    second = ask("GET", "/?before=4").text
    assert "Letter 2" in second
    assert "Back to the newest" in second


def test_an_unknown_operator_is_answered_with_the_right_one(ask: Ask, keep: Keep) -> None:
    keep(raw(letter()))
    page = ask("GET", "/?q=has:attachement").text
    assert 'href="/?q=has%3Aattachment"' in page


def test_each_view_shows_its_side_of_the_letter(ask: Ask, keep: Keep) -> None:
    keep(raw(with_file("invoice.pdf")))
    shown = {view: visible(ask("GET", f"/letters/1?view={view}").text) for view in VIEWS}
    assert "Thank you." in shown["text"]
    assert "X-Postroom-Template: receipt@a3f9c21" in shown["source"]
    assert "X-Postroom-Template receipt@a3f9c21" in shown["headers"]
    assert "multipart/mixed" in shown["attachments"]
    assert "invoice.pdf" in shown["attachments"]
    assert "375 px wide." in shown["phone"]
    assert "The letter has no dark style of its own" in shown["dark"]


def test_views_say_what_a_letter_lacks(ask: Ask, keep: Keep) -> None:
    keep(raw(letter(html=None)))
    keep(raw(letter(html="<p>x</p>", text=None)))
    assert "No HTML part" in ask("GET", "/letters/1").text
    assert "No text part" in ask("GET", "/letters/2?view=text").text


def test_the_theme_comes_with_the_page(ask: Ask) -> None:
    assert '<html lang="en" data-theme="dark">' in ask("GET", "/", headers={"cookie": "theme=dark"}).text
    assert '<html lang="en">' in ask("GET", "/", headers={"cookie": 'theme="><script>'}).text


def test_a_dark_reader_gets_the_dark_rules() -> None:
    css = (
        "@media (prefers-color-scheme: dark) { a {} } @media screen and (PREFERS-color-scheme:light) { b {} }"
    )
    dark = with_color_scheme(css, dark=True)
    assert dark == "@media (min-width: 0px) { a {} } @media screen and (max-width: 0px) { b {} }"
    assert with_color_scheme(css, dark=False) != dark


def test_how_full_the_inbox_is(ask: Ask, keep: Keep, inbox: Inbox) -> None:
    inbox.limits = RetentionLimits(letters=4)
    keep(raw(letter()))
    assert '<rect class="fill" width="25" height="6"/>' in ask("GET", "/").text


# -- contrast: the colours of text and of controls on their grounds, in both themes


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
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


def test_the_number_of_a_pile_is_of_letters_and_its_words_say_how_many_are_unread(
    ask: Ask, keep: Keep, inbox: Inbox
) -> None:
    for _ in range(3):
        keep(raw(letter("One")))
    ask("GET", "/letters/1", headers={"sec-fetch-site": "none"})
    page = ask("GET", "/").text
    assert 'title="3 letters, 2 unread">3<' in page


def test_an_international_domain_is_shown_as_people_write_it(ask: Ask, keep: Keep) -> None:
    keep(raw(letter("One")), "ada@xn--bcher-kva.example")
    page = ask("GET", "/letters/1").text
    assert "<b>ada@bücher.example</b>" in page
    assert 'title="ada@xn--bcher-kva.example"' in page


@pytest.mark.parametrize("text", ["ada@xn--.example", "ada@xn--a.example", "xn--bcher-kva", "", "a@XN--0.b"])
def test_a_domain_that_does_not_lead_back_is_shown_as_it_is(text: str) -> None:
    assert formatting.display_address(text) == text


def test_the_inbox_links_to_the_template_studio_only_where_there_is_one(ask: Ask, inbox: Inbox) -> None:
    assert "Templates" not in ask("GET", "/").text
    inbox.studio = "http://127.0.0.1:8026"
    assert '<a href="http://127.0.0.1:8026/templates">' in ask("GET", "/").text
