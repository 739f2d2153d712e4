"""CSS onto elements, since many mail clients read nothing else.

`inline_page` works on a whole page with premailer and costs milliseconds. `inline_source` does the same
to template source, once, so that a letter costs nothing: Jinja constructs ride through as placeholders.
It is refused (`CannotInline`, with the reason) where the outcome could depend on the event: then the
page is inlined after rendering. Neither opens a file or a connection: premailer's access is off, links
to sheets are left alone, and `@import` is refused before premailer sees the CSS.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from postroom.letter.html.css import Sheet, read_css
from postroom.letter.html.protect import DOCTYPE, CannotInline, Protected, parse_page
from postroom.letter.language.pieces import split
from postroom.letter.language.stylesheets import first_construct

# What is not closed runs to the end, as for an HTML parser; so the search stays linear.
COMMENT_OR_STYLE = re.compile(
    r"<!--.*?(?:-->|\Z)|<style\b([^>]*)(?:>|\Z)(.*?)(?:</style\s*>|\Z)", re.DOTALL | re.IGNORECASE
)
MEDIA = re.compile(r"""\bmedia\s*=\s*["']([^"']*)["']""", re.IGNORECASE)
HEAD_END = re.compile(r"</head\s*>", re.IGNORECASE)
HTML_START = re.compile(r"<html\b[^>]{0,2000}>", re.IGNORECASE)
ADDED_META = re.compile(r'<meta http-equiv="Content-Type" content="text/html; charset=[^"]*">\n?')
QUIET = 60
"""Above logging's CRITICAL: the inliner's parser reports what `read_css` has already judged."""


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


def prepare() -> None:
    """Load the inliner before a page needs it: half a second of imports, of which most workers need none."""
    _inliner()


def _apply(page: str, sheet: Sheet) -> str:
    doctype = DOCTYPE.match(page)
    body = page[doctype.end() :] if doctype else page
    inliner = _inliner()(
        css_text=[sheet.inlined] if sheet.inlined else None,
        allow_network=False,
        allow_loading_external_files=False,
        disable_leftover_css=True,
        disable_validation=True,
        disable_link_rewrites=True,
        cssutils_logging_level=QUIET,
    )
    parse_page(body)
    declared = ADDED_META.search(body)
    out = inliner.transform(body, pretty_print=False)
    if not declared:
        out = ADDED_META.sub("", out, count=1)
    return ("<!doctype html>\n" if doctype else "") + _with_style(out, sheet.kept)


@cache
def _inliner() -> Any:
    """Premailer with its reading of a sheet remembered: it takes longer than all the rest."""
    # late, because most workers never need it; see `prepare`
    from premailer import Premailer  # type: ignore[import-untyped]  # noqa: PLC0415

    class Inliner(Premailer):  # type: ignore[misc]
        @staticmethod
        @lru_cache(maxsize=128)
        def _read_rules(css: str, index: int) -> Any:
            return Premailer(disable_validation=True)._parse_style_rules(css, index)  # noqa: SLF001

        def _parse_style_rules(self, css_body: str, ruleset_index: int) -> Any:
            return self._read_rules(css_body, ruleset_index)

    return Inliner


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
    return str(etree.tostring(parse_page(page), method="html", encoding="unicode"))


# --- on source -----------------------------------------------------------------------------------


def inline_source(source: str, css: str) -> str:
    """Inline template source. Raises CannotInline, or Rejected (css_invalid, template_syntax)."""
    bare, sheets = take_styles(source, css)
    if not sheets.strip():
        return source
    if first_construct(sheets) is not None:
        raise CannotInline("the CSS itself depends on the event")
    sheet = _read(sheets)
    pieces = split(bare, "spec.html")
    if sheet.positional and any(piece.kind == "block" for piece in pieces):
        raise CannotInline(f"`{sheet.positional}` depends on which elements an event brings")
    protected = Protected(pieces)
    protected.check(sheet)
    return protected.restore(_apply(protected.text, sheet))
