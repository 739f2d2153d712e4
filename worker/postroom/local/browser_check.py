"""Judge in Chromium whether a delivered page looks as its source page.

Input: pairs of pages, each the page as its author wrote it (with a style sheet of its own, which comes
first) and the page that leaves. Output: a `Comparison` for each, with every `Difference`. Failure: `Trouble`
when there is no Chromium or it ends.

Five things are compared, and each has a name in `Difference.check`:

- `bytes`: the text of both pages, without `style` attributes and `<style>` elements;
- `elements`: the sequence of elements that the browser makes, and its mode (quirks or standards);
- `styles`: the computed style of every element, and of pseudo-elements that rules name, at 320, 600 and 900
  pixels, light and dark. Every property is compared once (600 pixels, light); in the other passes those
  that a rule of either page sets or that follow from layout;
- `hover`, `visited`, `checked`: the same with every element hovered and focused, visited, checked;
- `outlook`, `gmail`, `apple`: the same with what these clients put into a page (`[data-ogsc]`, `#outlook`,
  `.ExternalClass`; `u + .body`; `a[x-apple-data-detectors]`);
- `inlined`: the delivered page without any `<style>` element, against the source page reduced to what can be
  inlined. Left out of that check: elements without a tag in the source (an implied `body` or `tbody`)
  and elements that the parser makes twice of one tag, since neither has a `style` attribute of its own.
  Where an inliner may either inline or keep (attribute selectors, structural pseudo-classes, `@layer`, nested
  rules, `<style>` with a `data-` attribute), both outcomes are right. A declaration that is kept though it
  could be inlined is right where a rule that has to be kept sets the same property; `Comparison.kept` counts
  those.

Elements of the head are in the sequence, but have no style to compare. `compare_pictures` compares
screenshots.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from postroom.local.chromium import Chromium
from postroom.local.page_source import Scan, byte_difference, scan

WIDTHS = (600, 320, 900)
SCHEMES = ("light", "dark")
BATCH_PAIRS = 24
BATCH_BYTES = 400_000
CHANNEL_TOLERANCE = 8
"""How far a channel of a pixel may differ, of 255."""
PICTURE_TOLERANCE = 0.001
"""The share of pixels that may differ more."""
CONSEQUENCES = frozenset(
    {
        "width",
        "height",
        "block-size",
        "inline-size",
        "perspective-origin",
        "transform-origin",
        "fill",
        "stroke",
    }
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A source page with its separate style sheet, and the page that is delivered in its place."""

    source: str
    delivered: str
    css: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One property of one element that differs."""

    check: str
    path: str
    """The element as a selector from the root on."""
    line: int | None
    """The line of its tag in the source page."""
    property: str
    source: str
    delivered: str
    width: int | None = None
    scheme: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        where = f" ({self.width} px, {self.scheme})" if self.width else ""
        what = f"{self.path} {self.property}".strip()
        return f"{self.check}: {place}{what}: {self.source!r} became {self.delivered!r}{where}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome for one pair."""

    name: str
    elements: int
    """Elements that have a style to compare."""
    compared: int
    """Computed styles compared: elements times passes."""
    excluded: int
    """Elements left out of `inlined`."""
    kept: int
    """Elements with a declaration in `<style>` that is not inlined because it competes with a kept rule."""
    differing: int
    """Elements that differ in at least one pass; a difference of the bytes counts as one."""
    differences: tuple[Difference, ...] = field(default=())
    """At most forty for each pass."""

    @property
    def equal(self) -> bool:
        """Whether the pages come out alike in every check."""
        return not self.differing


