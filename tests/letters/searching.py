"""Search for documents that come out otherwise than written: generate, inline, compare, shrink, save.

`python -m tests.letters.searching --count 5000 --seed 7` searches on a developer's machine and writes each
minimal failing document to tests/letters/found/, where `test_documents.py` reads it as a case from then on.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from postroom.letter.html.inline import inline_page
from postroom.local.browser_check import BrowserCheck, Comparison, Difference, PagePair
from tests.letters.generator import Document, random_document, smaller

FOUND = Path(__file__).parent / "found"
CHUNK = 96
STEPS = 200
Inliner = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that comes out otherwise, as small as it could be made."""

    seed: int
    document: Document
    delivered: str
    differences: tuple[Difference, ...]

    @property
    def kind(self) -> str:
        """What is compared that differs first, and in which property."""
        first = self.differences[0]
        return f"{first.check} {first.property}"

    def __str__(self) -> str:
        shown = [f"seed {self.seed}: {self.kind}", self.document.page().rstrip()]
        if self.document.sheet:
            shown.append(f"css: {self.document.css().rstrip()}")
        shown += [f"delivered: {self.delivered.rstrip()}", *map(str, self.differences[:3])]
        return "\n".join(shown)


class Searcher:
    """Compares documents with what an inliner makes of them."""

    def __init__(self, browser: BrowserCheck, inline: Inliner = inline_page) -> None:
        self._browser = browser
        self._inline = inline
        self.elements = 0
        self.compared = 0

    def failures(self, seeds: Iterable[int], *, limit: int = 20) -> Iterator[Failure]:
        """The failing documents of these seeds, shrunk; the search ends after `limit` of them."""
        yield from islice(self._failures(iter(seeds)), limit)

    def _failures(self, seeds: Iterator[int]) -> Iterator[Failure]:
        while chunk := list(islice(seeds, CHUNK)):
            documents = [random_document(Random(seed)) for seed in chunk]
            outcomes = self.compare(documents)
            self.elements += sum(outcome.elements for outcome, _ in outcomes)
            self.compared += sum(outcome.compared for outcome, _ in outcomes)
            for seed, document, (outcome, _) in zip(chunk, documents, outcomes, strict=True):
                if not outcome.equal:
                    yield self.shrink(seed, document)

    def compare(self, documents: Sequence[Document]) -> list[tuple[Comparison, str]]:
        """Each document's comparison and its delivered page. A refusal or an exception is a difference."""
        made: list[str | Exception] = [self._made(document) for document in documents]
        pairs = [
            PagePair(document.page(), page, document.css())
            for document, page in zip(documents, made, strict=True)
            if isinstance(page, str)
        ]
        found = iter(self._browser.compare(pairs))
        return [(next(found), page) if isinstance(page, str) else (_raised(page), "") for page in made]

    def shrink(self, seed: int, document: Document) -> Failure:
        """The smallest document found that fails in the same check."""
        outcome, delivered = self.compare([document])[0]
        check = outcome.differences[0].check
        for _ in range(STEPS):
            for candidates in _chunks(smaller(document)):
                outcomes = self.compare(candidates)
                failing = [
                    (candidate, found, page)
                    for candidate, (found, page) in zip(candidates, outcomes, strict=True)
                    if found.differences and found.differences[0].check == check
                ]
                if failing:
                    document, outcome, delivered = failing[0]
                    break
            else:
                break
        return Failure(seed, document, delivered, outcome.differences)

    def _made(self, document: Document) -> str | Exception:
        try:
            return self._inline(document.page(), document.css())
        except Exception as error:  # noqa: BLE001  whatever it is, it is a finding of the search
            return error


def _raised(error: Exception) -> Comparison:
    difference = Difference("raised", "", None, type(error).__name__, "", str(error))
    return Comparison("", 0, 0, 0, 0, 1, (difference,))


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    size = 12
    while chunk := list(islice(documents, size)):
        yield chunk
        size = 48


def save(failure: Failure, folder: Path = FOUND) -> Path:
    """Write a failing document as a case; its name is its content's, so that it is there once."""
    place = folder / f"seed-{failure.seed}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "page.html").write_text(failure.document.page(), encoding="utf-8")
    if failure.document.sheet:
        (place / "style.css").write_text(failure.document.css(), encoding="utf-8")
    return place


def main() -> int:
    """Search, print what fails by kind, save it; non-zero when something does."""
    parser = argparse.ArgumentParser(prog="python -m tests.letters.searching", description=main.__doc__)
    parser.add_argument("--count", type=int, default=5000, help="documents")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--limit", type=int, default=20, help="failures to shrink before the search ends")
    parser.add_argument("--save", action="store_true", help="write failures to tests/letters/found")
    chosen = parser.parse_args()
    begin = time.monotonic()
    found = []
    with BrowserCheck() as browser:
        searcher = Searcher(browser)
        for failure in searcher.failures(range(chosen.seed, chosen.seed + chosen.count), limit=chosen.limit):
            found.append(failure)
            print(f"\n{failure}", flush=True)
            if chosen.save:
                print(f"saved: {save(failure)}", flush=True)
    print(
        f"\nseeds {chosen.seed} to {chosen.seed + chosen.count - 1}: {searcher.elements} elements, "
        f"{searcher.compared} styles compared, {len(found)} failures, {time.monotonic() - begin:.0f} s"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
