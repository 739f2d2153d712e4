"""Template source as HTML: where each Jinja construct stands, and whether every event gives the same page.

`TemplateSource` parses source whose constructs are covered by text of the same length, so that every
offset of the parsed copy is one of the source. `find_dynamic` then decides whether CSS may be
inlined on the source: only if, for all data, each element is matched by the same selectors. That holds
when the constructs change neither the nesting of elements nor an attribute or a neighbour that a
selector reads. Otherwise it raises CannotInline with the reason, and the page is inlined for each letter.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from turbohtml import Element, Namespace

from postroom.letter.html.inline import DEFAULT_OPTIONS, DynamicPlaces, InlineOptions, Inliner
from postroom.letter.html.markup import VOID, Markup
from postroom.letter.html.selectors import Kind, Selector
from postroom.letter.html.stylesheet import CannotInline
from postroom.letter.language.pieces import Piece, split

Context = Literal["text", "value", "tag", "comment", "raw"]

RAW_TEXT = frozenset(
    "style script title textarea xmp iframe noembed noframes plaintext".split()  # noqa: SIM905  a table
)
NO_TEXT = frozenset(
    "html head table tbody thead tfoot tr colgroup select frameset".split()  # noqa: SIM905  a table
)
"""Elements in which the parser moves text elsewhere, or ends the head for it."""
MAY_BE_IMPLIED = frozenset(("html", "head", "body", "tbody", "colgroup", "tr"))
OPENERS = frozenset(("if", "for", "with", "filter", "call", "macro", "block"))
MIDDLES = frozenset(("elif", "else"))
UNSURE: tuple[Kind, ...] = ("structural", "state", "element")
"""Parts of a selector whose match may change though its element stays the same."""
RENDERED_ELSEWHERE = frozenset(("macro", "call", "filter"))
ENDS_ELSEWHERE = frozenset(("endmacro", "endcall", "endfilter", "endset"))
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<[!?][^>]*(?:>|\Z)|</[^a-zA-Z][^>]*(?:>|\Z)", re.DOTALL)
RAW_BLOCK = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}|\{%[-+]?\s*endraw\s*[-+]?%\}")
LITERALS = re.compile(r"""\{\{\s*(['"])([\w -]*)\1\s+if\s+[^'"{}]+?(?:\s+else\s+(['"])([\w -]*)\3)?\s*\}\}""")
"""`{{ "a" if x else "b" }}`."""
MAX_VALUES = 64
LINE_BREAKS = re.compile(r"\|\s*nl2br\b")


@dataclass(frozen=True)
class Construct:
    """A Jinja construct and the place it stands in."""

    piece: Piece
    start: int
    context: Context
    element: Element | None
    """The element around it, or the one whose tag it stands in."""
    attribute: str = ""
    number: int = 0
    """Of the comment or end tag that it stands in."""

    @property
    def place(self) -> tuple[object, ...]:
        """Equal for constructs that stand in the same text, value or comment."""
        return self.context, self.element, self.attribute, self.number


class TemplateSource:
    """Template source, parsed as the page that it is before anything is filled in."""

    def __init__(self, source: str, field: str = "spec.html") -> None:
        """Parse. Raises Rejected (template_syntax, too_deep)."""
        self.pieces = split(source, field)
        self.text = "".join(piece.text for piece in self.pieces)
        self.markup = Markup("".join(map(_covered, self.pieces)))

    @cached_property
    def constructs(self) -> list[Construct]:
        """All Jinja constructs, in order."""
        out = []
        position = 0
        for piece in self.pieces:
            if piece.kind not in ("data", "raw"):
                out.append(self._construct(piece, position))
            position += len(piece.text)
        return out

    def _construct(self, piece: Piece, start: int) -> Construct:
        element = self._element_at(start)
        if element is None:
            return self._in_text(piece, start, None)
        location = element.source_location
        assert location is not None
        assert location.start_tag is not None
        if start < location.start_tag.end_offset:
            for name in self.markup.attribute_names(element):
                attribute = self.markup.attribute(element, name)
                if attribute and attribute.quote and attribute.value_start <= start < attribute.value_end:
                    return Construct(piece, start, "value", element, name)
            return Construct(piece, start, "tag", element)
        if element.tag in RAW_TEXT:
            return Construct(piece, start, "raw", element)
        return self._in_text(piece, start, element)

    def _in_text(self, piece: Piece, start: int, element: Element | None) -> Construct:
        opened = self.markup.source.rfind("<", 0, start)
        if self.markup.source.startswith("</", opened) and ">" not in self.markup.source[opened:start]:
            return Construct(piece, start, "tag", element)
        number = bisect_right(self._comment_starts, start) - 1
        if number >= 0 and start < self._comments[number][1]:
            return Construct(piece, start, "comment", element, number=number)
        return Construct(piece, start, "text", element)

    @cached_property
    def _comments(self) -> list[tuple[int, int]]:
        """Where comments are, and what a parser takes for one, outside of tags and raw text."""
        out = []
        position = 0
        while found := COMMENT.search(self.markup.source, position):
            element = self._element_at(found.start())
            end = self._raw_end(element, found.start()) if element is not None else None
            if end is None:
                out.append(found.span())
            position = max(end or found.end(), found.start() + 1)
        return out

    def _raw_end(self, element: Element, start: int) -> int | None:
        """The end of the tag or raw text that an offset stands in, if it stands in one."""
        location = element.source_location
        assert location is not None
        assert location.start_tag is not None
        if start < location.start_tag.end_offset:
            return location.start_tag.end_offset
        return self._content_end(element) if element.tag in RAW_TEXT else None

    @cached_property
    def _comment_starts(self) -> list[int]:
        return [start for start, _ in self._comments]

    @cached_property
    def _written(self) -> list[Element]:
        """The elements with a start tag, in the order of the source."""
        written = [each for each in self.markup.elements if self.markup.is_written(each)]
        return sorted(written, key=self._start)

    @staticmethod
    def _start(element: Element) -> int:
        location = element.source_location
        assert location is not None
        assert location.start_tag is not None
        return location.start_tag.start_offset

    @cached_property
    def _starts(self) -> list[int]:
        return [self._start(each) for each in self._written]

    def _content_end(self, element: Element) -> int:
        location = element.source_location
        assert location is not None
        assert location.start_tag is not None
        if location.end_tag is not None:
            return location.end_tag.start_offset
        if element.tag in VOID:
            return location.start_tag.end_offset
        parent = self.written_parent(element)
        return len(self.text) if parent is None else self._content_end(parent)

    def _element_at(self, offset: int) -> Element | None:
        """The innermost element whose tag or content an offset stands in."""
        index = bisect_right(self._starts, offset) - 1
        element: Element | None = self._written[index] if index >= 0 else None
        while element is not None and offset >= self._content_end(element):
            location = element.source_location
            if location and location.start_tag and offset < location.start_tag.end_offset:
                break
            element = self.written_parent(element)
        return element

    def written_parent(self, element: Element) -> Element | None:
        """The nearest element around it that has a tag of its own."""
        return next((each for each in self.markup.ancestors(element) if self.markup.is_written(each)), None)

    @property
    def unquoted(self) -> Iterator[Piece]:
        """Values that stand in a tag without quotes: a space in one would begin another attribute."""
        for construct in self.constructs:
            if construct.context == "tag" and construct.piece.kind == "variable":
                yield construct.piece


@lru_cache(maxsize=8)
def template_source(source: str) -> TemplateSource:
    """The parsed source, kept for a while: validation reads a page several times. Raises as the class."""
    return TemplateSource(source)


def _covered(piece: Piece) -> str:
    """Text of the same length that says nothing: words for values, spaces for blocks."""
    if piece.kind == "data":
        return piece.text
    if piece.kind == "raw":
        return RAW_BLOCK.sub(lambda found: " " * len(found.group()), piece.text)
    literals = LITERALS.fullmatch(piece.text)
    apart = literals is not None and any(text != text.strip() for text in literals.group(2, 4) if text)
    sign = "x" if piece.kind == "variable" and not apart else " "
    return "".join("\n" if each == "\n" else sign for each in piece.text)


@dataclass(frozen=True, slots=True)
class InlinedSource:
    """Template source with its CSS on the elements."""

    text: str
    beaten_hooks: tuple[str, ...] = ()
    """Selectors of client hooks that an inline declaration beats, though they beat it in the source."""


def inline_source(source: str, css: str, options: InlineOptions = DEFAULT_OPTIONS) -> str:
    """Inline template source. Raises CannotInline, or Rejected (template_syntax, too_deep)."""
    return inlined(source, css, options).text


def inlined(source: str, css: str, options: InlineOptions = DEFAULT_OPTIONS) -> InlinedSource:
    """Inline template source, and what could not be kept. Raises as `inline_source` does."""
    if not css.strip() and "<style" not in source.lower():
        return InlinedSource(source)
    template = template_source(source)
    inliner = Inliner(template.markup, css, find_places(template), options)
    find_dynamic(template, [candidate.selector for candidate in inliner.candidates])
    return InlinedSource(inliner.write(template.text), tuple(dict.fromkeys(inliner.beaten_hooks())))


# --- what data may change ------------------------------------------------------------------------


def find_places(template: TemplateSource) -> DynamicPlaces:
    """The elements whose tags hold constructs."""
    tags = {each.element for each in template.constructs if each.context == "tag" and each.element}
    return DynamicPlaces(
        style=frozenset(
            each.element
            for each in template.constructs
            if each.element and each.context == "value" and each.attribute == "style"
        ),
        conditional_style=frozenset(
            each for each in tags if "style" in template.markup.attribute_names(each)
        ),
        tags=frozenset(tags),
    )


def find_dynamic(template: TemplateSource, selectors: Iterable[Selector]) -> None:
    """Raise CannotInline unless every event leaves each element to the same selectors."""
    if not template.constructs:
        return
    chosen = list(dict.fromkeys(selectors))
    _check_rendered_elsewhere(template)
    for construct in template.constructs:
        _check_construct(construct)
    _check_groups(template)
    _check_nesting(template)
    _check_attributes(template, chosen)
    _check_neighbours(template, chosen)


def _shown(construct: Construct) -> str:
    text = " ".join(construct.piece.text.split())
    return f"`{text[:60]}`"


def _check_rendered_elsewhere(template: TemplateSource) -> None:
    """Macros and blocks that are set or filtered must hold no tags: their text appears at another place."""
    depth = 0
    for piece in template.pieces:
        word = piece.words[0] if piece.kind == "block" and piece.words else ""
        if word in RENDERED_ELSEWHERE or (word == "set" and "=" not in piece.text):
            depth += 1
        elif word in ENDS_ELSEWHERE:
            depth -= 1
        elif depth and piece.kind in ("data", "raw") and "<" in piece.text:
            raise CannotInline(
                "a macro, or a block that is set or filtered, holds HTML that appears elsewhere"
            )


def _check_construct(construct: Construct) -> None:
    piece, element = construct.piece, construct.element
    if construct.context == "raw" and element is not None and element.tag == "style":
        raise CannotInline(f"{_shown(construct)} stands in a `<style>`, so that the CSS depends on the event")
    if construct.context == "tag" and piece.kind == "variable":
        raise CannotInline(f"{_shown(construct)} may bring attributes")
    if construct.context == "text" and piece.kind == "variable":
        tag = element.tag if element is not None else ""
        if tag in NO_TEXT:
            raise CannotInline(f"{_shown(construct)} stands between the parts of a <{tag}>")


def _check_groups(template: TemplateSource) -> None:
    """Each `{% if %}` must begin and end in the same place, or the page has another shape in each branch."""
    open_groups: list[Construct] = []
    sheets = [style.start for style in template.markup.styles]
    for construct in template.constructs:
        if construct.piece.kind != "block" or not construct.piece.words:
            continue
        word = construct.piece.words[0]
        if word in OPENERS:
            open_groups.append(construct)
        elif (word in MIDDLES or word.startswith("end")) and open_groups:
            if construct.place != open_groups[-1].place:
                raise CannotInline(
                    f"{_shown(open_groups[-1])} begins and ends in different elements, so that the page has"
                    " another shape in each branch"
                )
            if any(open_groups[-1].start < start < construct.start for start in sheets):
                raise CannotInline(f"a `<style>` is there only for some events, by {_shown(open_groups[-1])}")
            if word.startswith("end"):
                open_groups.pop()


def _check_nesting(template: TemplateSource) -> None:
    """The parser must nest the elements as the tags do, whichever branches are there."""
    markup = template.markup
    in_text = [each for each in template.constructs if each.context == "text"]
    if not in_text:
        return
    branches = any(each.piece.kind == "block" for each in in_text)
    for element in markup.elements:
        location = element.source_location
        if location is None or location.start_tag is None:
            if element.tag not in MAY_BE_IMPLIED:
                raise CannotInline(f"a <{element.tag}> is not closed where it was opened")
            continue
        if not branches or element.tag in VOID:
            continue
        parent = template.written_parent(element)
        around = parent.source_location if parent is not None else None
        if location.end_tag is None and element.tag not in ("html", "body"):
            if element.namespace is Namespace.HTML:
                raise CannotInline(f"a <{element.tag}> has no end tag, so that a branch could end it")
        elif around and around.start_tag and around.end_tag and location.end_tag:
            inside = (
                around.start_tag.end_offset <= location.start_tag.start_offset
                and location.end_tag.end_offset <= around.end_tag.start_offset
            )
            if not inside:
                raise CannotInline(f"a <{element.tag}> is moved out of the <{parent.tag if parent else ''}>")


def _check_attributes(template: TemplateSource, selectors: list[Selector]) -> None:
    """No selector may read an attribute that data decide."""
    dynamic: dict[tuple[Element, str], Construct] = {}
    for construct in template.constructs:
        if construct.element is None or construct.context not in ("value", "tag"):
            continue
        names = (
            [construct.attribute]
            if construct.context == "value"
            else template.markup.attribute_names(construct.element)
        )
        for name in names:
            dynamic.setdefault((construct.element, name), construct)
    for (element, name), construct in dynamic.items():
        unsure = None
        if name == "class" and construct.context == "value":
            unsure = _unsure_classes(template, element)
        for selector in selectors:
            if name not in selector.attributes or (unsure is not None and not _names(selector, unsure)):
                continue
            if _may_read(selector, element, name, template.markup):
                raise CannotInline(
                    f"`{name}` depends on the event at {_shown(construct)}, and the selector"
                    f" `{selector.text}` reads it"
                )


def _unsure_classes(template: TemplateSource, element: Element) -> set[str] | None:
    """Classes that the element may lack here or for some events, in lower case; None where data bring any."""
    attribute = template.markup.attribute(element, "class")
    assert attribute is not None
    here = [each for each in template.constructs if attribute.value_start <= each.start < attribute.value_end]
    parts: list[str | Piece] = []
    position = attribute.value_start
    for construct in here:
        parts += (template.text[position : construct.start], construct.piece)
        position = construct.start + len(construct.piece.text)
    parts.append(template.text[position : attribute.value_end])
    values = _values(parts)
    if values is None:
        return None
    sure = frozenset[str].intersection(*(frozenset(value.lower().split()) for value in values))
    possible = {word for value in values for word in value.lower().split()}
    parsed = frozenset((element.attr("class") or "").lower().split())
    return (possible | parsed) - (sure & parsed)


def _values(parts: list[str | Piece]) -> set[str] | None:
    """All texts that parts of a value can make, where only branches and literals decide; takes the parts."""
    made, branches, has_else = {""}, set[str](), False
    while parts:
        part = parts.pop(0)
        if isinstance(part, str):
            found: set[str] | None = {part}
        elif part.kind == "variable":
            literals = LITERALS.fullmatch(part.text)
            found = {literals.group(2), literals.group(4) or ""} if literals else None
        elif part.text[2] in "-+" or part.text[-3] in "-+":
            found = None  # it takes white space away
        elif part.opens("if"):
            found = _values(parts)
        elif part.words[:1] in (("elif",), ("else",)):
            branches, made, has_else = branches | made, {""}, has_else or part.words[0] == "else"
            continue
        elif part.words[:1] == ("endif",):
            return branches | made | (set() if has_else else {""})
        else:
            found = None
        if found is None or len(made) * len(found) > MAX_VALUES:
            return None
        made = {before + after for before in made for after in found}
    return made


def _names(selector: Selector, classes: set[str]) -> bool:
    """Whether a selector reads one of some classes, or the whole attribute."""
    return any(
        simple.name.lower() in classes
        if simple.kind == "class"
        else simple.kind == "attribute" or any(each in simple.text.lower() for each in classes)
        for simple in selector.simples
        if "class" in simple.attributes
    )


def _may_read(selector: Selector, element: Element, name: str, markup: Markup) -> bool:
    return any(
        name in simple.attributes and element in markup.select(compound.without_attribute(name))
        for compound in selector.compounds
        for simple in compound.simples
    )


def _check_neighbours(template: TemplateSource, selectors: list[Selector]) -> None:
    """No selector may count neighbours among which data decide."""
    markup = template.markup
    changing = {
        each.element
        for each in template.constructs
        if each.context == "text" and (each.piece.kind == "block" or LINE_BREAKS.search(each.piece.text))
    }
    breaks = any(LINE_BREAKS.search(each.piece.text) for each in template.constructs)
    filled = {each.element for each in template.constructs if each.context == "text"}
    for selector in selectors:
        if not all(markup.select(compound.text(UNSURE)) for compound in selector.compounds):
            continue  # no element can ever match it
        if changing and ":has(" in selector.text.lower():
            raise CannotInline(f"`{selector.text}` depends on what an event brings into an element")
        for compound in selector.neighbour_compounds():
            for element in markup.select(compound):
                if template.written_parent(element) in changing:
                    raise CannotInline(f"`{selector.text}` depends on which elements an event brings")
                if ":empty" in selector.text.lower() and element in filled:
                    raise CannotInline(f"`{selector.text}` depends on whether an event brings any text")
        if breaks and _may_match_a_line_break(selector):
            raise CannotInline(f"`{selector.text}` may match the line breaks of `nl2br`")


def _may_match_a_line_break(selector: Selector) -> bool:
    return not any(
        simple.kind in ("class", "id", "attribute") or (simple.kind == "type" and simple.name != "br")
        for simple in selector.subject.simples
    )
