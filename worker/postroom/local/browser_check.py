"""Compare in Chromium whether a delivered page looks like its source page (`postroom check --browser`).

`add_browser_findings` takes the objects of a folder and their validation results, and adds a warning
(`page_differs`) for each element of a sample letter that Chromium shows differently than in the source page.
`BrowserCheck` takes pairs of pages: the page as its author wrote it (with a separate style sheet, which comes
first) and the delivered page. It returns a `Comparison` for each, with every `Difference`. Nothing is sent,
and the browser fetches nothing. Failure: `UserError` when there is no Chromium or it exits.

`Difference.check` names the comparison that failed:

- `bytes`: the text of both pages, without `style` attributes and `<style>` elements;
- `elements`: the sequence of elements that the browser makes, and its mode (quirks or standards);
- `styles`: the computed style of every element, and of pseudo-elements that rules name, at 320, 600 and 900
  pixels, light and dark. Every property is compared once (600 pixels, light); in the other passes those
  that a rule of either page sets or that follow from layout;
- `hover`, `visited`, `checked`: the same with every element hovered and focused, visited, checked;
- `outlook`, `gmail`, `apple`: the same with what these clients put into a page (`[data-ogsc]`, `#outlook`,
  `.ExternalClass`; `u + .body`; `a[x-apple-data-detectors]`);
- `inlined`: the delivered page without any `<style>` element, against the source page reduced to what can be
  inlined. Two kinds of elements are excluded, because they have no `style` attribute: elements without a tag
  in the source (an implied `body` or `tbody`), and elements that the parser creates twice for a tag.
  Where an inliner may either inline or keep (attribute selectors, structural pseudo-classes, `@layer`, nested
  rules, `<style>` with a `data-` attribute), both outcomes are correct. A declaration that could be inlined
  may be kept when a rule that must be kept sets the same property; `Comparison.kept` counts those.

Elements of the head are part of the sequence, but have no style to compare. `compare_pictures` compares
screenshots.

`scan_page` splits a page as the HTML standard's tokenizer does (html.spec.whatwg.org, 13.2.5): start tags
with their attributes, `<style>` elements, and nothing inside comments, raw text or conditional comments. It
shares no code with the inliner's parser on purpose, so that a fault of that parser cannot hide itself.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from postroom.letter.manifest import Manifest
from postroom.letter.problems import Code, Problem, Severity
from postroom.letter.references import ObjectKey
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.validation.sample_runs import source_pages
from postroom.letter.validation.validate import (
    ManifestValidation,
    TemplateValidation,
    object_key,
)
from postroom.local.chromium import Chromium

WHITESPACE = " \\t\\n\\f\\r"
TAG_NAME = re.compile(rf"</?([a-zA-Z][^{WHITESPACE}/>]*)")
ATTRIBUTE = re.compile(
    rf"[{WHITESPACE}/]*(=?[^{WHITESPACE}/>=]+|=)"
    rf"(?:[{WHITESPACE}]*=[{WHITESPACE}]*(?:\"[^\"]*\"|'[^']*'|[^{WHITESPACE}>\"'][^{WHITESPACE}>]*|(?=>)))?"
    rf"(?![{WHITESPACE}]*=[{WHITESPACE}]*[\"'])"
)
TAG_END = re.compile(rf"[{WHITESPACE}/]*>")
COMMENT = re.compile(r"<!--(?:-?>|.*?(?:--!?>|\Z))", re.DOTALL)
CDATA = re.compile(r"<!\[CDATA\[.*?(?:\]\]>|\Z)", re.DOTALL)
BOGUS = re.compile(r"<[!?/][^>]*(?:>|\Z)")
RAW_TEXT = frozenset({"style", "script", "xmp", "iframe", "noembed", "noframes", "textarea", "title"})
FOREIGN = frozenset({"svg", "math"})
BLOCK = "\0"
"""Replaces a `<style>` element. HTML does not allow this character, so a page cannot contain it."""
AROUND_BLOCK = re.compile(r"\s*\0[\s\0]*")
ADDRESSES = frozenset({"href", "src", "background", "action"})
PADDED = re.compile(rf"""=[{WHITESPACE}]*["']([{WHITESPACE}]*)[^"']*?([{WHITESPACE}]*)["']\Z""")
SPACE = re.compile(r"\s*")
MARKER = "data-postroom-tag"


@dataclass(frozen=True, slots=True)
class StartTag:
    """A start tag: `page[start:end]` from `<` to `>`; an attribute includes the separator before it."""

    name: str
    start: int
    name_end: int
    end: int
    attributes: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class PageScan:
    """A page's start tags without those of `<style>`, and its `<style>` elements as spans."""

    page: str
    tags: tuple[StartTag, ...]
    styles: tuple[tuple[int, int], ...]
    doctype_end: int
    """The end of the doctype, or 0 without a doctype."""

    def line(self, number: int) -> int:
        """Return the 1-based line of the start tag with this number."""
        return self.page.count("\n", 0, self.tags[number].start) + 1

    def marked(self, css: str = "") -> str:
        """Return the page with each start tag's number in an attribute, and `css` before its styles."""
        inserts = [(tag.name_end, f' {MARKER}="{number}"') for number, tag in enumerate(self.tags)]
        if css:
            inserts.append((self._head(), f"<style>{css}</style>"))
        parts, at = [], 0
        for place, text in sorted(inserts):
            parts += [self.page[at:place], text]
            at = place
        return "".join([*parts, self.page[at:]])

    def without_styles(self) -> str:
        """Return the page without `style` attributes and white space around addresses, with `BLOCK` for each
        `<style>` element.
        """
        parts, at = [], 0
        for start, end, text in self._cuts():
            parts += [self.page[at:start], text]
            at = end
        return "".join([*parts, self.page[at:]])

    def line_without_styles(self, offset: int) -> int:
        """Return the line in the page of a character of `without_styles()`."""
        for start, end, text in self._cuts():
            if offset < start:
                break
            offset += end - start - len(text)
        return self.page.count("\n", 0, offset) + 1

    def _cuts(self) -> list[tuple[int, int, str]]:
        cuts = [(start, end, BLOCK) for start, end in self.styles]
        for tag in self.tags:
            for name, start, end in tag.attributes:
                if name == "style":
                    cuts.append((start, end, ""))
                elif name in ADDRESSES and (found := PADDED.search(self.page, start, end)):
                    cuts += [(*found.span(1), ""), (*found.span(2), "")]
        return sorted(cuts)

    def _head(self) -> int:
        """Return an offset where a style element does not change the rest of the tree."""
        for name in ("head", "html"):
            for tag in self.tags:
                if tag.name == name:
                    return tag.end
        return self.doctype_end


