"""What a `style` attribute says about the text of its element: whether it shows, and which spaces count.

`look_of(style)` takes the value of the attribute, as an inliner leaves it, and gives a Look. It follows
CSS: the last valid declaration of a property wins, `!important` before all others.

The text part of a letter, read from its page: what a reader sees, line by line, with addresses of links.

`text_of_page(page)` takes a rendered page whose CSS is inlined. It fails for no page.

The rules: "The text part" in docs/how-to/write-a-template.md, and decision 0039.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import turbohtml
from turbohtml import Element, Text

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


PARAGRAPHS = frozenset(
    "article aside blockquote details dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr main menu"  # noqa: SIM905  a table
    " nav ol p pre listing section table ul".split()
)
"""An empty line stands before and after them."""
LINES = frozenset(
    "address area body caption center dd dialog dir div dt figcaption hgroup legend li option search summary"  # noqa: SIM905  a table
    " tbody tfoot thead tr".split()
)
"""They begin and end a line."""
SKIPPED = frozenset(
    "base datalist embed frame frameset iframe input link meta noembed noframes param script select source"  # noqa: SIM905  a table
    " style svg template textarea title track wbr".split()
)
"""They have no text that a mail client shows. (`object`, `video` and the like show what is inside them.)"""
BREAKING = re.compile("|".join(sorted(PARAGRAPHS | LINES | {"br"})))
RULE = "----------"
QUOTE = "> "
BETWEEN_CELLS = "\t"
"""Two spaces, once the line is tidied; no other tab comes that far."""
BETWEEN_COLUMNS = " | "
NO_COLON_AFTER = ":.!?…→»›>：。！？؟،"
SPACES = re.compile(r"[ \t\n\r\f]+")
LINE_END = re.compile(r"[ \t]*\n[ \t]*")
RAISED = str.maketrans("0123456789+-=()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾")
LOWERED = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
RAISABLE = re.compile(r"[0-9+\-=()]+")

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LINE_SEPARATORS = re.compile("[\u2028\u2029]")
FILLERS = re.compile("[\u00ad\u034f\u180e\u2060\ufeff]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b")
"""Soft hyphens, grapheme joiners and the like; zero-width spaces, but for scripts that break lines there."""
BLANK = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u2800"
LOOSE_JOINERS = re.compile(
    f"(?:(?<=[{BLANK}])|^)[\u200b-\u200d]+|[\u200b-\u200d]+(?=[\u200b-\u200d]*(?:[{BLANK}]|$))"
)
"""Joiners and non-joiners that stand beside no letter: they fill the line of a preheader."""
BLANKS = re.compile(f"[{BLANK}]{{2,}}")
AROUND_CELLS = re.compile(f"[{BLANK}]*\t[{BLANK}\t]*")
EDGES = re.compile(f"^[{BLANK}\t\u3000]+$|[{BLANK}\t]+$|^[{BLANK}\t]+")


def text_of_page(page: str) -> str:
    """The text of a rendered page."""
    return _Writer().read(turbohtml.parse(page, positions=False))


class _Container:
    """What stands before the lines of a list item, a definition or a quotation."""

    __slots__ = ("first", "rest", "used")

    def __init__(self, first: str, rest: str) -> None:
        self.first, self.rest, self.used = first, rest, False


class _OpenElement:
    """An element that is open, and what its end restores."""

    __slots__ = ("container", "gap", "inherited", "keep", "list", "name", "node", "start")

    def __init__(self, node: Element, name: str, gap: int, inherited: tuple[bool, bool, str]) -> None:
        self.node = node
        self.name = name
        self.gap = gap
        self.inherited = inherited
        self.container = False
        self.list = False
        self.keep: object = None
        self.start = 0


INLINE_FRAME = _OpenElement(Element("span"), "span", 0, (True, True, ""))
"""Of all elements whose end changes nothing."""


@dataclass(slots=True)
class _Numbering:
    """A list that is open: its kind of marker, and the number that its next item has."""

    marker: str
    next: int
    step: int


@dataclass(slots=True)
class _Link:
    """A link that is open or has just ended, and where its label stands."""

    target: str
    line: int = -1
    index: int = 0
    alone: bool = False
    image: bool = False


@dataclass(slots=True)
class _Table:
    """A table that is open; the cells of a row of a data table are gathered."""

    data: bool
    row: list[tuple[str, str]] | None = None
    tall: bool = False
    """Whether a cell of the row has more than one line: no other such cell goes on with its last one."""


class _Writer:
    """One pass over a document. The lines are written when the next one begins."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._parts: list[str] = []
        self._number = 0
        """Of the current line, counted from the first."""
        self._gap = 1
        """Before the next text: 0 goes on with the line, 1 begins one, 2 leaves an empty line between."""
        self._line_gap = 1
        self._verbatim = False
        self._space = False
        self._between = ""
        self._fresh = True
        """Whether the block or cell has no text yet."""
        self._around: list[_Container] = []
        self._line_around: tuple[_Container, ...] = ()
        self._lists: list[_Numbering] = []
        self._tables: list[_Table] = []
        self._in_cell = 0
        self._link: _Link | None = None
        self._ended: _Link | None = None
        self._visible, self._sized, self._keeps = True, True, ""

    # --- the walk ---

    def read(self, document: turbohtml.Document) -> str:
        """The text; the walk keeps its own stack, since pages nest deeper than Python calls."""
        open_: list[tuple[Iterator[turbohtml.Node], _OpenElement]] = [(iter(document.children), INLINE_FRAME)]
        while open_:
            children, frame = open_[-1]
            for node in children:
                if isinstance(node, Text):
                    if self._visible and self._sized:
                        self._text(node.data)
                elif isinstance(node, Element):
                    entered = self._enter(node)
                    if entered is not None:
                        open_.append((iter(node.children), entered))
                        break
            else:
                open_.pop()
                if frame is not INLINE_FRAME:
                    self._leave(frame)
        self._block(1)
        self._finish_line()
        return "\n".join(self._lines) + "\n"

    def _enter(self, node: Element) -> _OpenElement | None:
        """Begin an element; None where nothing inside is read."""
        name = node.tag
        if name in SKIPPED:
            return None
        style = node.attr("style")
        look = look_of(style) if style else PLAIN_LOOK
        if look.gone or look.display == "none" or (look.display is None and _unshown(node, name)):
            return None
        if name == "br":
            self._break()
            return None
        gap = 2 if name in PARAGRAPHS else 1 if name in LINES or look.display in BLOCKS else 0
        begin = BEGIN.get(name)
        if not gap and begin is None and look is PLAIN_LOOK:
            return INLINE_FRAME
        frame = _OpenElement(node, name, gap, (self._visible, self._sized, self._keeps))
        if look is not PLAIN_LOOK:
            self._inherit(look)
        if name in ("ul", "ol", "menu", "dir") and self._lists:
            frame.gap = gap = 1
        if gap:
            self._block(gap)
        if begin is not None:
            begin(self, frame, look)
        return frame

    def _inherit(self, look: Look) -> None:
        if look.visible is not None:
            self._visible = look.visible
        if look.sized is not None:
            self._sized = look.sized
        if look.keeps is not None:
            self._keeps = look.keeps

    def _leave(self, frame: _OpenElement) -> None:
        end = END.get(frame.name)
        if end is not None:
            end(self, frame)
        if frame.gap:
            self._block(frame.gap)
        if frame.container:
            self._around.pop()
        if frame.list:
            self._lists.pop()
        self._visible, self._sized, self._keeps = frame.inherited

    # --- text and lines ---

    def _text(self, data: str) -> None:
        if self._keeps:
            self._kept_text(data)
            return
        if not data.strip(" \t\n\r\f"):
            self._space = True
            return
        text = SPACES.sub(" ", data)
        if text[0] == " ":
            self._space = True
            text = text[1:]
        tail = text[-1] == " "
        self._put(text[:-1] if tail else text)
        self._space = tail

    def _kept_text(self, data: str) -> None:
        if self._in_cell:
            data = data.replace("\n", " ")
        data = data.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
        if self._keeps == "lines":
            data = SPACES.sub(" ", LINE_END.sub("\x00", data)).replace("\x00", "\n")
        first = True
        for line in data.split("\n"):
            if not first:
                self._break()
                if self._keeps == "all" and self._gap > 1:
                    self._finish_line()
                    self._keep_empty_line()
            first = False
            if line and (self._keeps == "all" or line != " "):
                self._put(line, verbatim=self._keeps == "all")
            elif line:
                self._space = True

    def _keep_empty_line(self) -> None:
        """Empty lines of preformatted text are kept, each of them."""
        if self._lines and not self._fresh:
            prefix = "".join(each.rest for each in self._around if each.used)
            self._lines.append(prefix.rstrip())
            self._gap = 1

    def _put(self, text: str, *, verbatim: bool = False) -> None:
        """Add text to the line, after the spaces and line ends that are due."""
        if self._ended is not None:
            self._write_address(alone=False)
            if not self._space and not self._gap and text[0].isalnum():
                self._space = True
        if self._gap:
            self._begin_line()
            self._verbatim = verbatim
        elif self._between:
            self._parts.append(self._between)
        elif self._space:
            self._parts.append(" ")
        self._space, self._between = False, ""
        link = self._link
        if link is not None and link.line < 0:
            link.line, link.index = self._number, len(self._parts)
            link.alone = self._fresh and not self._parts
        self._parts.append(text)
        self._fresh = False

    def _begin_line(self) -> None:
        self._finish_line()
        self._line_gap = max(self._line_gap, self._gap)
        self._line_around = tuple(self._around)
        self._number += 1
        self._gap = 0

    def _finish_line(self) -> None:
        """Write the current line; one that shows nothing leaves an empty line at most."""
        parts, self._parts = self._parts, []
        if not parts:
            return
        line = "".join(parts)
        line = _tidy_kept(line) if self._verbatim else _tidy(line)
        self._verbatim = False
        if not line:
            self._line_gap = 2
            return
        around = self._line_around
        if self._line_gap > 1 and self._lines and self._lines[-1].strip(QUOTE):
            self._lines.append("".join([each.rest for each in around if each.used]).rstrip())
        if around:
            prefix = ""
            for each in around:
                prefix += each.rest if each.used else each.first
                each.used = True
            line = prefix + line
        self._lines.append(line)
        self._line_gap = 0

    def _block(self, gap: int) -> None:
        """A block begins or ends here."""
        if self._in_cell:
            self._space = True
            return
        if self._ended is not None:
            self._write_address(alone=self._ended.alone)
        self._gap = max(self._gap, gap)
        self._fresh = True
        self._between = ""

    def _break(self) -> None:
        if self._in_cell:
            self._space = True
            return
        if self._ended is not None:
            self._write_address(alone=False)
        self._gap = 2 if self._gap or not self._parts else 1

    # --- images, links, small elements ---

    def _image(self, frame: _OpenElement, look: Look) -> None:
        node, block = frame.node, look.display in BLOCKS
        frame.gap = 0
        if not self._visible:
            return
        alt = SPACES.sub(" ", node.attr("alt") or "").strip()
        if self._link is not None:
            self._link.image = True
        if not alt:
            return
        if block:
            self._block(1)
        if not any(letter.isalnum() for letter in alt):
            self._put(alt)  # an emoji or a bullet reads as itself
        else:
            self._space = True
            self._put(f"[{alt}]" if self._link is None else alt)
            self._space = True
        if block:
            self._block(1)

    def _begin_link(self, frame: _OpenElement, _: Look) -> None:
        frame.keep = self._link
        target = _target(frame.node.attr("href") or "")
        self._link = _Link(target) if target else self._link

    def _end_link(self, frame: _OpenElement) -> None:
        link = self._link
        if link is frame.keep or link is None:
            return
        assert frame.keep is None or isinstance(frame.keep, _Link)
        self._link = frame.keep
        if not self._visible:
            return
        if link.line < 0:
            if link.image:  # a picture without words: the address is all there is to show
                self._put(_shown(link.target))
        elif link.line != self._number:
            self._write_below(link.target)
        else:
            self._ended = link
            if self._gap:
                self._write_address(alone=link.alone)

    def _write_below(self, target: str) -> None:
        """The address of a link around several lines stands on a line of its own."""
        after = self._gap
        self._gap = 1
        self._put(_shown(target))
        self._gap = max(1, after)

    def _write_address(self, *, alone: bool) -> None:
        link, self._ended = self._ended, None
        assert link is not None
        label = _tidy("".join(self._parts[link.index :]))
        address = _shown(link.target)
        if not label:
            self._parts[link.index :] = [address] if link.image else []
        elif _same(label, link.target):
            if address not in label:
                self._parts[link.index :] = [address if "//" in address else label]
        elif not alone or self._in_cell:
            self._parts.append(f" ({address})")
        else:
            if label[-1] not in NO_COLON_AFTER:
                self._parts.append(":")
            after, fresh = self._gap, self._fresh
            self._gap, self._space, self._between = 1, False, ""
            self._put(address)
            self._gap, self._fresh = after, fresh

    def _area(self, frame: _OpenElement, _: Look) -> None:
        """A part of an image map: its text and address, on lines of their own."""
        self._begin_link(frame, PLAIN_LOOK)
        self._image(frame, PLAIN_LOOK)
        self._end_link(frame)
        frame.gap = 1

    def _rule(self, _: _OpenElement, __: Look) -> None:
        if self._visible:
            self._put(RULE)

    def _begin_script(self, frame: _OpenElement, _: Look) -> None:
        frame.start, frame.keep = len(self._parts), self._number

    def _end_script(self, frame: _OpenElement) -> None:
        """Digits that are raised or lowered have characters of their own: m², CO₂."""
        if frame.keep != self._number or self._gap:
            return
        digits = "".join(self._parts[frame.start :])
        if RAISABLE.fullmatch(digits):
            table = RAISED if frame.name == "sup" else LOWERED
            self._parts[frame.start :] = [digits.translate(table)]

    def _begin_quote(self, _: _OpenElement, __: Look) -> None:
        if self._visible and self._sized:
            self._put('"')

    def _end_quote(self, _: _OpenElement) -> None:
        if self._visible and self._sized:
            self._space = False
            self._put('"')

    def _begin_pre(self, _: _OpenElement, look: Look) -> None:
        if look.keeps is None:
            self._keeps = "all"

    # --- lists, definitions, quotations ---

    def _begin_list(self, frame: _OpenElement, look: Look) -> None:
        node, ordered = frame.node, frame.name == "ol"
        marker = look.marker if look.marker is not None else _type_of(node)
        reverse = ordered and "reversed" in node.attrs
        start = _integer(node.attr("start")) if ordered else None
        if start is None:
            start = sum(map(_is_item, node.children)) if reverse else 1
        frame.list = True
        self._lists.append(
            _Numbering(("1" if ordered else "-") if marker is None else marker, start, -1 if reverse else 1)
        )

    def _begin_item(self, frame: _OpenElement, look: Look) -> None:
        numbering = self._lists[-1] if self._lists else _Numbering("-", 1, 1)
        own = look.marker if look.marker is not None else _type_of(frame.node)
        value = _integer(frame.node.attr("value"))
        number = numbering.next if value is None else value
        numbering.next = number + numbering.step
        marker = _numbered(number, numbering.marker if own is None else own)
        if self._in_cell:
            if marker and self._visible:
                self._put(marker)
                self._space = True
            return
        first = f"{marker} " if marker else ""
        self._around.append(_Container(first, " " * len(first)))
        frame.container = True

    def _begin_definition(self, frame: _OpenElement, _: Look) -> None:
        if not self._in_cell:
            self._around.append(_Container("  ", "  "))
            frame.container = True

    def _begin_quotation(self, frame: _OpenElement, _: Look) -> None:
        if not self._in_cell:
            self._around.append(_Container(QUOTE, QUOTE))
            frame.container = True

    # --- tables ---

    def _begin_table(self, frame: _OpenElement, _: Look) -> None:
        self._tables.append(_Table(not self._in_cell and _is_data(frame.node)))

    def _end_table(self, _: _OpenElement) -> None:
        self._tables.pop()

    def _begin_row(self, frame: _OpenElement, _: Look) -> None:
        if self._tables:
            table = self._tables[-1]
            table.tall = False
            if table.data:
                frame.start, table.row = self._gap, []

    def _end_row(self, frame: _OpenElement) -> None:
        if not (self._tables and self._tables[-1].data and self._tables[-1].row is not None):
            return
        row, self._tables[-1].row = self._tables[-1].row, None
        self._gap = max(frame.start, 1)
        cells = [text for _, text in row]
        if not any(cells):
            return
        if [name for name, _ in row] == ["th", "td"] and all(cells):
            line = f"{cells[0]} {cells[1]}" if cells[0][-1] in ":：" else f"{cells[0]}: {cells[1]}"
        else:
            while not cells[-1]:
                cells.pop()
            line = BETWEEN_COLUMNS.join(cells)
        self._put(line)

    def _begin_cell(self, frame: _OpenElement, _: Look) -> None:
        if self._tables and self._tables[-1].row is not None:
            self._finish_line()
            self._gap, self._space, self._in_cell = 0, False, self._in_cell + 1
            frame.keep = True
            return
        if self._parts and not self._gap:
            self._between = BETWEEN_CELLS
            if self._tables and self._tables[-1].tall and frame.node.find(BREAKING) is not None:
                self._gap = 1
        self._space = False
        self._fresh = True
        frame.start = self._number + (not self._parts or self._gap > 0)

    def _end_cell(self, frame: _OpenElement) -> None:
        if self._ended is not None:
            alone = self._ended.alone and not self._in_cell
            self._write_address(alone=alone)
            self._gap = max(self._gap, alone)
        if frame.keep:
            text = _tidy("".join(self._parts))
            row = self._tables[-1].row
            assert row is not None
            row.append((frame.name, text))
            self._parts = []
            self._in_cell -= 1
            self._space = False
        elif self._number > frame.start and self._tables:
            self._tables[-1].tall = True


