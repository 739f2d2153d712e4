"""HTML attributes from CSS (`bgcolor`, `align`, `width` …), for templates that ask for them.

Old clients read `bgcolor="#eeeeee"` where they ignore `background-color`. An element and its declarations
in; out, the attributes that premailer derives from them. It is asked about one element at a time, in a
document of our own, and only for attributes that mean on that element what the CSS means: `align` on a
table or an image makes it float, so that it is never derived there. Nothing is fetched.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from turbohtml import parse

CELLS = frozenset(("td", "th"))
ATTRIBUTES: dict[str, frozenset[str]] = {
    "align": frozenset((*CELLS, "tr", "p", "div", "h1", "h2", "h3", "h4", "h5", "h6")),
    "bgcolor": frozenset((*CELLS, "body", "table", "tr")),
    "height": frozenset((*CELLS, "img", "table")),
    "valign": frozenset((*CELLS, "tr", "tbody", "thead", "tfoot")),
    "width": frozenset((*CELLS, "img", "table")),
}
"""The elements on which an attribute means the same as the property."""
AROUND = {
    "body": "{}",
    "td": "<body><table><tr>{}</tr></table></body>",
    "th": "<body><table><tr>{}</tr></table></body>",
    **dict.fromkeys(("tr", "tbody", "thead", "tfoot"), "<body><table>{}</table></body>"),
}
"""Where an element may stand in a page."""
SIZE = re.compile(r"[0-9]+%?")
WORD = re.compile(r"#?[0-9a-zA-Z]+")
QUIET = 60
"""Above logging's CRITICAL: premailer's CSS parser reports what `stylesheet` has judged."""


@lru_cache(maxsize=2048)
def attributes_of(tag: str, css: str, wanted: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The attributes that an element gets for its declarations, of those that are wanted."""
    names = {name for name in wanted if tag in ATTRIBUTES[name]}
    if not names or not css.strip():
        return ()
    # late: half a second of imports, of which most programs need none
    from premailer import Premailer  # type: ignore[import-untyped]  # noqa: PLC0415

    page = AROUND.get(tag, "<body>{}</body>").format(f'<{tag} class="x"></{tag}>')
    written = Premailer(
        f"<html><head></head>{page}</html>",
        css_text=[f".x {{ {css} }}"],
        allow_network=False,
        allow_loading_external_files=False,
        disable_basic_attributes=sorted(ATTRIBUTES.keys() - names),
        disable_leftover_css=True,
        disable_link_rewrites=True,
        disable_validation=True,
        cssutils_logging_level=QUIET,
        method="xml",
    ).transform(pretty_print=False)
    found = parse(written).select_one(".x")
    return tuple(_plain(found.attrs.items(), names)) if found is not None else ()


def _plain(attributes: Iterable[tuple[str, object]], names: set[str]) -> Iterable[tuple[str, str]]:
    """Only what HTML takes in these attributes: numbers, percentages, words and hexadecimal colours."""
    for name, value in attributes:
        text = str(value).strip()
        allowed = SIZE if name in ("width", "height") else WORD
        if name in names and allowed.fullmatch(text):
            yield name, text
