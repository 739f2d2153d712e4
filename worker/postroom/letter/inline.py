"""CSS onto elements, since many mail clients read nothing else.

`inline_page` works on a whole page with premailer and costs milliseconds. `inline_source` does the same
to template source, once, so that a letter costs nothing: Jinja constructs ride through as placeholders.
It is refused (`CannotInline`, with the reason) where the outcome could depend on the event: then the
page is inlined after rendering. Neither opens a file or a connection: premailer's access is off, links
to sheets are left alone, and `@import` is refused before premailer sees the CSS.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from lxml import etree  # type: ignore[import-untyped]

from postroom.letter.css import Sheet, read_css
from postroom.letter.pieces import Piece, split

COMMENT_OR_STYLE = re.compile(r"<!--.*?-->|<style\b([^>]*)>(.*?)</style\s*>", re.DOTALL | re.IGNORECASE)
MEDIA = re.compile(r"""\bmedia\s*=\s*["']([^"']*)["']""", re.IGNORECASE)
DOCTYPE = re.compile(r"\s*<!doctype[^>]*>\s*", re.IGNORECASE)
HEAD_END = re.compile(r"</head\s*>", re.IGNORECASE)
HTML_START = re.compile(r"<html\b[^>]*>", re.IGNORECASE)
ADDED_META = re.compile(r'<meta http-equiv="Content-Type" content="text/html; charset=[^"]*">\n?')
QUIET = 60
"""Above logging's CRITICAL: the inliner's parser reports what `read_css` has already judged."""


class CannotInline(Exception):
    """CSS cannot be inlined before the event is known; the message says why."""


def take_styles(page: str, css: str = "") -> tuple[str, str]:
    """The page without its `<style>` elements, and all CSS in order: `css` first."""
    sheets = [css] if css else []

    def take(found: re.Match[str]) -> str:
        if found.group(2) is None:
            return found.group()
        media = MEDIA.search(found.group(1))
        wrap = media is not None and media.group(1).strip().lower() not in ("", "all", "screen")
        sheets.append(f"@media {media.group(1)} {{ {found.group(2)} }}" if media and wrap else found.group(2))
        return ""

    return COMMENT_OR_STYLE.sub(take, page), "\n".join(sheets)


def styles_of(source: str) -> Iterator[tuple[int, str]]:
    """Each `<style>` element's CSS, and the number of lines before it."""
    for found in COMMENT_OR_STYLE.finditer(source):
        if found.group(2) is not None:
            yield source.count("\n", 0, found.start(2)), found.group(2)


def inline_page(page: str, css: str) -> str:
    """The page with `css` and its own styles on the elements. Raises Rejected (css_invalid)."""
    bare, sheets = take_styles(page, css)
    return _apply(bare, _read(sheets)) if sheets.strip() else page


@lru_cache(maxsize=128)
def _read(css: str) -> Sheet:
    return read_css(css)


def _apply(page: str, sheet: Sheet) -> str:
    # Half a second of imports that most workers never need.
    from premailer import Premailer  # type: ignore[import-untyped]  # noqa: PLC0415

    doctype = DOCTYPE.match(page)
    body = page[doctype.end() :] if doctype else page
    inliner = Premailer(
        css_text=[sheet.inlined] if sheet.inlined else None,
        allow_network=False,
        allow_loading_external_files=False,
        disable_leftover_css=True,
        disable_validation=True,
        disable_link_rewrites=True,
        cssutils_logging_level=QUIET,
    )
    declared = ADDED_META.search(body)
    out = inliner.transform(body, pretty_print=False)
    if not declared:
        out = ADDED_META.sub("", out, count=1)
    return ("<!doctype html>\n" if doctype else "") + _with_style(out, sheet.kept)


def _with_style(page: str, kept: str) -> str:
    if not kept:
        return page
    style = f"<style>\n{kept}\n</style>\n"
    end = HEAD_END.search(page)
    if end:
        return page[: end.start()] + style + page[end.start() :]
    start = HTML_START.search(page)
    place = start.end() if start else 0
    return f"{page[:place]}<head>{style}</head>{page[place:]}"


def canonical(page: str) -> str:
    """The page as a parser understands it, for comparing two ways of writing the same."""
    tree = etree.fromstring(DOCTYPE.sub("", page, count=1) or "<html></html>", etree.HTMLParser())
    return str(etree.tostring(tree, method="html", encoding="unicode"))


# --- on source -----------------------------------------------------------------------------------


def inline_source(source: str, css: str) -> str:
    """Inline template source. Raises CannotInline, or Rejected (css_invalid, template_syntax)."""
    bare, sheets = take_styles(source, css)
    if not sheets.strip():
        return source
    if any(sign in sheets for sign in ("{{", "{%", "{#")):
        raise CannotInline("the CSS itself depends on the event")
    sheet = _read(sheets)
    pieces = split(bare, "spec.html")
    if sheet.positional and any(piece.kind == "block" for piece in pieces):
        raise CannotInline(f"`{sheet.positional}` depends on which elements an event brings")
    protected = Protected(pieces)
    protected.check(sheet)
    return protected.restore(_apply(protected.text, sheet))


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
        self.text = "".join(self._write(piece) for piece in pieces)

    def _write(self, piece: Piece) -> str:
        if piece.kind == "data":
            self._advance(piece.text)
            return piece.text
        number = len(self._held)
        self._held.append(piece.text)
        token = f"{self._mark}{number}j"
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
        return etree.fromstring(DOCTYPE.sub("", self.text, count=1), etree.HTMLParser())

    def check(self, sheet: Sheet) -> None:
        """Refuse source whose styles an event could change. Raises CannotInline."""
        tree = self.tree()
        if sheet.inlined:
            for name in ("class", "id"):
                for value in tree.xpath(f"//@{name}"):
                    if self._mark in value:
                        raise CannotInline(
                            f"a `{name}` depends on the event; write the whole element in each branch instead"
                        )
        parents = self._parents(tree)
        for group in self._groups:
            places = {
                parents.get(number, "outside" if number in self._in_text else "tag") for number in group
            }
            if len(places) > 1:
                raise CannotInline(
                    f"`{self._held[group[0]]}` begins and ends in different elements, so that the page"
                    " has another shape in each branch"
                )

    def _parents(self, tree: etree._Element) -> dict[int, str]:
        """The path of the element that each placeholder stands in."""
        root = tree.getroottree()
        parents = {}
        for comment in tree.iter(etree.Comment):
            number = self.number(comment.text or "")
            parent = comment.getparent()
            if number is not None and parent is not None:
                parents[number] = root.getpath(parent)
        return parents

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
