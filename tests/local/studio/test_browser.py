"""The studio in a real browser: a save shows by itself, the form renders while a user types, keys, a phone.

POSTROOM_SCREENSHOTS names a folder that is given pictures of what was seen.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from selenium.common.exceptions import NoSuchWindowException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from postroom.local.machine import free_port
from postroom.local.manifests import ManifestSet
from postroom.local.studio.server import StudioServer
from postroom.local.watch import EditListener, watch_manifests
from tests.local.studio.conftest import ORDER, Folder
from tests.sandbox.browser import browser, missing
from tests.sandbox.conftest import Loop
from tests.sandbox.test_browser import Reader

pytestmark = pytest.mark.browser
PAGE = "/templates/default/order"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if reason := missing():
        pytest.skip(reason)
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def reader(driver: Chrome, folder: Folder, loop: Loop) -> Iterator[Reader]:
    """A page of a studio that follows its folder as `postroom up` does."""
    port = free_port()
    stopping = asyncio.Event()

    async def begin() -> tuple[StudioServer, "asyncio.Task[None]"]:
        server = StudioServer(folder.context, port)
        server.start()
        return server, asyncio.create_task(watch_manifests(run, EditListener(print, print), stopping))

    async def reread() -> ManifestSet:
        folder.read()
        return ManifestSet()

    async def apply(_: ManifestSet) -> None:
        return None

    async def end(server: StudioServer, following: "asyncio.Task[None]") -> None:
        stopping.set()
        await server.stop()
        await following

    run: Any = SimpleNamespace(
        options=SimpleNamespace(manifests=folder.path),
        manifest_set=ManifestSet(),
        served=[],
        reread=reread,
        apply=apply,
    )
    pictures = os.environ.get("POSTROOM_SCREENSHOTS")
    driver.set_window_size(1440, 900)
    driver.delete_all_cookies()
    running = loop.run(begin())
    yield Reader(driver, f"http://127.0.0.1:{port}", Path(pictures) if pictures else None)
    loop.run(end(*running))
    driver.get("about:blank")


def save(folder: Folder, text: str) -> None:
    (folder.path / "order.yaml").write_text(text)


def heading(reader: Reader) -> object:
    """The letter's own heading; none while a frame is being loaded."""
    if not reader.elements("#panel iframe"):
        return None
    try:
        return reader.in_frame("return document.querySelector('h1')?.textContent ?? ''")
    except (StaleElementReferenceException, NoSuchWindowException):  # replaced while it was asked
        return None


def test_a_save_shows_by_itself_and_a_bad_one_keeps_the_last_good_letter(
    reader: Reader, folder: Folder
) -> None:
    reader.open(PAGE)
    reader.until(reader.is_live)
    reader.run("window.stays = true")
    assert heading(reader) == "Hello Ada"
    save(folder, ORDER.replace("Hello", "Good day"))
    reader.until(lambda: heading(reader) == "Good day Ada")
    save(folder, ORDER.replace("Hello {{ name }}", "Hello {{ nmae }}"))
    reader.until(lambda: reader.elements("#behind"))
    assert heading(reader) == "Good day Ada"
    assert reader.texts("#letter-head .stamp .word") == ["PROOF", "ERROR"]
    reader.screenshot("studio-behind")
    save(folder, ORDER)
    reader.until(lambda: heading(reader) == "Hello Ada")
    assert not reader.elements("#behind")
    assert reader.run("return window.stays") is True


def test_a_frame_whose_letter_is_the_same_is_not_loaded_again(reader: Reader, folder: Folder) -> None:
    reader.open(PAGE)
    reader.until(reader.is_live)
    reader.run("window.frame = document.querySelector('#panel iframe')")
    save(folder, ORDER.replace("maxLength: 20", "maxLength: 31"))
    reader.until(lambda: reader.element("#announcement").get_attribute("textContent"))
    assert reader.run("return window.frame === document.querySelector('#panel iframe')") is True


