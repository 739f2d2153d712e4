"""Template source taken apart into pieces: text, and Jinja constructs as they are written.

Layouts are filled, and CSS is inlined, on source; both must treat `{% … %}` and `{{ … }}` as opaque and
leave them as they were. `split` uses Jinja's own lexer, so that the pieces are what Jinja will read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from jinja2.exceptions import TemplateSyntaxError

from postroom.letter.language.environment import explain_syntax, tokens_of
from postroom.letter.problems import Rejected

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

    Kept for a while: a proof takes the same source apart again and again, and lexing is most of its time.
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
                yield Piece(kinds[token], text, field, start, tuple(words))
            held, words = [], []
    if held:
        shown = f"{{{{ '{held[0]}' }}}}"
        raise TemplateSyntaxError(
            f"`{held[0]}` is not closed; add its end, or write `{shown}` to show it", start
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Assembled template source, and where each of its lines was written."""

    text: str
    origin: tuple[tuple[str, int], ...]

    def place(self, line: int | None) -> tuple[str, int | None]:
        """The field and line that a line of the assembled text comes from."""
        if line is None or not 1 <= line <= len(self.origin):
            return (self.origin[0][0] if self.origin else "spec.html", None)
        return self.origin[line - 1]


def join(pieces: Iterable[Piece]) -> Source:
    """Put pieces together again."""
    texts: list[str] = []
    origin: list[tuple[str, int]] = [("spec.html", 1)]
    claimed = False
    for piece in pieces:
        first, *others = piece.text.split("\n")
        # Where several fields meet on a line, errors are about the one that says something to Jinja.
        speaks = piece.kind != "data"
        if speaks or (first.strip() and not claimed):
            origin[-1] = (piece.field, piece.line)
            claimed = claimed or speaks
        if others:
            origin += [(piece.field, piece.line + offset) for offset, _ in enumerate(others, 1)]
            claimed = False
        texts.append(piece.text)
    return Source("".join(texts), tuple(origin))
