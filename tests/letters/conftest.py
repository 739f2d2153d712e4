"""One Chromium for all tests of letters."""

from collections.abc import Iterator

import pytest

from postroom.local.browser_check import BrowserCheck
from tests.layers import missing_browser, unavailable


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserCheck]:
    if (missing := missing_browser()) is not None:
        unavailable("the judge of letters", missing)
    with BrowserCheck() as check:
        yield check
