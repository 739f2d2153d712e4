"""Every template of the corpus, judged in Chromium: the delivered letter looks as its source."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from postroom.local.browser_check import BrowserCheck
from tests.letters.corpus import names, read_case
from tests.letters.judging import CorpusResult, figures, judge_case, table

SHOWN = 12
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "letters.json"
FIGURES = ROOT / "docs" / "reference" / "letters.json"


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[list[CorpusResult]]:
    """The results so far; at the end the table is printed, and written to build/letters.json.

    With --golden a run of the whole corpus is also written to the figures of the reference.
    """
    found: list[CorpusResult] = []
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print(f"\n\n{table(found)}")
    text = json.dumps(figures(found), indent=2, ensure_ascii=False) + "\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    if request.config.getoption("--golden") and len(found) == len(names()):
        FIGURES.write_text(text, encoding="utf-8")


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
