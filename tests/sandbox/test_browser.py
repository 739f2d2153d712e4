"""The inbox in a browser: live updates, the letter's frame, views, shortcuts, narrow windows, the dark theme.

POSTROOM_SCREENSHOTS names a folder for screenshots.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import uvicorn
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from postroom.http.server import WebServer
from postroom.sandbox.app import create_sandbox_app
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.mime import StoredLetter
from tests.sandbox.browser import browser, missing
from tests.sandbox.conftest import ENVELOPE, Loop
from tests.sandbox.sample_letters import letter, raw, with_picture

T = TypeVar("T")
pytestmark = pytest.mark.browser

HTML = """<!doctype html><html><head><style>
body { margin: 0; background: #eef1ef; font-family: sans-serif; color: #1d2b24 }
.card { max-width: 34rem; margin: 2rem auto; padding: 2rem; background: #fff; border-top: 4px solid #2d6a55 }
.go { display: inline-block; padding: .8rem 1.2rem; background: #2d6a55; color: #fff; text-decoration: none }
@media (prefers-color-scheme: dark) {
  body { background: #14181d } .card { background: #1f262d; color: #eee }
}
@media (max-width: 480px) { .card { margin: 0 } }
</style></head><body><div class="card"><h1 id="head">Thank you, Mira</h1>
<p>We have packed order <b>20418</b>. It leaves our warehouse tomorrow.</p>
<p><a class="go" href="https://shop.example.com/orders/20418">See your order</a></p></div></body></html>"""
ATTACK = """<h1 id="head">Hello</h1><script>top.document.title = 'broken'; document.title = 'broken'</script>
<img src="x" onerror="top.document.title = 'broken'">
<img src="/api/v1/letters" onerror="top.document.title = 'broken'">
<img src="https://evil.example/pixel.png"><iframe src="javascript:top.document.title='broken'"></iframe>
<meta http-equiv="refresh" content="0; url=/delete-all">
<form action="/delete-all" method="post"><button id="go">x</button></form>
<a id="link" target="_top" href="javascript:top.document.title='broken'">x</a>
<a id="top" target="_top" href="https://evil.example/">y</a>"""


class Reader:
    """A user of the inbox, through a browser."""

    def __init__(self, driver: Chrome, address: str, folder: Path | None) -> None:
        self.driver = driver
        self.address = address
        self._folder = folder

    def open(self, path: str = "/") -> None:
        self.driver.get(self.address + path)

    def element(self, selector: str) -> WebElement:
        return self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector))[0]

    def elements(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        script = f"return [...document.querySelectorAll('{selector}')].map(e => e.textContent.trim())"
        found = self.run(script)
        assert isinstance(found, list)
        return [str(text) for text in found]

    def run(self, script: str) -> object:
        return self.driver.execute_script(script)

    def until(self, condition: Callable[[], T]) -> T:
        """Wait until the condition is true; returns its value."""
        found: T = WebDriverWait(self.driver, 10, 0.05).until(lambda _: condition())
        return found

    def press(self, keys: str) -> None:
        """Type on the keyboard at the current focus, which may be on an element that was just closed."""
        ActionChains(self.driver).send_keys(keys).perform()

    def has_tab(self, name: str) -> bool:
        return self.texts(".tab[aria-current]") == [name]

    def is_live(self) -> bool:
        return bool(self.run("return !document.querySelector('#pulse').classList.contains('is-paused')"))

    def in_frame(self, script: str) -> object:
        self.driver.switch_to.frame(self.element("iframe"))
        try:
            return self.run(script)
        finally:
            self.driver.switch_to.default_content()

    def screenshot(self, name: str) -> None:
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(self._folder / f"{name}.png"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if reason := missing():
        pytest.skip(reason)
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def reader(driver: Chrome, inbox: Inbox, loop: Loop) -> Iterator[Reader]:
    config = uvicorn.Config(
        create_sandbox_app(inbox), port=0, lifespan="off", log_config=None, access_log=False
    )
    server = WebServer(config)
    serving = asyncio.run_coroutine_threadsafe(server.serve(), loop.loop)
    WebDriverWait(driver, 10, 0.01).until(lambda _: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    folder = os.environ.get("POSTROOM_SCREENSHOTS")
    driver.set_window_size(1440, 900)
    driver.delete_all_cookies()
    yield Reader(driver, f"http://127.0.0.1:{port}", Path(folder) if folder else None)
    driver.get("about:blank")
    loop.loop.call_soon_threadsafe(inbox.subscriptions.close)
    server.should_exit = True
    serving.result(10)


@pytest.fixture
def arrive(inbox: Inbox, loop: Loop) -> Callable[..., StoredLetter]:
    """Captures a letter and publishes it, as the mail server does."""

    def arrive(subject: str, html: str | None = HTML, **more: str) -> StoredLetter:
        found = inbox.store.capture(ENVELOPE, raw(letter(subject, html=html, **more))).result(5)
        loop.loop.call_soon_threadsafe(inbox.subscriptions.publish, found)
        return found

    return arrive


Arrive = Callable[..., StoredLetter]


def test_a_letter_arrives_while_the_page_is_open(reader: Reader, arrive: Arrive) -> None:
    reader.open()
    reader.until(reader.is_live)
    reader.screenshot("empty")
    arrive("The first")
    reader.until(lambda: reader.texts(".letter-row .subj") == ["The first"])
    reader.until(reader.is_live)
    arrive("The second")
    reader.until(lambda: reader.texts(".letter-row .subj") == ["The second", "The first"])
    assert reader.element("#announcement").get_attribute("textContent") == "New letter: The second"
    assert reader.texts(".group .n") == ["2", "2", "2, 2 unread"]


def test_a_letter_opens_in_place_and_counts_as_read(reader: Reader, arrive: Arrive, inbox: Inbox) -> None:
    arrive("One")
    arrive("Two")
    reader.open()
    reader.until(reader.is_live)
    reader.run("window.stays = true")
    reader.elements(".letter-row")[1].click()
    assert reader.element("#letter h1").text == "One"
    assert reader.in_frame("return document.querySelector('#head').textContent") == "Thank you, Mira"
    assert reader.driver.current_url.endswith("/letters/1")
    assert inbox.store.counts().unread == 1
    assert reader.texts(".letter-row.is-new .subj") == ["Two"]
    reader.driver.back()
    reader.until(lambda: not reader.elements("#letter h1"))
    assert reader.run("return window.stays") is True


def test_rows_do_not_move_while_the_user_reads(reader: Reader, arrive: Arrive) -> None:
    for number in range(3):
        arrive(f"Letter {number}")
    reader.open()
    reader.until(reader.is_live)
    reader.press("j")
    arrive("Newcomer")
    assert reader.element("#new-letters:not([hidden])").text == "Show the new letter"
    assert reader.texts(".letter-row .subj") == ["Letter 2", "Letter 1", "Letter 0"]
    reader.screenshot("held-back")
    reader.press(".")
    reader.until(lambda: reader.texts(".letter-row .subj")[0] == "Newcomer")


def test_a_letter_can_neither_run_scripts_nor_load_nor_navigate(
    reader: Reader, arrive: Arrive, inbox: Inbox
) -> None:
    arrive("Attack", html=ATTACK)
    reader.open("/letters/1")
    assert reader.in_frame("return document.querySelector('#head').textContent") == "Hello"
    for element in ("go", "link", "top"):
        reader.in_frame(f"document.getElementById('{element}').click()")
    reader.run("return new Promise(done => setTimeout(done, 300))")
    assert reader.driver.title == "Attack · Postroom"
    assert reader.driver.current_url == f"{reader.address}/letters/1"
    assert inbox.store.counts().letters == 1
    reader.open("/letters/1/frame")
    assert reader.run("return [document.title, self.origin]") == ["", "null"]


def test_a_letters_own_image_is_shown(reader: Reader, inbox: Inbox) -> None:
    inbox.store.capture(ENVELOPE, raw(with_picture())).result(5)
    reader.open("/letters/1")
    reader.until(lambda: reader.in_frame("return document.querySelector('img').naturalWidth") == 1)


def test_the_views_open_by_click_and_by_number(reader: Reader, arrive: Arrive) -> None:
    arrive("Views", text="The plain text\n")
    reader.open("/letters/1")
    reader.until(reader.is_live)
    reader.element('[data-tab="text"]').click()
    assert "The plain text" in reader.element("#panel pre").text
    reader.press("5")
    reader.until(lambda: any("X-Postroom-Template:" in line for line in reader.texts("#panel .lines b")))
    reader.press("6")
    reader.until(lambda: "Message-ID" in reader.texts("#panel dt"))
    reader.press("7")
    reader.until(lambda: "multipart/alternative" in reader.texts("#panel td"))
    reader.press("2")
    reader.until(lambda: reader.elements(".phone iframe"))
    assert reader.in_frame("return innerWidth") == 375
    reader.press("3")
    reader.until(lambda: reader.elements(".is-dark"))
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert reader.in_frame(ground) == "rgb(20, 24, 29)"
    reader.press("1")
    reader.until(lambda: reader.elements(".letter-frame:not(.is-dark)"))
    assert reader.in_frame(ground) == "rgb(238, 241, 239)"


def test_a_letter_is_deleted_by_shortcut_and_restored(reader: Reader, arrive: Arrive, inbox: Inbox) -> None:
    arrive("Gone")
    arrive("Stays")
    reader.open("/letters/1")
    reader.until(reader.is_live)
    reader.press("#")
    reader.until(lambda: reader.texts(".letter-row .subj") == ["Stays"])
    reader.element(".note button").click()
    reader.until(lambda: reader.texts(".letter-row .subj") == ["Stays", "Gone"])
    assert inbox.store.counts().letters == 2


def test_shortcuts_are_off_while_the_user_types_and_when_disabled(reader: Reader, arrive: Arrive) -> None:
    arrive("One")
    reader.open()
    reader.until(reader.is_live)
    reader.press("/")
    reader.press("j?#" + Keys.ENTER)
    reader.until(lambda: "q=j%3F%23" in reader.driver.current_url)
    reader.open()
    reader.until(reader.is_live)
    reader.press("?")
    reader.element("#help[open] #keys-on").click()
    reader.element('#help [data-do="close"]').click()
    reader.press("j")
    assert reader.run("return document.activeElement.className") != "letter-row"
    reader.run("localStorage.clear()")


def test_the_theme_switches_and_persists(reader: Reader, arrive: Arrive) -> None:
    arrive("One")
    reader.open("/letters/1")
    reader.until(reader.is_live)
    reader.element('[data-do="theme"]').click()
    reader.open("/letters/1")
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    assert reader.run(ground) == "rgb(13, 18, 24)"


def test_a_narrow_window_shows_one_pane(reader: Reader, arrive: Arrive) -> None:
    arrive("One")
    reader.driver.set_window_size(500, 844)
    reader.open()
    reader.until(reader.is_live)
    assert reader.element("#list").is_displayed()
    assert not reader.element("#letter").is_displayed()
    reader.element(".letter-row").click()
    assert reader.element("#letter h1").is_displayed()
    assert not reader.element("#list").is_displayed()
    assert reader.run("return document.documentElement.scrollWidth <= innerWidth") is True
    reader.element('[data-do="back"]').click()
    reader.until(lambda: reader.element("#list").is_displayed())


def test_the_sidebar_opens_over_the_list_in_a_narrow_window(reader: Reader, arrive: Arrive) -> None:
    arrive("One")
    reader.driver.set_window_size(800, 900)
    reader.open()
    reader.until(reader.is_live)
    assert not reader.element("#sidebar").is_displayed()
    reader.element('[href="#sidebar"]').click()
    reader.until(lambda: reader.element("#sidebar").is_displayed())
    arrive("Two")
    reader.until(lambda: len(reader.elements(".letter-row")) == 2)
    assert reader.element("#sidebar").is_displayed()
    reader.element('#sidebar [href="#list"]').click()
    reader.until(lambda: not reader.element("#sidebar").is_displayed())


def test_the_browser_logs_no_errors(reader: Reader, arrive: Arrive) -> None:
    reader.driver.get_log("browser")  # type: ignore[no-untyped-call]
    arrive("One")
    reader.open("/letters/1")
    reader.until(reader.is_live)
    for number, tab in enumerate(reader.texts(".tab"), start=1):
        reader.press(str(number))
        reader.until(partial(reader.has_tab, tab))
    assert reader.driver.get_log("browser") == []  # type: ignore[no-untyped-call]


FULL = (
    ("Your receipt for order 20409, with a gift card and a rather long subject line", "receipt@a3f9c21"),
    ("Dein Wochenrückblick aus der Werkstatt", "weekly-digest@77aa01c"),
    ("Your verification code is 660148", "verification-code@0c93d1f"),
    ("Willkommen bei Larkfield, Edda", "welcome@5d1e9b0"),
    ("Refund for order 20396", "receipt@a3f9c21"),
    ("Reset your password", "password-reset@b1c2d3e"),
    ("Welcome to Larkfield, Noor", "welcome@5d1e9b0"),
    ("Your verification code is 481920", "verification-code@0c93d1f"),
    ("Your receipt for order 20418", "receipt@a3f9c21"),
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1100, 800, 500])
def test_nothing_overflows_at_any_width(reader: Reader, arrive: Arrive, width: int, theme: str) -> None:
    for subject, template in FULL:
        arrive(subject, template=template, text="Thank you, Mira.\n\nYour code is 481920.\n")
    reader.driver.set_window_size(width, 900)
    reader.open()
    reader.driver.add_cookie({"name": "theme", "value": theme})
    for name, path in (("list", "/"), ("letter", "/letters/9"), ("source", "/letters/9?view=source")):
        reader.open(path)
        reader.until(reader.is_live)
        assert reader.run("return document.documentElement.scrollWidth - innerWidth") == 0
        reader.screenshot(f"{name}-{width}-{theme}")