def scan_page(page: str) -> PageScan:
    """Find all start tags and style elements of a page, in linear time."""
    tags: list[StartTag] = []
    styles: list[tuple[int, int]] = []
    doctype_end = 0
    foreign: list[str] = []
    at = page.find("<")
    while at >= 0:
        if skipped := _markup_without_tag(page, at, bool(foreign)):
            if page[at : at + 9].lower() == "<!doctype" and not tags:
                doctype_end = skipped
            at = page.find("<", skipped)
            continue
        tag = _tag(page, at)
        if tag is None:
            at = page.find("<", at + 1)
            continue
        if tag.end < 0:
            break  # the tag is never closed: a parser drops it
        if page[at + 1] == "/":
            if foreign and foreign[-1] == tag.name:
                foreign.pop()
            at = page.find("<", tag.end)
            continue
        raw = tag.name == "style" or (tag.name in RAW_TEXT and not foreign)
        content_end = _raw_text_end(page, tag.name, tag.end) if raw else tag.end
        if tag.name in FOREIGN and page[tag.end - 2] != "/":
            foreign.append(tag.name)
        if tag.name == "style":
            styles.append((at, _after_end_tag(page, tag.name, content_end)))
        else:
            tags.append(tag)
        at = page.find("<", content_end) if tag.name != "plaintext" else -1
    return PageScan(page, tuple(tags), tuple(styles), doctype_end)


