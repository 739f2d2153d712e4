"""A page of HTML with the source position of each tag (HTML Living Standard §13.2, by turbohtml).

Source text in, a `Markup` out: the elements in document order, where each start tag and attribute stands,
and the `<style>` elements with their CSS. The source itself is never written anew: `edited` puts pieces
of text into it. Offsets count characters of the source.

Failure: Rejected (too_deep) where elements are nested deeper than mail clients show.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from turbohtml import Comment, Document, Element, SelectorSyntaxError, parse

from postroom.letter.problems import Code, Problem, Rejected

MAX_DEPTH = 256
KEEP_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "data-postroom": frozenset(("keep",)),
    "data-embed": frozenset(("", "true", "data-embed")),
    "data-premailer": frozenset(("ignore",)),
    "data-css-inline": frozenset(("ignore", "keep")),
}
"""Attributes of a `<style>` or an element that exempt it from inlining: ours, and those of juice, premailer
and css-inline."""
VOID = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()  # noqa: SIM905  a table
)
TAG_NAME = re.compile(r"<[^\s/>]+")
ATTRIBUTE_NAME = re.compile(r"""[^\s=>]*\s*=\s*(["']?)""")
CONDITIONAL = re.compile(r"\s*\[if\b", re.IGNORECASE)
CLASS_OR_ID = re.compile(r"""\b(class|id)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.IGNORECASE)
DOCTYPE = re.compile(r"(?:\s|<!--.*?-->|<\?[^>]*>)*<!doctype\b[^>]*>\s*", re.IGNORECASE | re.DOTALL)


class Edit(NamedTuple):
    """Text in the place of a stretch of the source."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class StyleElement:
    """A `<style>` that holds CSS, and where it stands."""

    css: str
    media: str
    exempt: bool
    """Its author asks to leave it as it is."""
    start: int
    end: int
    """Of the element, with its tags."""
    content_start: int
    content_end: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute as it stands in the source."""

    start: int
    end: int
    value_start: int
    value_end: int
    quote: str
    """Empty where the value has no quotes, or where there is no value."""


def edited(source: str, edits: Iterable[Edit]) -> str:
    """The source with the edits made; they must not overlap."""
    out: list[str] = []
    position = 0
    for start, end, text in sorted(edits, key=itemgetter(0, 1)):
        assert start >= position, "edits overlap"
        out += (source[position:start], text)
        position = end
    out.append(source[position:])
    return "".join(out)


class Markup:
    """A parsed page."""

    def __init__(self, source: str) -> None:
        """Parse. Raises Rejected (too_deep)."""
        self.source = source
        self.document: Document = parse(source, source_locations=True)
        self.elements: list[Element] = []
        """In document order, without the contents of `<template>`."""
        self.comments: list[str] = []
        self.parents: dict[Element, Element | None] = {}
        self._walk()
        self._found: dict[str, list[Element]] = {}

    def _walk(self) -> None:
        depths: dict[Element, int] = {}
        for node in self.document.descendants:
            around = node.parent
            parent = around if isinstance(around, Element) else None
            if parent is not None and parent not in depths:
                continue  # of a <template>
            if parent is None and not isinstance(around, Document):
                continue
            if isinstance(node, Element):
                depth = depths[node] = depths[parent] + 1 if parent is not None else 1
                if depth > MAX_DEPTH:
                    message = (
                        f"elements are nested more than {MAX_DEPTH} deep; is one in a loop never closed?"
                        " Add its end tag"
                    )
                    raise Rejected(Problem(Code.TOO_DEEP, "spec.html", message))
                self.elements.append(node)
                self.parents[node] = parent
            elif isinstance(node, Comment):
                self.comments.append(node.data)

    @cached_property
    def _start_tags(self) -> dict[Element, int]:
        """Where the start tag of each element stands that has one."""
        found = {}
        for element in self.elements:
            location = element.source_location
            if location is not None and location.start_tag is not None:
                found[element] = location.start_tag.start_offset
        return found

    def select(self, selector: str) -> list[Element]:
        """The elements that a selector matches, in document order; none where it cannot be understood."""
        found = self._found.get(selector)
        if found is None:
            try:
                found = [each for each in self.document.select(selector) if each in self.parents]
            except SelectorSyntaxError:
                found = []
            self._found[selector] = found
        return found

    def is_written(self, element: Element) -> bool:
        """Whether the element has a start tag in the source, and is not implied or cloned by the parser."""
        return element in self._start_tags

    def is_closed(self, element: Element) -> bool:
        """Whether the element has an end tag of its own."""
        location = element.source_location
        return location is not None and location.end_tag is not None

    def ancestors(self, element: Element) -> Iterator[Element]:
        """The elements around it, from the inside."""
        parent = self.parents[element]
        while parent is not None:
            yield parent
            parent = self.parents[parent]

    def attribute(self, element: Element, name: str) -> Attribute | None:
        """Where an attribute stands, if it is written."""
        if element.attr(name) is None:
            return None
        location = element.source_location
        span = location.attrs.get(name) if location is not None and location.attrs else None
        if span is None:
            return None
        start, end = span.start_offset, span.end_offset
        opening = ATTRIBUTE_NAME.match(self.source, start, end)
        if opening is None:
            return Attribute(start, end, end, end, "")
        quote = opening.group(1)
        closed = bool(quote) and end > opening.end() and self.source[end - 1] == quote
        return Attribute(start, end, opening.end(), end - 1 if closed else end, quote)

    def attribute_names(self, element: Element) -> list[str]:
        """The names of the attributes that are written, in lower case."""
        location = element.source_location
        return list(location.attrs) if location is not None and location.attrs else []

    def name_end(self, element: Element) -> int:
        """The offset behind the name in the start tag."""
        found = TAG_NAME.match(self.source, self._start_tags[element])
        assert found is not None, "a start tag begins with its name"
        return found.end()

    @cached_property
    def styles(self) -> list[StyleElement]:
        """The `<style>` elements that hold CSS, in document order."""
        out = []
        for element in self.elements:
            if element.tag != "style" or (element.attr("type") or "text/css").strip().lower() != "text/css":
                continue
            location = element.source_location
            if location is None or location.start_tag is None or location.end_tag is None:
                continue
            start, end = location.start_tag.end_offset, location.end_tag.start_offset
            css = self.source[start:end]
            out.append(
                StyleElement(
                    css,
                    element.attr("media") or "",
                    is_exempt(element),
                    location.start_tag.start_offset,
                    location.end_tag.end_offset,
                    start,
                    end,
                )
            )
        return out

    @cached_property
    def conditional_names(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Tags, classes and ids in conditional comments, whose markup only Outlook reads."""
        tags: set[str] = set()
        classes: set[str] = set()
        ids: set[str] = set()
        for comment in self.comments:
            if not CONDITIONAL.match(comment):
                continue
            tags |= {tag.lower() for tag in re.findall(r"<([a-zA-Z][\w:-]*)", comment)}
            for value in re.findall(r"""\bclass\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", comment):
                classes |= set("".join(value).split())
            ids |= {
                "".join(v) for v in re.findall(r"""\bid\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", comment)
            }
        return frozenset(tags), frozenset(classes), frozenset(ids)

    def place_for_style(self) -> int:
        """Where a `<style>` that comes before all others goes."""
        if self.styles:
            return self.styles[0].start
        for tag in ("head", "html"):
            found = next((each for each in self.elements if each.tag == tag), None)
            location = found.source_location if found is not None else None
            if location is None:
                continue
            if tag == "head" and location.end_tag is not None:
                return location.end_tag.start_offset
            if location.start_tag is not None:
                return location.start_tag.end_offset
        doctype = DOCTYPE.match(self.source)
        return doctype.end() if doctype else 0


def is_exempt(element: Element) -> bool:
    """Whether an attribute of the element asks to leave it out of inlining."""
    for name, values in KEEP_ATTRIBUTES.items():
        value = element.attr(name)
        if value is not None and value.strip().lower() in values:
            return True
    return False
