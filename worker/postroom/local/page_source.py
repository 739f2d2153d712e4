"""The tags of an HTML page by position, for comparing two pages byte for byte.

`scan` splits a page as the HTML standard's tokenizer does (html.spec.whatwg.org, 13.2.5): start tags with
their attributes, `<style>` elements, and nothing inside comments, raw text or conditional comments. It is
written apart from the inliner's parser on purpose: the page is judged by other code than wrote it.
"""

import re
from dataclasses import dataclass

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
"""Stands for a `<style>` element. HTML allows no such character, so no page has one of its own."""
AROUND_BLOCK = re.compile(r"\s*\0[\s\0]*")
ADDRESSES = frozenset({"href", "src", "background", "action"})
PADDED = re.compile(rf"""=[{WHITESPACE}]*["']([{WHITESPACE}]*)[^"']*?([{WHITESPACE}]*)["']\Z""")
SPACE = re.compile(r"\s*")
MARKER = "data-postroom-tag"


@dataclass(frozen=True, slots=True)
class StartTag:
    """One start tag: `page[start:end]` from `<` to `>`; `attributes` with what separates them from before."""

    name: str
    start: int
    name_end: int
    end: int
    attributes: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """A page's start tags without those of `<style>`, and its `<style>` elements as spans."""

    page: str
    tags: tuple[StartTag, ...]
    styles: tuple[tuple[int, int], ...]
    doctype_end: int
    """Where the doctype ends, or 0 where there is none."""

    def line(self, number: int) -> int:
        """The line of the start tag with this number; lines begin with 1."""
        return self.page.count("\n", 0, self.tags[number].start) + 1

    def marked(self, css: str = "") -> str:
        """The page with each start tag's number in an attribute, and with `css` before the page's styles."""
        inserts = [(tag.name_end, f' {MARKER}="{number}"') for number, tag in enumerate(self.tags)]
        if css:
            inserts.append((self._head(), f"<style>{css}</style>"))
        parts, at = [], 0
        for place, text in sorted(inserts):
            parts += [self.page[at:place], text]
            at = place
        return "".join([*parts, self.page[at:]])

    def without_styles(self) -> str:
        """The page without `style` attributes and without white space around addresses, with `BLOCK` for each
        `<style>` element.
        """
        parts, at = [], 0
        for start, end, text in self._cuts():
            parts += [self.page[at:start], text]
            at = end
        return "".join([*parts, self.page[at:]])

    def line_without_styles(self, offset: int) -> int:
        """The page's line of a character of `without_styles()`."""
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
        """A place for a style element that changes no other element's place in the tree."""
        for name in ("head", "html"):
            for tag in self.tags:
                if tag.name == name:
                    return tag.end
        return self.doctype_end


def scan(page: str) -> Scan:
    """Find all start tags and style elements of a page. Linear in its length."""
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
    return Scan(page, tuple(tags), tuple(styles), doctype_end)


def _tag(page: str, at: int) -> StartTag | None:
    """The start or end tag that begins here, if one does; its end is -1 where it is never closed."""
    found = TAG_NAME.match(page, at)
    if found is None:
        return None
    attributes, end = _attributes(page, found.end())
    return StartTag(found.group(1).lower(), at, found.end(), end, attributes)


def _markup_without_tag(page: str, at: int, foreign: bool) -> int:
    """Where a comment, a doctype or the like ends that begins here, or 0."""
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
    """A tag's attributes, and where the tag ends, or -1."""
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


def byte_difference(source: Scan, delivered: Scan) -> tuple[int, str, str] | None:
    """Where two pages differ outside `style` attributes and `<style>` elements.

    White space beside a `<style>` element and around an address may change. Gives the line in the source and
    both texts from the first difference on, or None.
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
            return source.line_without_styles(i), _shown(left, i), _shown(right, j)
        i, j = i + 1, j + 1
    return None


def _space(text: str, at: int) -> re.Match[str]:
    found = SPACE.match(text, at)
    assert found is not None
    return found


def _shown(text: str, at: int) -> str:
    return text[max(0, at - 20) : at + 60].replace(BLOCK, "<style>…</style>")
