"""HTML source → its tokens, each with the stretch of source that it is.

The source may be a template's, with a `placeholder` for each Jinja construct: a tokenizer carries those
through text, values, comments and names. The tokens of source that ends inside a tag end before that tag.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import turbohtml
from turbohtml import TokenType

PLACE = re.compile("\x1a([0-9]+)\x1b")
"""Where a Jinja construct stands. A manifest cannot hold these characters as YAML; JSON can."""


class CannotInline(Exception):
    """A page's CSS or text cannot be worked out before the event is known; the message says why."""


def placeholder(number: int) -> str:
    """What stands for the construct of that number."""
    return f"\x1a{number}\x1b"


class Token(NamedTuple):
    """A token of HTML. `name` is an element's, in lower case; `style` is decoded."""

    type: TokenType
    name: str
    source: str
    style: str
    self_closing: bool


def tokenize(source: str) -> Iterator[Token]:
    """The tokens, with the text between two others as one. `source` has line feeds as its only line ends."""
    texts: list[str] = []
    for token in turbohtml.tokenize(source, capture_source=True, resolve_references=False):
        kind = token.type
        if kind is TokenType.TEXT:
            texts.append(token.data or "")
            continue
        if kind is TokenType.CHARACTER_REFERENCE:
            texts.append(token.source or "")
            continue
        if texts:
            yield Token(TokenType.TEXT, "", "".join(texts), "", self_closing=False)
            texts = []
        style = token.attr("style") if kind is TokenType.START_TAG else None
        yield Token(kind, token.tag or "", token.source or "", style or "", token.self_closing)
    if texts:
        yield Token(TokenType.TEXT, "", "".join(texts), "", self_closing=False)
