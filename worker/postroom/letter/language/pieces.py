"""Template source taken apart into pieces: text, and Jinja constructs as they are written.

Layouts are filled, and CSS is inlined, on source; both must treat `{% … %}` and `{{ … }}` as opaque and
leave them as they were. `split` uses Jinja's own lexer, so that the pieces are what Jinja will read.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from jinja2.exceptions import TemplateSyntaxError

from postroom.letter.language.environment import explain_syntax, tokens_of
from postroom.letter.problems import Position, Rejected

Kind = Literal["data", "block", "variable", "raw"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of source. For blocks, `words` are the names and strings of the tag: `include`, `foot`."""

    kind: Kind
    text: str
    field: str
    line: int
    words: tuple[str, ...] = ()

    def opens(self, word: str) -> bool:
        """Whether this is the tag `{% word … %}`."""
        return self.kind == "block" and self.words[:1] == (word,)


@lru_cache(maxsize=32)
def split(source: str, field: str) -> tuple[Piece, ...]:
    """Take source apart; comments are dropped. Raises Rejected (template_syntax).

    Kept for a while: validation takes the same source apart again and again, and lexing is most of its time.
    """
    try:
        return tuple(_assemble(tokens_of(source), field))
    except TemplateSyntaxError as error:
        raise Rejected(*explain_syntax(error, field, source)) from None


def _assemble(tokens: Iterable[tuple[int, str, str]], field: str) -> Iterable[Piece]:
    held: list[str] = []
    words: list[str] = []
    start = 0
    for line, token, value in tokens:
        if not held:
            if token == "data":
                yield Piece("data", value, field, line)
                continue
            start = line
        held.append(value)
        if token in ("name", "string"):
            words.append(value.strip("'\""))
        if token in ("block_end", "variable_end", "comment_end", "raw_end"):
            text = "".join(held)
            if token == "comment_end":
                # Blank lines keep the count of lines, which errors are reported by.
                yield Piece("data", "\n" * text.count("\n"), field, start)
            else:
                kinds: dict[str, Kind] = {"block_end": "block", "variable_end": "variable", "raw_end": "raw"}
                yield Piece(kinds[token], text, field, _whole(start, text), tuple(words))
            held, words = [], []
    if held:
        shown = f"{{{{ '{held[0]}' }}}}"
        raise TemplateSyntaxError(
            f"`{held[0]}` is not closed; add its end, or write `{shown}` to show it", start
        )


def _whole(start: int, text: str) -> int:
    """The position of a construct from that of its first token: its length is that of its first line."""
    if not isinstance(start, Position):
        return start
    return Position(start, start.column, len(text.partition("\n")[0]))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of assembled text: where it begins, and the field, line and column that it was written at."""

    start: int
    field: str
    line: int
    column: int | None
    """1-based; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Source:
    """Assembled template source, and where each of its lines and characters was written."""

    text: str
    origin: tuple[tuple[str, int], ...]
    spans: tuple[Span, ...] = ()

    def place(self, line: int | None) -> tuple[str, int | None]:
        """The field and line that a line of the assembled text comes from."""
        if line is None or not 1 <= line <= len(self.origin):
            return (self.origin[0][0] if self.origin else "spec.html", None)
        return self.origin[line - 1]

    def place_of(self, offset: int) -> tuple[str, int, int | None]:
        """The field, line and column that a character of the assembled text comes from."""
        index = bisect_right(self.spans, offset, key=lambda span: span.start) - 1
        if index < 0:  # the text was not assembled of pieces, as compiled MJML is not
            field, line = self.place(self.text.count("\n", 0, offset) + 1)
            return field, line or 1, None
        span = self.spans[index]
        breaks = self.text.count("\n", span.start, offset)
        if breaks:
            return span.field, span.line + breaks, offset - self.text.rfind("\n", 0, offset)
        return span.field, span.line, span.column and span.column + offset - span.start

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and column of the assembled text."""
        start = 0
        for _ in range(line - 1):
            start = self.text.find("\n", start) + 1
        return start + column - 1

    def edited(self, edits: Iterable[tuple[int, int, str]]) -> "Source":
        """The source with stretches replaced, as (start, end, text); new lines have the old one's place."""
        parts: list[str] = []
        origin: list[tuple[str, int]] = list(self.origin[:1])
        spans: list[Span] = []
        line = position = length = 0
        for start, end, text in (*edits, (len(self.text), len(self.text), "")):
            kept = self.text[position:start]
            parts += [kept, text]
            spans += self._spans_between(position, start, length - position)
            length += len(kept)
            if text:
                spans.append(Span(length, *self.place_of(start)))
                length += len(text)
            for _ in range(kept.count("\n")):
                line += 1
                origin.append(self.origin[line])
            origin += [self.origin[line]] * text.count("\n")
            line += self.text.count("\n", start, end)
            position = end
        return Source("".join(parts), tuple(origin), tuple(spans))

    def _spans_between(self, start: int, end: int, shift: int) -> Iterable[Span]:
        """The spans of a stretch, moved by `shift` characters."""
        if start < end:
            yield Span(start + shift, *self.place_of(start))
        for span in self.spans:
            if start < span.start < end:
                yield Span(span.start + shift, span.field, span.line, span.column)


def join(pieces: Iterable[Piece]) -> Source:
    """Put pieces together again."""
    texts: list[str] = []
    origin: list[tuple[str, int]] = [("spec.html", 1)]
    spans: list[Span] = []
    length = 0
    claimed = False
    for piece in pieces:
        first, *others = piece.text.split("\n")
        # Where several fields meet on a line, errors are about the one that says something to Jinja.
        speaks = piece.kind != "data"
        if speaks or (first.strip() and not claimed):
            origin[-1] = (piece.field, int(piece.line))
            claimed = claimed or speaks
        if others:
            origin += [(piece.field, piece.line + offset) for offset, _ in enumerate(others, 1)]
            claimed = False
        column = piece.line.column if isinstance(piece.line, Position) else None
        spans.append(Span(length, piece.field, int(piece.line), column))
        length += len(piece.text)
        texts.append(piece.text)
    return Source("".join(texts), tuple(origin), tuple(spans))