def _tag(page: str, at: int) -> StartTag | None:
    """Return the start or end tag at this offset, or None; its end is -1 when it is never closed."""
    found = TAG_NAME.match(page, at)
    if found is None:
        return None
    attributes, end = _attributes(page, found.end())
    return StartTag(found.group(1).lower(), at, found.end(), end, attributes)


def _markup_without_tag(page: str, at: int, foreign: bool) -> int:
    """Return the end of the comment, doctype or bogus comment at this offset, or 0."""
    if page.startswith("<!--", at):
        pattern = COMMENT
    elif foreign and page.startswith("<![CDATA[", at):
        pattern = CDATA
    elif page[at + 1 : at + 2] in ("!", "?") or (
        page.startswith("</", at) and page[at + 2 : at + 3] and not page[at + 2].isalpha()
    ):
        pattern = BOGUS
    else:
        return 0
    found = pattern.match(page, at)
    return found.end() if found else 0


def _attributes(page: str, at: int) -> tuple[tuple[tuple[str, int, int], ...], int]:
    """Return a tag's attributes and the end of the tag, or -1 when it is never closed."""
    attributes: list[tuple[str, int, int]] = []
    while True:
        if closed := TAG_END.match(page, at):
            return tuple(attributes), closed.end()
        found = ATTRIBUTE.match(page, at)
        if found is None or found.end() == at:
            return (), -1
        attributes.append((found.group(1).lower(), at, found.end()))
        at = found.end()


def _raw_text_end(page: str, name: str, at: int) -> int:
    found = re.compile(rf"</{name}[{WHITESPACE}/>]", re.IGNORECASE).search(page, at)
    return found.start() if found else len(page)


def _after_end_tag(page: str, name: str, at: int) -> int:
    found = re.compile(rf"</{name}[^>]*>", re.IGNORECASE).match(page, at)
    return found.end() if found else len(page)


def byte_difference(source: PageScan, delivered: PageScan) -> tuple[int, str, str] | None:
    """Compare two pages outside of `style` attributes and `<style>` elements.

    White space beside a `<style>` element and around an address may differ. Returns the line in the source
    and both texts from the first difference on, or None.
    """
    left, right = source.without_styles(), delivered.without_styles()
    if left == right:
        return None
    i = j = 0
    while i < len(left) or j < len(right):
        here, there = AROUND_BLOCK.match(left, i), AROUND_BLOCK.match(right, j)
        if here or there:
            i = (here or _space(left, i)).end()
            j = (there or _space(right, j)).end()
            continue
        if left[i : i + 1] != right[j : j + 1]:
            return source.line_without_styles(i), _excerpt(left, i), _excerpt(right, j)
        i, j = i + 1, j + 1
    return None


def _space(text: str, at: int) -> re.Match[str]:
    found = SPACE.match(text, at)
    assert found is not None
    return found


def _excerpt(text: str, at: int) -> str:
    return text[max(0, at - 20) : at + 60].replace(BLOCK, "<style>…</style>")


