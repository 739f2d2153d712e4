"""Template source that an HTML parser can read: Jinja constructs ride through as placeholders.

`{% … %}` between elements becomes a comment, anything else a word; `restore` puts them back. Where a
construct stands is followed by a small reading of HTML's states (text, tag, quoted value, comment,
title), which also finds the values that stand in a tag without quotes around them.
"""

import re
from collections.abc import Sequence

from lxml import etree  # type: ignore[import-untyped]

from postroom.letter.language.pieces import Piece
from postroom.letter.problems import Code, Problem, Rejected

DOCTYPE = re.compile(r"\s*<!doctype[^>]*>\s*", re.IGNORECASE)


def parse_page(page: str) -> etree._Element:
    """The page as an HTML parser understands it. Raises Rejected (too_deep) where it would drop the rest."""
    doctype = DOCTYPE.match(page)
    body = page[doctype.end() :] if doctype else page
    parser = etree.HTMLParser()
    try:
        tree = etree.fromstring(body, parser)
    except etree.LxmlError:
        tree = None  # there is nothing in it
    if any(error.type_name == "ERR_RESOURCE_LIMIT" for error in parser.error_log):
        message = "elements stand in one another more than 256 deep; is one in a loop not closed?"
        raise Rejected(Problem(Code.TOO_DEEP, "spec.html", message))
    return etree.fromstring("<html><body></body></html>", parser) if tree is None else tree


class CannotInline(Exception):
    """CSS cannot be inlined before the event is known; the message says why."""


OPENERS = ("if", "for")
MIDDLES = ("elif", "else")
CLOSERS = ("endif", "endfor")
NEXT_STATE = {
    "text": re.compile(r"<!--|</?[a-zA-Z]"),
    "tag": re.compile(r"[>\"']"),
    '"': re.compile('"'),
    "'": re.compile("'"),
    "comment": re.compile("-->"),
    "title": re.compile("</title", re.IGNORECASE),
}
TITLE = re.compile(r"<(title)\b", re.IGNORECASE)


class Protected:
    """Source whose Jinja constructs are placeholders that an HTML parser carries through unharmed."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        joined = "".join(piece.text for piece in pieces)
        self._mark = next(mark for mark in (f"jx{n}x" for n in range(1_000_000)) if mark not in joined)
        self._held: list[str] = []
        self._groups: list[list[int]] = []
        self._open: list[list[int]] = []
        self._in_text: set[int] = set()
        self._state, self._title = "text", False
        self.unquoted: list[Piece] = []
        """Values that stand in a tag without quotes: a space in one would begin another attribute."""
        self.text = "".join(self._write(piece) for piece in pieces)

    def _write(self, piece: Piece) -> str:
        if piece.kind == "data":
            self._advance(piece.text)
            return piece.text
        number = len(self._held)
        self._held.append(piece.text)
        token = f"{self._mark}{number}j"
        if piece.kind == "variable" and self._state == "tag":
            self.unquoted.append(piece)
        if piece.kind == "block":
            self._group(piece, number)
            if self._state == "text":
                self._in_text.add(number)
                return f"<!--{token}-->"
            if self._state == "tag":
                return f" {token} "
        return token

    def _group(self, piece: Piece, number: int) -> None:
        word = piece.words[0] if piece.words else ""
        if word in OPENERS:
            self._open.append([number])
        elif word in MIDDLES and self._open:
            self._open[-1].append(number)
        elif word in CLOSERS and self._open:
            self._groups.append([*self._open.pop(), number])

    def _advance(self, text: str) -> None:
        position = 0
        while found := NEXT_STATE[self._state].search(text, position):
            if self._state == "text":
                title = TITLE.match(text, found.start())
                self._state = "comment" if found.group() == "<!--" else "tag"
                self._title = title is not None
            elif self._state == "tag":
                quoted = found.group() in "\"'"
                self._state = found.group() if quoted else "title" if self._title else "text"
                self._title = self._title and quoted
            elif self._state == "title":
                self._state, self._title = "tag", False
            else:
                self._state = "text" if self._state == "comment" else "tag"
            position = found.end()

    def tree(self) -> etree._Element:
        """The protected source, parsed."""
        return parse_page(self.text)

    def number(self, text: str) -> int | None:
        """The placeholder that a comment is, if it is one."""
        found = re.fullmatch(rf"{self._mark}(\d+)j", text)
        return int(found.group(1)) if found else None

    def _placeholder(self) -> re.Pattern[str]:
        return re.compile(rf"<!--{self._mark}(\d+)j-->|{self._mark}(\d+)j(?:=\"\")?")

    def restore_some(self, text: str) -> str:
        """Put back the constructs that `text` kept; those of elements that were left out are gone."""
        return self._placeholder().sub(lambda found: self._held[int(found.group(1) or found.group(2))], text)

    def restore(self, page: str) -> str:
        """Put the constructs back; each must be there exactly once. Raises CannotInline."""
        seen = [0] * len(self._held)

        def back(found: re.Match[str]) -> str:
            number = int(found.group(1) or found.group(2))
            seen[number] += 1
            return self._held[number]

        out = self._placeholder().sub(back, page)
        lost = next((number for number, count in enumerate(seen) if count != 1), None)
        if lost is not None:
            raise CannotInline(f"`{self._held[lost]}` stands where styles or HTML cannot be known in advance")
        return out
