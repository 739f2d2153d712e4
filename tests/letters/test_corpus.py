"""Every template of the corpus, judged in Chromium: the delivered letter looks as its source."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.local.browser_check import BrowserCheck
from tests.layers import missing_browser, unavailable
from tests.letters.corpus import names, read_case
from tests.letters.judging import CorpusResult, figures, judge_case, table

SHOWN = 12
RESULTS = Path(__file__).parents[2] / "build" / "letters.json"


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserCheck]:
    if (missing := missing_browser()) is not None:
        unavailable("the corpus", missing)
    with BrowserCheck() as check:
        yield check


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[list[CorpusResult]]:
    """The results so far; at the end the table is printed, and written to build/letters.json."""
    found: list[CorpusResult] = []
    yield found
    terminal = request.config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None:
        terminal.write_line("\n" + table(found))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def test_the_corpus_has_what_it_is_there_for() -> None:
    assert len(names()) >= 40
    assert all(read_case(name).about for name in names())


@pytest.mark.browser
@pytest.mark.parametrize("name", names())
def test_a_template_of_the_corpus_comes_out_as_written(
    browser: BrowserCheck, results: list[CorpusResult], name: str
) -> None:
    result, found = judge_case(read_case(name), browser)
    results.append(result)
    differences = [str(each) for comparison in found for each in comparison.differences]
    assert not result.refused
    assert differences[:SHOWN] == []
    assert result.false_alarms == ()
    assert result.same_picture, f"{result.picture:.3%} of the pixels differ"