def _unshown(node: Element, name: str) -> bool:
    attributes = node.attrs
    return "hidden" in attributes or (name == "dialog" and "open" not in attributes)


def _type_of(node: Element) -> str | None:
    kind = (node.attr("type") or "").strip()
    return kind if kind in ("1", "a", "A", "i", "I") else MARKERS.get(kind.lower())


def _is_item(node: turbohtml.Node) -> bool:
    if not isinstance(node, Element) or node.tag != "li":
        return False
    display = look_of(node.attr("style") or "").display
    return display != "none" and (display is not None or not _unshown(node, "li"))


def _integer(text: str | None) -> int | None:
    found = re.match(r"[ \t\n\r\f]*([+-]?[0-9]{1,9})", text or "")
    return int(found.group(1)) if found else None


def _numbered(number: int, marker: str) -> str:
    """The marker of a list item: `3.`, `c.`, `iii.`, `-`, or nothing."""
    match marker:
        case "a" | "A" if number > 0:
            letters = ""
            while number:
                number, place = divmod(number - 1, 26)
                letters = chr(ord(marker) + place) + letters
            return f"{letters}."
        case "i" | "I" if 0 < number < 4000:
            numeral = ""
            for value, letters in ROMAN:
                count, number = divmod(number, value)
                numeral += letters * count
            return f"{numeral}." if marker == "i" else f"{numeral.upper()}."
        case "-" | "":
            return marker
        case _:
            return f"{number}."


ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
    (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


def _is_data(table: Element) -> bool:
    """Whether a table holds data: it has header cells beside others, and no table inside a cell.

    Some frameworks lay pages out with `<th>` alone, or with tables in their cells.
    """
    if (table.attr("role") or "").strip().lower() in ("presentation", "none") or table.find("th") is None:
        return False
    cells = [*_cells(table)]
    kinds = {cell.tag for cell in cells}
    return len(kinds) == 2 and not any(cell.find("table") for cell in cells)


def _cells(table: Element) -> Iterator[Element]:
    for part in table.children:
        if isinstance(part, Element) and part.tag in ("thead", "tbody", "tfoot"):
            for row in part.children:
                if isinstance(row, Element) and row.tag == "tr":
                    yield from (
                        cell
                        for cell in row.children
                        if isinstance(cell, Element) and cell.tag in ("td", "th")
                    )


def _target(href: str) -> str:
    """The address of a link as a URL parser takes it; nothing for one that leads to no place."""
    target = CONTROLS.sub("", href.replace("\t", "").replace("\n", "").replace("\r", "")).strip(" ")
    if target.startswith("#") or target.lower().startswith(("javascript:", "data:")):
        return ""
    return target.replace(" ", "%20") if target.lower().startswith(("http:", "https:")) else target


def _shown(target: str) -> str:
    """An address as a person writes it: without `mailto:` and the parameters of a letter."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme.lower() in ("mailto", "tel", "sms"):
        return rest.partition("?")[0] or target
    return target


def _same(label: str, target: str) -> bool:
    """Whether a label says the address already."""
    address = _shown(target)
    if label in (address, target):
        return True
    scheme = target.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return address in label or _bare(label) == _bare(address)
    if scheme in ("tel", "sms"):
        return NOT_DIGITS.sub("", label) == NOT_DIGITS.sub("", address)
    return label.casefold() == address.casefold()


NOT_DIGITS = re.compile(r"[^0-9]+")


def _bare(address: str) -> str:
    bare = address.casefold().removeprefix("https://").removeprefix("http://").removeprefix("www.")
    return bare.removesuffix("/")


def _tidy(line: str) -> str:
    """A line without invisible characters; several blank characters become one space, a single one stays."""
    if not (line.isascii() and line.isprintable()):
        line = LINE_SEPARATORS.sub(" ", CONTROLS.sub("", line))
        line = LOOSE_JOINERS.sub("", FILLERS.sub("", line))
        line = AROUND_CELLS.sub("\t", BLANKS.sub(" ", line))
        return EDGES.sub("", line).replace("\t", "  ")
    return line.strip(" ")


def _tidy_kept(line: str) -> str:
    """A line of preformatted text: its spaces stay, but for those at its end."""
    line = FILLERS.sub("", LINE_SEPARATORS.sub(" ", CONTROLS.sub("", line)))
    return EDGES.sub("", line) and line.replace("\t", "  ").rstrip(BLANK_CHARACTERS)


BLANK_CHARACTERS = "".join(map(chr, (*range(0x2000, 0x200B), 0x20, 0xA0, 0x1680, 0x202F, 0x205F, 0x2800)))

Begin = Callable[[_Writer, _OpenElement, Look], None]
End = Callable[[_Writer, _OpenElement], None]
BEGIN: dict[str, Begin] = {
    "a": _Writer._begin_link,  # noqa: SLF001  its own table
    "area": _Writer._area,  # noqa: SLF001
    "blockquote": _Writer._begin_quotation,  # noqa: SLF001
    "dd": _Writer._begin_definition,  # noqa: SLF001
    "dir": _Writer._begin_list,  # noqa: SLF001
    "img": _Writer._image,  # noqa: SLF001
    "hr": _Writer._rule,  # noqa: SLF001
    "li": _Writer._begin_item,  # noqa: SLF001
    "listing": _Writer._begin_pre,  # noqa: SLF001
    "menu": _Writer._begin_list,  # noqa: SLF001
    "ol": _Writer._begin_list,  # noqa: SLF001
    "pre": _Writer._begin_pre,  # noqa: SLF001
    "q": _Writer._begin_quote,  # noqa: SLF001
    "sub": _Writer._begin_script,  # noqa: SLF001
    "sup": _Writer._begin_script,  # noqa: SLF001
    "table": _Writer._begin_table,  # noqa: SLF001
    "td": _Writer._begin_cell,  # noqa: SLF001
    "th": _Writer._begin_cell,  # noqa: SLF001
    "tr": _Writer._begin_row,  # noqa: SLF001
    "ul": _Writer._begin_list,  # noqa: SLF001
}
END: dict[str, End] = {
    "a": _Writer._end_link,  # noqa: SLF001
    "q": _Writer._end_quote,  # noqa: SLF001
    "sub": _Writer._end_script,  # noqa: SLF001
    "sup": _Writer._end_script,  # noqa: SLF001
    "table": _Writer._end_table,  # noqa: SLF001
    "td": _Writer._end_cell,  # noqa: SLF001
    "th": _Writer._end_cell,  # noqa: SLF001
    "tr": _Writer._end_row,  # noqa: SLF001
}
