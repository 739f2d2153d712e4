"""What a `style` attribute says about the text of its element: whether it shows, and which spaces count.

`look_of(style)` takes the value of the attribute, as an inliner leaves it, and gives a Look. It follows
CSS: the last valid declaration of a property wins, `!important` before all others.
"""

import re
from functools import lru_cache
from typing import NamedTuple

DISPLAYS = frozenset(
    "block contents flex flow flow-root grid inherit initial inline inline-block inline-flex inline-grid"  # noqa: SIM905  a table
    " inline-table list-item none revert revert-layer ruby run-in table table-caption table-cell"
    " table-column table-column-group table-footer-group table-header-group table-row table-row-group unset"
    " -webkit-box -webkit-flex -webkit-inline-box -webkit-inline-flex -ms-flexbox".split()
)
"""Values of `display` that clients accept; a declaration with another one is ignored."""
BLOCKS = frozenset(
    "block flex flow-root grid list-item table table-caption table-row -webkit-box"  # noqa: SIM905  a table
    " -webkit-flex -ms-flexbox".split()
)
VISIBILITIES = {"visible": True, "initial": True, "hidden": False, "collapse": False}
WHITE_SPACES = {
    "normal": "",
    "nowrap": "",
    "initial": "",
    "pre-line": "lines",
    "pre": "all",
    "pre-wrap": "all",
    "break-spaces": "all",
}
"""`white-space` by what is kept: nothing, lines, or lines and spaces."""
DECLARATION = re.compile(r"""((?:[^;"'()]|"[^"]*"|'[^']*'|\([^()]*\)|[()"'])+)""")
CSS_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
LENGTH = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([a-z%]*)")
FONT_SIZE = re.compile(r"(?:^|\s)([+-]?(?:\d+\.?\d*|\.\d+)(?:[a-z]+|%)?)(?:\s*/|\s)")
RELATIVE = frozenset(("em", "%", "ex", "ch"))
READ = frozenset(
    "display visibility opacity font font-size white-space list-style list-style-type height max-height"  # noqa: SIM905  a table
    " max-width width overflow overflow-x overflow-y".split()
)
"""The properties that decide something about the text."""
MARKERS = {
    "decimal": "1",
    "decimal-leading-zero": "1",
    "lower-alpha": "a",
    "lower-latin": "a",
    "upper-alpha": "A",
    "upper-latin": "A",
    "lower-roman": "i",
    "upper-roman": "I",
    "none": "",
    "disc": "-",
    "circle": "-",
    "square": "-",
}
"""`list-style-type` as the `type` attribute has it."""


class Look(NamedTuple):
    """What a `style` says about the text of its element; None: as the parent."""

    display: str | None = None
    gone: bool = False
    """Without height or opacity: nothing of it shows, whatever its children say."""
    visible: bool | None = None
    sized: bool | None = None
    """Whether letters have a size: `font-size: 0` hides text, but neither images nor resized children."""
    keeps: str | None = None
    """One of the values of WHITE_SPACES."""
    marker: str | None = None


PLAIN_LOOK = Look()


@lru_cache(maxsize=2048)
def look_of(style: str) -> Look:
    """Read the value of a `style` attribute: the last valid declaration of a property wins."""
    found = _declarations(style)
    if not found:
        return PLAIN_LOOK
    marker = None
    for word in found.get("list-style-type", found.get("list-style", "")).split():
        marker = MARKERS.get(word, marker)
    return Look(
        display=found.get("display"),
        gone=_is_gone(found),
        visible=VISIBILITIES.get(found.get("visibility", "")),
        sized=_sized(found.get("font-size", "")),
        keeps=WHITE_SPACES.get(found.get("white-space", "")),
        marker=marker,
    )


def _declarations(style: str) -> dict[str, str]:
    values: dict[str, tuple[bool, str]] = {}
    for declaration in DECLARATION.findall(CSS_COMMENT.sub("", style)):
        name, colon, value = declaration.partition(":")
        name = name.strip().lower()
        if not colon or name not in READ:
            continue
        value = value.strip().lower()
        important = value.endswith("important") and value.rpartition("!")[2].strip() == "important"
        if important:
            value = value.rpartition("!")[0].strip()
        if name == "font":
            name, size = "font-size", FONT_SIZE.search(value + " ")
            value = size.group(1) if size else "medium"
        if _is_valid(name, value) and (important or not values.get(name, (False, ""))[0]):
            values[name] = (important, value)
    return {name: value for name, (_, value) in values.items()}


def _is_valid(name: str, value: str) -> bool:
    match name:
        case "display":
            return bool(value) and DISPLAYS.issuperset(value.split())
        case "visibility":
            return value in VISIBILITIES or value in ("inherit", "unset")
        case "white-space":
            return value in WHITE_SPACES or value in ("inherit", "unset")
        case _:
            return bool(value)


def _is_gone(found: dict[str, str]) -> bool:
    if _is_zero(found.get("opacity", "")):
        return True
    overflow = [found.get(name, "") for name in ("overflow", "overflow-x", "overflow-y")]
    if not any("hidden" in value or "clip" in value for value in overflow):
        return False
    return any(_is_zero(found.get(name, "")) for name in ("height", "max-height", "width", "max-width"))


def _is_zero(value: str) -> bool:
    length = LENGTH.fullmatch(value)
    return length is not None and float(length.group(1)) == 0


def _sized(value: str) -> bool | None:
    if value in ("", "inherit", "unset", "smaller", "larger"):
        return None
    length = LENGTH.fullmatch(value)
    if length is None:
        return None if "calc" in value or "var(" in value else True
    if float(length.group(1)) == 0:
        return False
    return None if length.group(2) in RELATIVE else True
