"""What document a template's source makes: a whole page or a part of one, and where its body begins.

Both are read from the tokens of HTML (tags in comments, scripts, titles and attributes are none), with
Jinja constructs as placeholders. The source is given in pieces, so that places in it keep their lines.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from turbohtml import TokenType

from postroom.letter.html.stylesheet import PLACE, Token, placeholder, tokenize
from postroom.letter.language.pieces import Piece

HEAD_ELEMENTS = frozenset(
    "base basefont bgsound head html link meta noframes noscript script style template title".split()  # noqa: SIM905  a table
)
"""Tags that may stand before the body; any other begins it."""
RAW_ELEMENTS = frozenset(("noframes", "noscript", "script", "style", "title"))
UNSAFE = re.compile("[\x1a\x1b\x00]")


class Place(NamedTuple):
    """A place in pieces: before the character `offset` of a data piece, or before the piece itself."""

    piece: int
    offset: int = 0


@dataclass(slots=True)
class _Branches:
    """An `if` or `for`, by the numbers of its pieces."""

    start: int
    end: int = -1
    last: int = 0
    """The number of its last branch, counted from 0."""
    has_else: bool = False
    covered: set[int] = field(default_factory=set)
    is_macro: bool = False


class _Found(NamedTuple):
    offset: int
    path: tuple[tuple[int, int], ...]
    """The branches that it stands in: which `if`, and which branch of it."""


def is_whole_page(pieces: Sequence[Piece]) -> bool:
    """Whether the source has a doctype, or an `<html>` or `<body>` tag."""
    return any(
        token.type is TokenType.DOCTYPE
        or (token.type is TokenType.START_TAG and _name(token) in ("html", "body"))
        for token in tokenize(_protect(pieces))
    )


def body_starts(pieces: Sequence[Piece]) -> list[Place]:
    """Where content that comes first in the body has to stand: in one place, or in one for each branch.

    After the `<body>` tag; where there is none, before the first content, which begins the body for a
    parser. Where only some branches of an `if` have a `<body>` tag and nothing else, after the `endif`.
    """
    reader = _DocumentReader(pieces)
    reader.read()
    return sorted(reader.places())


def _protect(pieces: Sequence[Piece]) -> str:
    """The source, character by character as long as the pieces where they are data."""
    return "".join(
        UNSAFE.sub(" ", piece.text) if piece.kind == "data" else placeholder(number)
        for number, piece in enumerate(pieces)
    )


def _name(token: Token) -> str:
    """The element's name, without a construct that follows it directly."""
    return token.name.partition("\x1a")[0]


class _DocumentReader:
    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        lengths = (
            len(piece.text) if piece.kind == "data" else len(placeholder(number))
            for number, piece in enumerate(pieces)
        )
        self._starts = [0, *accumulate(lengths)]
        self._groups: dict[int, _Branches] = {}
        self._path: list[tuple[int, int]] = []
        self._bodies: list[_Found] = []
        self._content: list[_Found] = []
        """Where there is something to see, in the order of the source."""

    def read(self) -> None:
        offset, template, raw = 0, 0, False
        source = _protect(self._pieces)
        tagged = "<body" in source.lower()
        for token in tokenize(source):
            end = offset + len(token.source)
            name, starts = _name(token), token.type is TokenType.START_TAG
            if name == "template":
                template += 1 if starts else -1
            content = not template and (
                (starts and name not in HEAD_ELEMENTS and name != "body")
                or (token.type is TokenType.TEXT and not raw)
            )
            self._constructs(token, offset, content=content)
            if starts and name == "body" and not template:
                self._bodies.append(_Found(end, tuple(self._path)))
            if token.type is not TokenType.TEXT:
                raw = starts and name in RAW_ELEMENTS
            offset = end
            if not self._path and (self._bodies or (self._content and not tagged)):
                break  # no branch is open, so that nothing after it counts

    def _constructs(self, token: Token, offset: int, *, content: bool) -> None:
        """Follow the branches that begin and end in a token, and note where there is content."""
        if content and token.type is TokenType.START_TAG:
            self._note(offset)
        words = content and token.type is TokenType.TEXT
        position = 0
        for found in PLACE.finditer(token.source):
            if words:
                self._words(token.source[position : found.start()], offset + position)
            number = int(found.group(1))
            piece = self._pieces[number]
            if piece.kind == "block":
                self._branch(number, piece)
            elif words:
                self._note(offset + found.start())
            position = found.end()
        if words:
            self._words(token.source[position:], offset + position)

    def _words(self, text: str, offset: int) -> None:
        blank = len(text) - len(text.lstrip(" \t\n\f\ufeff"))
        if blank < len(text):
            self._note(offset + blank)

    def _note(self, offset: int) -> None:
        """There is content here, unless it is written where a macro is called."""
        if not any(self._groups[group].is_macro for group, _ in self._path):
            self._content.append(_Found(offset, tuple(self._path)))

    def _branch(self, number: int, piece: Piece) -> None:
        word = piece.words[0] if piece.words else ""
        if word in ("if", "for", "macro"):
            self._groups[number] = _Branches(number, is_macro=word == "macro")
            self._path.append((number, 0))
        elif not self._path:
            return
        elif word in ("elif", "else"):
            group, branch = self._path[-1]
            self._path[-1] = (group, branch + 1)
            self._groups[group].last = branch + 1
            self._groups[group].has_else |= word == "else"
        elif word in ("endif", "endfor", "endmacro"):
            self._groups[self._path.pop()[0]].end = number

    # --- choosing ---

    def places(self) -> list[Place]:
        if not self._bodies:
            return [self._before_content()]
        chosen = self._bodies[:1]
        for body in self._bodies[1:]:
            if all(_exclusive(body.path, other.path) for other in chosen):
                chosen.append(body)
        for body in chosen:
            for group, branch in body.path:
                self._groups[group].covered.add(branch)
        for group, _ in chosen[0].path:
            if not self._is_covered(self._groups[group]) and self._holds_tags_alone(self._groups[group]):
                return [Place(self._groups[group].end + 1)]
        return [self._place(body.offset) for body in chosen]

    def _before_content(self) -> Place:
        if not self._content:
            return Place(len(self._pieces))
        first = self._content[0]
        return Place(first.path[0][0]) if first.path else self._place(first.offset)

    def _is_covered(self, group: _Branches) -> bool:
        return group.has_else and len(group.covered) == group.last + 1

    def _holds_tags_alone(self, group: _Branches) -> bool:
        """Whether there is no content between an `if` and its end."""
        start, end = self._starts[group.start], self._starts[group.end]
        return group.end >= 0 and not any(start < each.offset < end for each in self._content)

    def _place(self, offset: int) -> Place:
        piece = bisect_right(self._starts, offset) - 1
        return Place(piece, offset - self._starts[piece] if piece < len(self._pieces) else 0)


def _exclusive(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> bool:
    """Whether no event brings both: they stand in different branches of one `if`."""
    branches = dict(one)
    return any(branches.get(group, branch) != branch for group, branch in other)
