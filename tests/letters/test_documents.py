"""Random documents with fixed seeds, and those that once came out otherwise than written.

A failing test prints the minimal document; `python -m tests.letters.searching --seed N --count 1 --save`
keeps it as a case in found/. More of them: `--count 20000`.
"""

from random import Random

import pytest

from postroom.letter.html.inline import inline_page
from postroom.local.browser_check import BrowserCheck, Comparison, Difference, PagePair
from tests.letters.generator import Document, Node, Rule, random_document, smaller
from tests.letters.searching import FOUND, Searcher, save

CHUNKS, CHUNK = 4, 250
"""1,000 documents whose seeds are always the same, in tests of a minute at most."""
CASES = sorted(path.parent.name for path in FOUND.glob("*/page.html"))


@pytest.mark.browser
@pytest.mark.parametrize("name", CASES)
def test_a_document_that_once_failed_comes_out_as_written(browser: BrowserCheck, name: str) -> None:
    page = (FOUND / name / "page.html").read_text(encoding="utf-8")
    sheet = FOUND / name / "style.css"
    css = sheet.read_text(encoding="utf-8") if sheet.exists() else ""
    delivered = inline_page(page, css)
    (found,) = browser.compare([PagePair(page, delivered, css, name)])
    assert [str(each) for each in found.differences[:6]] == [], delivered


@pytest.mark.browser
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_documents_come_out_as_written(browser: BrowserCheck, chunk: int) -> None:
    seeds = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    assert [str(each) for each in Searcher(browser).failures(seeds, limit=3)] == []


# --- the search itself ---------------------------------------------------------------------------


class Reddened:
    """A browser that finds a difference in pages with a rule on `.b` and a `b` element."""

    def __init__(self) -> None:
        self.compared = 0

    def compare(self, pairs: list[PagePair]) -> list[Comparison]:
        self.compared += len(pairs)
        return [self._judge(pair) for pair in pairs]

    def _judge(self, pair: PagePair) -> Comparison:
        bad = ".b" in pair.source + pair.css and "<b" in pair.source.replace("<body", "")
        difference = Difference("styles", "p", 1, "color", "red", "blue")
        return Comparison(pair.name, 1, 1, 0, 0, int(bad), (difference,) if bad else ())


def test_a_failing_document_is_made_as_small_as_it_can_be() -> None:
    searcher = Searcher(Reddened(), lambda page, _: page)  # type: ignore[arg-type]
    (failure,) = searcher.failures(range(200), limit=1)
    whole = failure.document.page() + failure.document.css()
    assert whole.count("<b") - whole.count("<body") == 1
    assert sum(map(len, failure.document.blocks)) + len(failure.document.sheet) == 1
    assert len(failure.document.nodes) == 1
    assert f"seed {failure.seed}: styles color" in str(failure)


def test_an_inliner_that_raises_is_a_failure() -> None:
    def refuse(_page: str, _css: str) -> str:
        raise ValueError("no such thing")

    (failure,) = Searcher(Reddened(), refuse).failures([7], limit=1)  # type: ignore[arg-type]
    assert failure.kind == "raised ValueError"
    assert "no such thing" in str(failure)


def test_a_seed_always_gives_the_same_document() -> None:
    assert random_document(Random(7)) == random_document(Random(7))
    assert random_document(Random(7)) != random_document(Random(8))


def test_documents_have_everything_that_an_inliner_meets() -> None:
    text = "".join(each.page() + each.css() for each in map(random_document, map(Random, range(300))))
    wanted = [
        "@media",
        "@supports",
        "@layer",
        ":hover",
        "::before",
        ":not(",
        "[title",
        "!important",
        "!IMPORTANT",
        "--v",
    ]
    wanted += [
        "var(",
        "[data-ogsc]",
        "u + .body",
        "<tbody",
        'style="',
        "XHTML 1.0",
        "#x",
        " > ",
        " ~ ",
        " + ",
        "<a ",
    ]
    assert [each for each in wanted if each not in text] == []


def test_a_smaller_document_is_smaller() -> None:
    document = random_document(Random(3))
    length = len(document.page()) + len(document.css())
    plainer = [
        each for each in smaller(document) if each.doctype == document.doctype and each.tags == document.tags
    ]
    closings = sum(page.count("</") for page in (document.page(),))
    assert plainer
    for each in plainer:
        added = each.page().count("</") - closings
        assert len(each.page()) + len(each.css()) < length + max(0, added) * len("</tbody>") + 1


def test_a_failure_is_saved_as_a_page_and_its_sheet(tmp_path) -> None:  # type: ignore[no-untyped-def]
    document = Document(
        "<!doctype html>",
        True,
        (),
        (Node("p", (("class", "b"),), ("x", Node("b"))),),
        (Rule((".b",), ("color: red",)),),
    )
    searcher = Searcher(Reddened(), lambda page, _: page)  # type: ignore[arg-type]
    place = save(searcher.shrink(9, document), tmp_path)
    assert place.name == "seed-9"
    assert (place / "page.html").read_text().startswith("<!doctype html><html>")
    assert ".b { color: red }" in (place / "style.css").read_text()