def test_the_letter_is_rendered_while_a_user_types(reader: Reader) -> None:
    reader.open(f"{PAGE}?view=data")
    reader.until(reader.is_live)
    field = reader.element('[name="/name"]')
    field.clear()
    field.send_keys("Grace")
    reader.until(lambda: heading(reader) == "Hello Grace")
    assert reader.run("return document.activeElement.name") == "/name"
    field.send_keys(" and a name that is far too long")
    reader.until(lambda: reader.elements('[id="error:/name"]'))
    assert reader.element('[name="/name"]').get_attribute("aria-invalid") == "true"
    assert reader.run("return document.activeElement.name") == "/name"
    reader.screenshot("studio-mistake")
    for _ in range(40):
        field.send_keys(Keys.BACKSPACE)
    field.send_keys("Bo")
    reader.until(lambda: heading(reader) == "Hello Bo" and not reader.elements('[id="error:/name"]'))
    reader.element('[name="add"]').click()
    reader.until(lambda: reader.elements('[name="/items/1/title"]'))
    reader.element('[name="remove"][value="/items/0"]').click()
    reader.until(lambda: not reader.elements('[name="/items/1/title"]'))
    assert reader.element('[name="/name"]').get_attribute("value") == "Bo"


def test_views_samples_and_templates_open_by_key(reader: Reader) -> None:
    reader.open("/templates")
    reader.until(reader.is_live)
    reader.press("j")
    reader.press(Keys.ENTER)
    reader.until(lambda: reader.has_tab("Letter"))
    for key, name in (("2", "Text"), ("6", "Proof"), ("1", "Letter"), ("p", "Proof"), ("1", "Letter")):
        reader.press(key)
        reader.until(lambda name=name: reader.has_tab(name))  # type: ignore[misc]
    reader.press("]")
    reader.until(lambda: heading(reader) == "Hello Bob")
    reader.press("[")
    reader.until(lambda: heading(reader) == "Hello Ada")
    reader.press("?")
    assert reader.element("#help").is_displayed()


def test_each_width_scheme_and_image_choice_shows(reader: Reader) -> None:
    reader.open(PAGE)
    for width in ("320", "600", "900"):
        reader.open(f"{PAGE}?width={width}")
        assert reader.in_frame("return innerWidth") == int(width)
        assert reader.in_frame("return document.querySelector('img').naturalWidth") == 120
    reader.open(f"{PAGE}?width=all")
    widths = []
    for frame in reader.elements("#panel iframe"):
        reader.driver.switch_to.frame(frame)
        widths.append(reader.run("return innerWidth"))
        reader.driver.switch_to.default_content()
    assert widths == [320, 600, 900]
    reader.open(f"{PAGE}?images=off")
    assert reader.in_frame("return document.querySelector('img').naturalWidth") == 0
    reader.open(f"{PAGE}?scheme=inverted")
    assert reader.in_frame("return getComputedStyle(document.querySelector('h1')).color") != "rgb(17, 17, 17)"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 768, 375])
def test_nothing_overflows_at_any_width(reader: Reader, width: int, theme: str) -> None:
    reader.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    reader.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    try:
        for path in (
            "/templates",
            *(f"{PAGE}?view={view}" for view in ("letter", "text", "inbox", "data", "source", "proof")),
        ):
            reader.open(path)
            assert reader.run("return document.documentElement.scrollWidth <= innerWidth") is True, path
            reader.screenshot(f"studio-{path.rpartition('=')[2].strip('/')}-{width}-{theme}")
    finally:
        reader.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_has_a_name_and_the_browser_has_nothing_to_complain_about(reader: Reader) -> None:
    reader.driver.get_log("browser")  # type: ignore[no-untyped-call]
    for view in ("letter", "text", "inbox", "data", "source", "proof"):
        reader.open(f"{PAGE}?view={view}")
        nameless = reader.run(
            """const found = 'a, button, input:not([type=hidden]), select, textarea, iframe';
            return [...document.querySelectorAll(found)].filter(e => e.offsetParent
              && !(e.textContent.trim() || e.ariaLabel || e.title || e.labels?.length
                || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"""
        )
        assert nameless == [], view
        doubled = reader.run(
            "const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
            "return ids.filter((id, n) => ids.indexOf(id) !== n)"
        )
        assert doubled == [], view
    entries = reader.driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert [entry["message"] for entry in entries] == []