WIDTHS = (600, 320, 900)
SCHEMES = ("light", "dark")
BATCH_PAIRS = 24
BATCH_BYTES = 400_000
CHANNEL_TOLERANCE = 8
"""Maximum difference of a pixel's channel, of 255."""
PICTURE_TOLERANCE = 0.001
"""The share of pixels that may differ by more."""
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
class PagePair:
    """A source page with its separate style sheet, and the delivered page."""

    source: str
    delivered: str
    css: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A property of an element that differs."""

    check: str
    path: str
    """The element as a selector that starts at the root."""
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
    """The result for a pair of pages."""

    name: str
    elements: int
    """Elements that have a style to compare."""
    compared: int
    """Computed styles compared: elements times passes."""
    excluded: int
    """Elements excluded from `inlined`."""
    kept: int
    """Elements with a declaration in `<style>` that is not inlined because it competes with a kept rule."""
    differing: int
    """Elements that differ in at least one pass; a difference of the bytes counts as one."""
    differences: tuple[Difference, ...] = field(default=())
    """At most forty for each pass."""

    @property
    def equal(self) -> bool:
        """Whether the pages are equal in every check."""
        return not self.differing


class BrowserCheck:
    """A Chromium that compares many pairs. Use it as a context manager."""

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

    def compare(self, pairs: Iterable[PagePair]) -> list[Comparison]:
        """Compare every pair, in order."""
        return [found for batch in _batches(pairs) for found in self._compare(batch)]

    def compare_pictures(self, pair: PagePair, width: int = 600) -> float:
        """Return the share of pixels that differ in a screenshot of the whole page, in light mode."""
        self._emulate("light", width)
        self._call("load", [_pages(pair)])
        shots = []
        for clip in self._call("pose", 0, width):
            shot = self._chromium.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            shots.append(shot["data"])
        share: float = self._call("comparePictures", *shots, CHANNEL_TOLERANCE) if shots else 1.0
        self._call("unload")
        return share

    def _compare(self, pairs: Sequence[PagePair]) -> Iterator[Comparison]:
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
                compared = _sum_counts(compared, self._call("compare", scheme, width, first))
                first = False
        self._emulate("light", self._widths[0])
        compared = _sum_counts(compared, self._call("compareStates"))
        bare = self._call("compareBare", pages)
        compared = _sum_counts(compared, (fact["compared"] for fact in bare))
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


def _batches(pairs: Iterable[PagePair]) -> Iterator[list[PagePair]]:
    """Group pairs into batches that fit into a page of the browser."""
    batch: list[PagePair] = []
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


def _pages(pair: PagePair) -> tuple[str, str]:
    return scan_page(pair.source).marked(pair.css), scan_page(pair.delivered).marked()


def _sum_counts(counts: Iterable[int], more: Iterable[int]) -> list[int]:
    return [a + b for a, b in zip(counts, more, strict=True)]


def _comparison(pair: PagePair, elements: int, compared: int, without: Any, result: Any) -> Comparison:
    source = scan_page(pair.source)
    found = [
        *_byte_differences(source, scan_page(pair.delivered)),
        *sorted(_differences(source, result["records"]), key=is_consequence),
    ]
    differing = len(result["differing"]) + any(difference.check == "bytes" for difference in found)
    excluded, kept = without["excluded"], without["kept"]
    return Comparison(pair.name, elements, compared, excluded, kept, differing, tuple(found))


def _byte_differences(source: PageScan, delivered: PageScan) -> Iterator[Difference]:
    if found := byte_difference(source, delivered):
        line, was, became = found
        yield Difference("bytes", "", line, "text", was, became)


def _differences(source: PageScan, records: Iterable[Any]) -> Iterator[Difference]:
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
    """Whether another difference is the likely cause: sizes follow from layout, many colours from `color`."""
    name = difference.property.rpartition(":")[2]
    return name in CONSEQUENCES or (name.endswith("-color") and name != "background-color")


SHOWN_ELEMENTS = 8
"""Elements of a letter that are reported; the last finding counts the rest."""
SHOWN_PROPERTIES = 4


def add_browser_findings(
    objects: Iterable[Manifest], validation: ManifestValidation, program: Path | None = None
) -> ManifestValidation:
    """Add Chromium's findings about the sample letters of templates that pass; raises UserError."""
    known = {object_key(item): item for item in objects}
    results = dict(validation.results)
    with BrowserCheck(program) as browser:
        for key, result in validation.results.items():
            template = known.get(key)
            if isinstance(template, EmailTemplate) and result.compiled is not None:
                found = tuple(appearance_problems(template, _layout(template, known), result, browser))
                results[key] = replace(result, warnings=(*result.warnings, *found))
    return replace(validation, results=results)