class BrowserCheck:
    """One Chromium that compares many pairs. Use it as a context manager."""

    def __init__(self, program: Path | None = None, *, widths: Sequence[int] = WIDTHS) -> None:
        self._chromium = Chromium(program)
        self._widths = widths

    def __enter__(self) -> Self:
        self._chromium.__enter__()
        script = files("postroom.local").joinpath("browser_check.js").read_text(encoding="utf-8")
        self._chromium.evaluate(script)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chromium.__exit__(kind, value, trace)

    def compare(self, pairs: Iterable[Pair]) -> list[Comparison]:
        """Compare every pair, in order."""
        return [found for batch in _batches(pairs) for found in self._compare(batch)]

    def compare_pictures(self, pair: Pair, width: int = 600) -> float:
        """The share of pixels that differ in a screenshot of the whole page, light."""
        self._emulate("light", width)
        self._call("load", [_pages(pair)])
        shots = []
        for clip in self._call("pose", 0, width):
            shot = self._chromium.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            shots.append(shot["data"])
        share: float = self._call("comparePictures", *shots, CHANNEL_TOLERANCE) if shots else 1.0
        self._call("unload")
        return share

    def _compare(self, pairs: Sequence[Pair]) -> Iterator[Comparison]:
        pages = [_pages(pair) for pair in pairs]
        self._emulate("light", self._widths[0])
        facts = self._call("load", pages)
        compared = [0] * len(pairs)
        first = True
        for scheme in SCHEMES:
            if scheme == "dark" and not any(fact["dark"] for fact in facts):
                continue
            for width in self._widths:
                self._emulate(scheme, width)
                compared = _add(compared, self._call("compare", scheme, width, first))
                first = False
        self._emulate("light", self._widths[0])
        compared = _add(compared, self._call("compareStates"))
        bare = self._call("compareBare", pages)
        compared = _add(compared, (each["compared"] for each in bare))
        results = self._call("results")
        self._call("unload")
        for pair, fact, total, without, result in zip(pairs, facts, compared, bare, results, strict=True):
            yield _comparison(pair, fact["elements"], total, without, result)

    def _emulate(self, scheme: str, width: int) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._chromium.call("Emulation.setEmulatedMedia", features=[feature])
        self._chromium.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            screenWidth=width,
            screenHeight=800,
            deviceScaleFactor=1,
            mobile=False,
        )

    def _call(self, function: str, *arguments: Any) -> Any:
        listed = ", ".join(map(json.dumps, arguments))
        return self._chromium.evaluate(f"postroom.{function}({listed})")


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Pairs in groups that one page of the browser holds with ease."""
    batch: list[Pair] = []
    size = 0
    for pair in pairs:
        length = len(pair.source) + len(pair.delivered)
        if batch and (len(batch) == BATCH_PAIRS or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += length
    if batch:
        yield batch


def _pages(pair: Pair) -> tuple[str, str]:
    return scan(pair.source).marked(pair.css), scan(pair.delivered).marked()


def _add(counts: Iterable[int], more: Iterable[int]) -> list[int]:
    return [a + b for a, b in zip(counts, more, strict=True)]


def _comparison(pair: Pair, elements: int, compared: int, without: Any, result: Any) -> Comparison:
    source = scan(pair.source)
    found = [
        *_byte_differences(source, scan(pair.delivered)),
        *sorted(_differences(source, result["records"]), key=is_consequence),
    ]
    differing = len(result["differing"]) + any(each.check == "bytes" for each in found)
    excluded, kept = without["excluded"], without["kept"]
    return Comparison(pair.name, elements, compared, excluded, kept, differing, tuple(found))


def _byte_differences(source: Scan, delivered: Scan) -> Iterator[Difference]:
    if found := byte_difference(source, delivered):
        line, was, became = found
        yield Difference("bytes", "", line, "text", was, became)


def _differences(source: Scan, records: Iterable[Any]) -> Iterator[Difference]:
    for record in records:
        tag = record["tag"]
        yield Difference(
            record["check"],
            record["path"],
            source.line(tag) if 0 <= tag < len(source.tags) else None,
            record["property"],
            record["source"],
            record["delivered"],
            record.get("width"),
            record.get("scheme"),
        )


def is_consequence(difference: Difference) -> bool:
    """Whether another difference is the likely cause: sizes follow from layout, many colors from `color`."""
    name = difference.property.rpartition(":")[2]
    return name in CONSEQUENCES or (name.endswith("-color") and name != "background-color")
