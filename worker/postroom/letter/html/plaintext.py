"""The text part, from the HTML: what a reader sees, line by line, with the links written out.

`text_of_page` reads a rendered page. `text_of_source` makes a text template of a template once, so that a
letter costs no parsing. Both write breaks as marks that `settle` turns into lines at the end: so a loop
that an event leaves empty leaves no hole.
"""

import re

from lxml import etree  # type: ignore[import-untyped]

from postroom.letter.html.protect import Protected, parse_page
from postroom.letter.language.pieces import split

LINE, PARAGRAPH = "\x01", "\x02"
PARAGRAPHS = frozenset(
    [
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "table",
        "blockquote",
        "pre",
        "hr",
        "section",
        "article",
        "header",
        "footer",
    ]
)
LINES = frozenset(("div", "tr", "li", "dt", "dd", "center", "body"))
SKIPPED = frozenset(("head", "style", "script", "title", "template"))
HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
SPACE = re.compile(r"[ \t\r\n\f]+")


def text_of_page(page: str) -> str:
    """The text of a rendered page."""
    return settle("".join(_Walk(None).read(parse_page(page))))


def text_of_source(source: str) -> str:
    """The text template of an HTML template; its output is for `settle`."""
    protected = Protected(split(source, "spec.html"))
    return protected.restore_some("".join(_Walk(protected).read(protected.tree())))


def settle(text: str) -> str:
    """Marks to lines: one for a line, an empty line for a paragraph; empty ones leave nothing behind."""
    paragraphs = []
    for paragraph in text.split(PARAGRAPH):
        lines = [stripped for line in paragraph.split(LINE) if (stripped := line.strip(" \n"))]
        if lines:
            paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) + "\n"


class _Walk:
    def __init__(self, protected: Protected | None) -> None:
        self._protected = protected

    def read(self, element: etree._Element) -> list[str]:
        out: list[str] = []
        self._element(element, out)
        return out

    def _element(self, element: etree._Element, out: list[str]) -> None:
        if not isinstance(element.tag, str):
            self._comment(element, out)
            return
        tag = element.tag.lower()
        if tag in SKIPPED or "hidden" in element.attrib or HIDDEN.search(element.get("style", "")):
            return
        mark = PARAGRAPH if tag in PARAGRAPHS else LINE if tag in LINES else ""
        out.append(mark)
        self._content(element, tag, out)
        out.append(mark)

    def _content(self, element: etree._Element, tag: str, out: list[str]) -> None:
        if tag == "br":
            out.append(LINE)
        elif tag == "hr":
            out.append("----------")
        elif tag == "img":
            out.append(f"[{element.get('alt')}]" if element.get("alt") else "")
        elif tag == "a":
            self._link(element, out)
        else:
            if tag == "li":
                out.append("- ")
            self._children(element, out)
            if tag in ("td", "th") and element.getnext() is not None:
                out.append(" ")

    def _children(self, element: etree._Element, out: list[str]) -> None:
        out.append(SPACE.sub(" ", element.text or ""))
        for child in element:
            self._element(child, out)
            out.append(SPACE.sub(" ", child.tail or ""))

    def _link(self, element: etree._Element, out: list[str]) -> None:
        inner: list[str] = []
        self._children(element, inner)
        label, target = "".join(inner).strip(), element.get("href", "").strip()
        address = target.removeprefix("mailto:").removeprefix("tel:")
        if not target or target.startswith("#") or address == label:
            out.append(label)
        elif not label:
            out.append(target)
        elif _stands_alone(element):
            out.append(f"{label}:{LINE}{target}")
        else:
            out.append(f"{label} ({target})")

    def _comment(self, element: etree._Element, out: list[str]) -> None:
        if self._protected and self._protected.number(element.text or "") is not None:
            out.append(f"<!--{element.text}-->")


def _stands_alone(link: etree._Element) -> bool:
    """A button: the only thing in its paragraph or cell."""
    parent = link.getparent()
    if parent is None or (link.tail or "").strip() or (parent.text or "").strip():
        return False
    return all(sibling is link or not isinstance(sibling.tag, str) for sibling in parent)