def _layout(template: EmailTemplate, known: Mapping[ObjectKey, Manifest]) -> EmailLayout | None:
    reference = template.spec.layout_ref
    if reference is None:
        return None
    found = known.get(ObjectKey("EmailLayout", template.metadata.namespace, reference.name))
    return found if isinstance(found, EmailLayout) else None


def appearance_problems(
    template: EmailTemplate, layout: EmailLayout | None, result: TemplateValidation, browser: BrowserCheck
) -> Iterator[Problem]:
    """Yield the differences in a template's letters; equal differences of several samples are one problem."""
    assert result.compiled is not None
    sources = source_pages(template, layout, result.compiled)
    pairs = [
        PagePair(source.page, sent.rendered.html, source.css, source.sample)
        for source, sent in zip(sources, result.samples, strict=True)
    ]
    seen: set[tuple[str, str]] = set()
    for pair, comparison in zip(pairs, browser.compare(pairs), strict=True):
        yield from _comparison_problems(template.spec.html, pair, comparison, seen)


def _comparison_problems(
    html: str, pair: PagePair, comparison: Comparison, seen: set[tuple[str, str]]
) -> Iterator[Problem]:
    groups: dict[tuple[str, str], list[Difference]] = {}
    for difference in comparison.differences:
        groups.setdefault((difference.check, difference.path), []).append(difference)
    fresh = {key: group for key, group in groups.items() if key not in seen}
    seen.update(fresh)
    lines = pair.source.splitlines()
    for number, group in enumerate(fresh.values()):
        if number == SHOWN_ELEMENTS:
            message = f"sample `{pair.name}`: {len(fresh) - number} more elements differ"
            yield _page_differs(message, None)
            break
        first = group[0]
        yield _page_differs(f"sample `{pair.name}`: {_describe(group)}", _line_of(html, lines, first.line))


def _page_differs(message: str, line: int | None) -> Problem:
    return Problem(Code.PAGE_DIFFERS, "spec.html", message, line, severity=Severity.WARNING)


def _describe(group: Sequence[Difference]) -> str:
    first = group[0]
    if first.check == "bytes":
        return (
            "the letter differs from the source outside of `style` attributes and `<style>` elements: "
            f"{first.source!r} became {first.delivered!r}"
        )
    if first.check == "elements":
        return f"the browser creates other elements: {first.source} became {first.delivered}"
    causes = [difference for difference in group if not is_consequence(difference)] or group
    named = list(dict.fromkeys((cause.property, cause.source, cause.delivered) for cause in causes))
    shown = ", ".join(
        f"{name} {was or 'nothing'} became {now or 'nothing'}" for name, was, now in named[:SHOWN_PROPERTIES]
    )
    more = f" and {len(named) - SHOWN_PROPERTIES} more properties" if len(named) > SHOWN_PROPERTIES else ""
    where = CHECK_PHRASES.get(first.check, "")
    place = f" at {first.width} pixels, {first.scheme}" if first.width and not where else where
    return f"`{first.path}`: {shown}{more}{place}"


CHECK_PHRASES = {
    "hover": " while it is hovered or focused",
    "visited": " as a visited link",
    "checked": " while inputs are checked",
    "outlook": " with the elements that Outlook adds",
    "gmail": " with the elements that Gmail adds",
    "apple": " with the attributes that Apple Mail adds",
    "inlined": " in clients that ignore `<style>`",
}


def _line_of(html: str, lines: Sequence[str], line: int | None) -> int | None:
    """Return the line of `spec.html` with the text of this line of the page, if there is exactly one."""
    if line is None or not 0 < line <= len(lines):
        return None
    wanted = lines[line - 1].strip()
    found = [number for number, each in enumerate(html.splitlines(), 1) if each.strip() == wanted]
    return found[0] if len(found) == 1 else None
