"""Lint a template: warnings about valid templates, with the position in the author's source.

Input: the languages of a template as they were written (`AuthoredPage`) and the letters of its samples as
they are delivered (`DeliveredLetter`). Output: problems of severity warning or info; each rule is one
function, and `rules` describes it. It never raises.

Most rules read the author's source in which Jinja constructs are blanked out in place, so that offsets stay
equal. They see every branch, also one that no sample takes, but not values that come from data. What only
data and inlined CSS decide (sizes, addresses from data, computed widths) is read from the delivered letters;
its position is searched in the source by the attributes of the element.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import turbohtml

from postroom.letter.catalog import RenderedLetter
from postroom.letter.language.pieces import Source, split
from postroom.letter.problems import Code, Position, Problem
from postroom.letter.validation.drafts import LocaleDraft
from postroom.letter.validation.rules import RULES

GMAIL_CLIP: Final = 102 * 1024
"""The bytes of a letter's HTML that Gmail shows."""
GMAIL_STYLES: Final = 16 * 1024
"""The characters of all `<style>` elements that Gmail reads."""
SUBJECT_SHOWN: Final = 78
KILOBYTE: Final = 1024
REMOVED: Final = ("script", "iframe", "object", "embed")
DATA_SCRIPTS: Final = ("application/ld+json", "application/json")
FONT_HOSTS: Final = (
    "use.typekit.net",
    "p.typekit.net",
    "use.edgefonts.net",
    "cloud.typography.com",
    "fast.fonts.net",
    "api.fontshare.com",
    "rsms.me",
)
"""Services whose style sheets hold only fonts. Hosts named `fonts.…` and addresses with the parameter
`family` count as such services too.
"""

DATA = "\ue000"
"""Replaces each character of `{{ … }}` in blanked source: a value that comes from the event."""
ONE_PIXEL = re.compile(r"[01](?:px)?\Z")
HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
WIDTH = re.compile(r"(?:^|;)\s*(?:max-)?width\s*:\s*(?!auto|none|initial|inherit)([^;]+)", re.IGNORECASE)
FULL_WIDTH = re.compile(r"100%|auto", re.IGNORECASE)
VARIABLE = re.compile(r"(?:^|;)\s*([a-z-]+)\s*:([^;]*var\(\s*--[^;]*)", re.IGNORECASE)
POSITIONED = re.compile(r"(?:^|;)\s*position\s*:\s*(absolute|fixed|sticky)", re.IGNORECASE)
BACKGROUND_IMAGE = re.compile(r"(?:^|;)\s*background(?:-image)?\s*:[^;]*url\(", re.IGNORECASE)
BACKGROUND_COLOR = re.compile(
    r"(?:^|;)\s*background-color\s*:|(?:^|;)\s*background\s*:[^;]*(?:#[0-9a-f]{3}|rgba?\(|hsla?\()"
    r"|(?:^|;)\s*background\s*:\s*[a-z]+\s*(?:url|;|$)",
    re.IGNORECASE,
)
VML = re.compile(r"<v:(?:fill|image|background|rect)", re.IGNORECASE)
NESTED_AT_RULE = re.compile(r"@[\w-]+[^{};]*\{(?:[^{}@]*\{[^{}]*\})*[^{}@]*(@[\w-]+)")
CSS_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
IGNORE = re.compile(r"\{#-?\s*postroom\s*:\s*ignore\s+([^#]*?)\s*-?#\}")
IGNORE_ANNOTATION = "postroom.dev/ignore"


@dataclass(frozen=True)
class AuthoredPage:
    """One language of a template as it was written: the assembled page with the positions of its parts."""

    draft: LocaleDraft
    sheets: tuple[tuple[str, str], ...] = ()
    """The style sheets beside the page: pairs of field and CSS."""

    @property
    def page(self) -> Source:
        """The page with its layout."""
        return self.draft.page

    @cached_property
    def blanked(self) -> str:
        """The page with its Jinja constructs blanked out; each character keeps its offset."""
        return blank(self.page.text)

    @cached_property
    def document(self) -> turbohtml.Document:
        """The blanked page, parsed."""
        return turbohtml.parse(self.blanked, source_locations=True)

    @cached_property
    def elements(self) -> dict[str, list[turbohtml.Element]]:
        """The elements that occur in the source, by name."""
        found: dict[str, list[turbohtml.Element]] = {}
        for element in self.document.iter_elements():
            if element.source_location is not None:
                found.setdefault(element.tag.lower(), []).append(element)
        return found

    def of(self, *tags: str) -> Iterator[turbohtml.Element]:
        """The elements with these names."""
        for tag in tags:
            yield from self.elements.get(tag, ())

    def counterpart(self, element: turbohtml.Element, before: int = -1) -> turbohtml.Element | None:
        """The element of the source from which an element of a letter was rendered, found by its attributes.

        Of several candidates the one with the fewest attributes from data, then the first after offset
        `before`.
        """
        alike = [each for each in self.of(element.tag.lower()) if _matches(each, element)]
        return min(alike, key=lambda each: (_openness(each), _start(each) <= before), default=None)


@dataclass(frozen=True)
class DeliveredLetter:
    """The letter of a sample as it is sent."""

    sample: str
    rendered: RenderedLetter

    @cached_property
    def document(self) -> turbohtml.Document:
        """The parsed page."""
        return turbohtml.parse(self.rendered.html)

    @cached_property
    def styles(self) -> list[str]:
        """The texts of the `<style>` elements."""
        return [element.text for element in self.document.iter_elements("style")]


def blank(source: str) -> str:
    """Replace each Jinja construct of a source by the same number of characters that are not HTML."""
    starts = [0, *(found.end() for found in re.finditer("\n", source))]
    written: list[str] = []
    end = 0
    for piece in split(source, "spec.html"):
        if not isinstance(piece.line, Position):
            continue
        start = starts[piece.line - 1] + piece.line.column - 1
        if piece.kind == "data" and not source.startswith(piece.text, start):
            continue  # line breaks of a comment
        written += [_blank_piece("comment", source[end:start]), _blank_piece(piece.kind, piece.text)]
        end = start + len(piece.text)
    return "".join([*written, _blank_piece("comment", source[end:])])


def _blank_piece(kind: str, text: str) -> str:
    if kind == "data":
        return text
    if kind == "raw":
        return re.sub(r"\{%.*?%\}", lambda tag: " " * len(tag.group()), text, flags=re.DOTALL)
    filler = DATA if kind == "variable" else " "
    return re.sub(r"[^\n]", filler, text)


def lint_template(
    drafts: Iterable[LocaleDraft],
    sheets: Iterable[tuple[str, str]],
    letters: Iterable[DeliveredLetter],
    category: str,
) -> Iterator[Problem]:
    """Apply all rules to each language's source and each sample's letter; `sheets` are (field, CSS)."""
    page_sheets = tuple(sheets)
    authored = {draft.tag: AuthoredPage(draft, page_sheets) for draft in drafts}
    for each in authored.values():
        for rule in SOURCE_RULES:
            yield from rule(each)
    for field, css in page_sheets:
        yield from _nested_in_sheet(field, css)
    for letter in letters:
        written = authored[letter.rendered.language]
        for of_letter in LETTER_RULES:
            yield from of_letter(written, letter)
        if category == "Subscription":
            yield from unsubscribe_not_shown(written, letter)


# --- rules on the author's source -----------------------------------------------------------------


def image_without_alt(authored: AuthoredPage) -> Iterator[Problem]:
    """An `<img>` without `alt`, except hidden images and tracking pixels."""
    for image in authored.of("img"):
        if image.attr("alt") is None and not _is_decoration(image):
            yield _at(Code.IMAGE_WITHOUT_ALT, authored, image, "this image has no alt text")


def image_is_svg(authored: AuthoredPage) -> Iterator[Problem]:
    """An `<img>` of an SVG file."""
    for image in authored.of("img"):
        address = (image.attr("src") or "").partition("?")[0].partition("#")[0]
        if address.strip().lower().endswith(".svg"):
            message = "Gmail and Outlook for Windows do not show SVG files"
            yield _at(Code.IMAGE_IS_SVG, authored, image, message, attribute="src")


def svg_not_shown(authored: AuthoredPage) -> Iterator[Problem]:
    """An `<svg>` drawing in the page; nested drawings are one finding."""
    for drawing in authored.of("svg"):
        if drawing.closest("svg svg") is None and not _is_hidden(drawing):
            message = "Gmail, Outlook and Yahoo remove `<svg>` drawings"
            yield _at(Code.SVG_NOT_SHOWN, authored, drawing, message)


def element_removed(authored: AuthoredPage) -> Iterator[Problem]:
    """An element that clients remove for safety."""
    for element in authored.of(*REMOVED):
        kind = (element.attr("type") or "").strip().lower()
        if element.tag.lower() != "script" or kind not in DATA_SCRIPTS:
            message = f"mail clients remove `<{element.tag.lower()}>`"
            yield _at(Code.ELEMENT_REMOVED, authored, element, message)


def form_unreliable(authored: AuthoredPage) -> Iterator[Problem]:
    """A `<form>`."""
    for form in authored.of("form"):
        yield _at(Code.FORM_UNRELIABLE, authored, form, "many mail clients show or send no `<form>`")


def video_without_fallback(authored: AuthoredPage) -> Iterator[Problem]:
    """A `<video>` or `<audio>` without content for clients that cannot play it."""
    for element in authored.of("video", "audio"):
        inside = [each for each in element.iter_elements() if each.tag.lower() not in ("source", "track")]
        if not inside and not element.text.strip():
            tag = element.tag.lower()
            message = f"most mail clients do not play `<{tag}>`, and nothing in it takes its place"
            yield _at(Code.VIDEO_WITHOUT_FALLBACK, authored, element, message)


def stylesheet_not_loaded(authored: AuthoredPage) -> Iterator[Problem]:
    """A linked style sheet, except those of font services."""
    for link in authored.of("link"):
        address = link.attr("href") or ""
        relations = (link.attr("rel") or "").lower().split()
        if "stylesheet" in relations and not _is_of_font_service(address):
            message = "this style sheet is not loaded, neither here nor by Gmail or Outlook"
            yield _at(Code.STYLESHEET_NOT_LOADED, authored, link, message)


def language_missing(authored: AuthoredPage) -> Iterator[Problem]:
    """A page whose `<html>` has no `lang`."""
    page = next(authored.of("html"), None)
    if page is None:
        return  # a page without <html> has no position for the finding
    if not (page.attr("lang") or "").strip():
        yield _at(Code.LANGUAGE_MISSING, authored, page, "`<html>` does not declare the letter's language")


def link_leads_nowhere(authored: AuthoredPage) -> Iterator[Problem]:
    """A link with an empty address, `#`, an anchor that is not there, or `javascript:`."""
    anchors = _anchors(authored)
    for link in authored.of("a", "area"):
        address = link.attr("href")
        if address is not None and (message := _leads_nowhere(address.strip(), anchors)):
            yield _at(Code.LINK_LEADS_NOWHERE, authored, link, message, attribute="href")


def link_insecure(authored: AuthoredPage) -> Iterator[Problem]:
    """An address with `http://`."""
    for name, tags in (("href", ("a", "area")), ("src", ("img",))):
        for element in authored.of(*tags):
            if (element.attr(name) or "").strip().lower().startswith("http://"):
                message = "this address uses http://, which others can read; most sites have https://"
                yield _at(Code.LINK_INSECURE, authored, element, message, attribute=name)


def style_nested_at_rule(authored: AuthoredPage) -> Iterator[Problem]:
    """A rule such as `@media` within another in a `<style>` element."""
    for style in authored.of("style"):
        location = style.source_location
        if location and location.start_tag and location.end_tag:
            css = authored.blanked[location.start_tag.end_offset : location.end_tag.start_offset]
            within = _nested(css)
            if within is None:
                continue
            start = location.start_tag.end_offset + within.start(1)
            message = f"Gmail ignores this whole `<style>`: {NESTED_MESSAGE.format(within.group(1))}"
            yield _place(Code.STYLE_NESTED_AT_RULE, authored, start, len(within.group(1)), message)


def _nested_in_sheet(field: str, css: str) -> Iterator[Problem]:
    if within := _nested(css):
        line, column = _line_and_column(css, within.start(1))
        message = f"Gmail ignores the whole style sheet: {NESTED_MESSAGE.format(within.group(1))}"
        code = Code.STYLE_NESTED_AT_RULE
        yield Problem(code, field, message, line, column, len(within.group(1)), RULES[code].severity)


NESTED_MESSAGE = "`{}` is nested in another rule"


def _nested(css: str) -> re.Match[str] | None:
    """The first at-rule within an at-rule."""
    return NESTED_AT_RULE.search(CSS_COMMENT.sub(lambda comment: " " * len(comment.group()), css))


# --- rules on the delivered letter ----------------------------------------------------------------


def letter_clipped(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """HTML that Gmail clips, with the share of style attributes."""
    size = len(letter.rendered.html.encode())
    if size <= GMAIL_CLIP:
        return
    written = len(authored.page.text.encode()) // KILOBYTE
    inline = sum(len(element.attr("style") or "") for element in letter.document.iter_elements())
    message = (
        f"sample `{letter.sample}`: the HTML is {size // KILOBYTE} KB once its CSS is inlined, of which "
        f"style attributes are {inline // KILOBYTE} KB (the template with its layout: {written} KB); "
        "Gmail shows the first 102 KB"
    )
    yield _of_field(Code.LETTER_CLIPPED, authored.draft.html.field, message)


def styles_too_large(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """More CSS in `<style>` elements than Gmail reads."""
    size = sum(map(len, letter.styles))
    if size > GMAIL_STYLES:
        message = f"the letter's `<style>` elements hold {size // KILOBYTE} KB; Gmail reads the first 16 KB"
        yield _of_field(Code.STYLES_TOO_LARGE, authored.draft.html.field, message)


def style_in_body(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """CSS that could not be inlined in the body, where Gmail and Outlook do not read it."""
    for element in letter.document.select("body style"):
        if element.text.strip():
            message = "Gmail and Outlook for Windows ignore a `<style>` in the body"
            yield _near(Code.STYLE_IN_BODY, authored, element, message)


def subject_long(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """A subject that clients truncate."""
    length = len(letter.rendered.subject)
    if length > SUBJECT_SHOWN:
        message = (
            f"sample `{letter.sample}`: the subject has {length} characters; clients show {SUBJECT_SHOWN}"
        )
        yield _of_field(Code.SUBJECT_LONG, authored.draft.subjects[0][0].field, message)


def address_from_data(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """A link whose address comes from data and is empty, a placeholder or `http://` in this sample."""
    addresses = (link.attr("href") for link in letter.document.iter_elements(("a", "area")))
    if not any(address is not None and _is_suspect(address.strip()) for address in addresses):
        return
    before = -1
    for link in letter.document.iter_elements(("a", "area")):
        address = link.attr("href")
        written = authored.counterpart(link, before) if address is not None else None
        if address is None or written is None or written.source_location is None:
            continue
        before = written.source_location.start_tag.start_offset
        if DATA not in (written.attr("href") or ""):
            continue
        if message := _leads_nowhere(address.strip(), None):
            of_sample = f"sample `{letter.sample}`: {message}"
            yield _at(Code.LINK_LEADS_NOWHERE, authored, written, of_sample, attribute="href")
        elif address.strip().lower().startswith("http://"):
            message = f"sample `{letter.sample}`: this address uses http://, which others can read"
            yield _at(Code.LINK_INSECURE, authored, written, message, attribute="href")


def image_without_width(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """An image whose width only CSS sets, which Outlook for Windows ignores."""
    for image in letter.document.iter_elements("img"):
        width = WIDTH.search(image.attr("style") or "")
        if image.attr("width") is None and width and not FULL_WIDTH.match(width.group(1).strip()):
            message = "Outlook for Windows ignores the CSS width of this image; it has no `width` attribute"
            yield _near(Code.IMAGE_WITHOUT_WIDTH, authored, image, message)


def css_variable_unsupported(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """`var(--…)` without a plain value before it."""
    seen = set()
    for element in letter.document.iter_elements():
        style = element.attr("style") or ""
        if "var(" not in style:
            continue
        for found in VARIABLE.finditer(style):
            name = found.group(1)
            before = re.search(rf"(?:^|;)\s*{name}\s*:", style[: found.start()])
            if name.startswith("--") or before or name in seen:
                continue
            seen.add(name)  # one finding for each property: a rule of a style sheet applies to many elements
            value = found.group(2).strip()
            message = f"Gmail and Outlook ignore `{name}: {value[:60]}`; write a plain value before it"
            pattern = re.compile(rf"(?<![\w-]){name}\s*:\s*{re.escape(value)}", re.IGNORECASE)
            yield _of_css(Code.CSS_VARIABLE_UNSUPPORTED, authored, pattern, element, message)


def position_unsupported(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """`position: absolute`, `fixed` or `sticky`; one finding a letter."""
    for element in letter.document.iter_elements():
        if found := POSITIONED.search(element.attr("style") or ""):
            message = f"Gmail and Outlook ignore `position: {found.group(1).lower()}`"
            yield _near(Code.POSITION_UNSUPPORTED, authored, element, message)
            return


def background_without_fallback(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """A background image without a colour under it, in a page without VML."""
    if VML.search(letter.rendered.html):
        return
    for element in letter.document.iter_elements():
        style = element.attr("style") or ""
        has_image = BACKGROUND_IMAGE.search(style) or element.attr("background")
        if has_image and not (BACKGROUND_COLOR.search(style) or element.attr("bgcolor")):
            message = (
                "Outlook for Windows does not show this background image, and there is no colour under it"
            )
            yield _near(Code.BACKGROUND_WITHOUT_FALLBACK, authored, element, message)


def unsubscribe_not_shown(authored: AuthoredPage, letter: DeliveredLetter) -> Iterator[Problem]:
    """A letter of a subscription without a link to unsubscribe."""
    wanted = letter.rendered.unsubscribe
    links = letter.document.iter_elements(("a", "area"))
    if not any((link.attr("href") or "").strip() == wanted for link in links):
        message = "a letter of a subscription shows a link to unsubscribe: `{{ letter.unsubscribe_url }}`"
        yield _of_field(Code.UNSUBSCRIBE_NOT_SHOWN, authored.draft.html.field, message)


SourceRule = Callable[[AuthoredPage], Iterator[Problem]]
LetterRule = Callable[[AuthoredPage, DeliveredLetter], Iterator[Problem]]

SOURCE_RULES: tuple[SourceRule, ...] = (
    image_without_alt,
    image_is_svg,
    svg_not_shown,
    element_removed,
    form_unreliable,
    video_without_fallback,
    stylesheet_not_loaded,
    language_missing,
    link_leads_nowhere,
    link_insecure,
    style_nested_at_rule,
)
LETTER_RULES: tuple[LetterRule, ...] = (
    letter_clipped,
    styles_too_large,
    style_in_body,
    subject_long,
    address_from_data,
    image_without_width,
    css_variable_unsupported,
    position_unsupported,
    background_without_fallback,
)


# --- helpers of the rules ---------------------------------------------------------------------------


def _is_decoration(image: turbohtml.Element) -> bool:
    """Whether an image is a tracking pixel, hidden, or marked as decoration."""
    sizes = [image.attr("width") or "", image.attr("height") or ""]
    if all(ONE_PIXEL.match(size.strip()) for size in sizes):
        return True
    marked = image.attr("aria-hidden") == "true" or image.attr("role") in ("presentation", "none")
    return marked or _is_hidden(image)


def _is_hidden(element: turbohtml.Element) -> bool:
    around = [element, *(each for each in element.ancestors if isinstance(each, turbohtml.Element))]
    return any(HIDDEN.search(each.attr("style") or "") or each.attr("hidden") is not None for each in around)


def _is_of_font_service(address: str) -> bool:
    found = re.match(r"\s*(?:https?:)?//([^/?#]+)([^#]*)", address, re.IGNORECASE)
    if found is None:
        return False
    host = found.group(1).lower()
    return (
        host in FONT_HOSTS
        or host.startswith("fonts.")
        or re.search(r"[?&;]family=", found.group(2)) is not None
    )


def _anchors(authored: AuthoredPage) -> frozenset[str] | None:
    """The anchors of the page; None if they come from data."""
    names = {element.attr(name) for element in authored.document.iter_elements() for name in ("id", "name")}
    if any(name and DATA in name for name in names):
        return None
    return frozenset(name for name in names if name)


def _leads_nowhere(address: str, anchors: frozenset[str] | None) -> str:
    """Why an address leads nowhere, else an empty text. With `anchors` None, anchors are not checked."""
    if not address:
        return "this link has no address"
    if address == "#":
        return "this link leads nowhere: `#` is a placeholder"
    if address.lower().startswith("javascript:"):
        return "mail clients remove `javascript:` addresses"
    if address[0] == "#" and anchors is not None and DATA not in address and address[1:] not in anchors:
        return f"there is no anchor `{address[1:]}` in this page" if address != "#top" else ""
    return ""


def _is_suspect(address: str) -> bool:
    return not address or address[0] == "#" or address.lower().startswith(("http://", "javascript:"))


def _matches(written: turbohtml.Element, sent: turbohtml.Element) -> bool:
    """Whether an element of a letter can have been rendered from an element of the source."""
    for name in written.attrs:
        if name in ("style", "class"):
            continue
        pattern = written.attr(name) or ""
        value = sent.attr(name)
        if DATA not in pattern:
            if value is not None and value.strip() != pattern.strip():
                return False
        elif value is not None and not re.fullmatch(_as_pattern(pattern), value, re.DOTALL):
            return False
    return all(name == "style" or written.attr(name) is not None for name in sent.attrs)


def _start(written: turbohtml.Element) -> int:
    return written.source_location.start_tag.start_offset if written.source_location else 0


def _openness(written: turbohtml.Element) -> int:
    """The number of an element's attributes whose values come from data."""
    return sum(DATA in (written.attr(name) or "") for name in written.attrs)


def _as_pattern(blanked: str) -> str:
    return re.sub(f"{DATA}+", ".*", re.sub(rf"[^{DATA}]+", lambda text: re.escape(text.group()), blanked))


# --- problems -------------------------------------------------------------------------------------


def _at(
    code: Code, authored: AuthoredPage, element: turbohtml.Element, message: str, *, attribute: str = ""
) -> Problem:
    """A problem at an element's start tag, or at one of its attributes."""
    location = element.source_location
    assert location is not None, "it was read from the source"
    span = location.attrs.get(attribute, location.start_tag) if location.attrs else location.start_tag
    return _place(code, authored, span.start_offset, span.end_offset - span.start_offset, message)


def _of_css(
    code: Code, authored: AuthoredPage, pattern: re.Pattern[str], element: turbohtml.Element, message: str
) -> Problem:
    """A problem of a CSS declaration, at its position in a style sheet or the page, else at its element."""
    for field, css in authored.sheets:
        if found := pattern.search(css):
            line, column = _line_and_column(css, found.start())
            length = len(found.group().partition("\n")[0])
            return Problem(code, field, message, line, column, length, RULES[code].severity)
    if found := pattern.search(authored.page.text):
        return _place(code, authored, found.start(), found.end() - found.start(), message)
    return _near(code, authored, element, message)


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _near(code: Code, authored: AuthoredPage, element: turbohtml.Element, message: str) -> Problem:
    """A problem of an element of a letter, at its counterpart in the source."""
    written = authored.counterpart(element)
    if written is None:
        return _of_field(code, authored.draft.html.field, message)
    return _at(code, authored, written, message)


def _place(code: Code, authored: AuthoredPage, start: int, length: int, message: str) -> Problem:
    field, line, column = authored.page.place_of(start)
    first = authored.page.text[start : start + length].partition("\n")[0]
    return Problem(code, field, message, line, column, len(first), RULES[code].severity)


def _of_field(code: Code, field: str, message: str) -> Problem:
    return Problem(code, field, message, severity=RULES[code].severity)


# --- ignored rules -------------------------------------------------------------------------------


def apply_ignores(
    problems: Iterable[Problem], fields: Mapping[str, str], annotations: Mapping[str, str]
) -> Iterator[Problem]:
    """Remove the problems that the author ignores, and add one for each ignore request with an unknown name.

    `fields` are the sources by field. A comment `{# postroom: ignore RULE #}` applies to its own line and the
    next, and to problems without a line. `annotations` apply to all fields that begin with their key.
    """
    by_prefix = {prefix: _named(text) for prefix, text in annotations.items()}
    by_line: dict[tuple[str, int | None], set[str]] = {}
    for field, text in fields.items():
        for found in IGNORE.finditer(text):
            line = text.count("\n", 0, found.end()) + 1
            names = _named(found.group(1))
            for place in (line, line + 1, None):
                by_line.setdefault((field, place), set()).update(names)
            for name in sorted(names - LINT_NAMES):
                at, column = _line_and_column(text, text.index(name, found.start(1)))
                yield _invalid(name, field, at, column)
    for name in sorted(by_prefix.get("spec", set()) - LINT_NAMES):
        yield _invalid(name, f"metadata.annotations.{IGNORE_ANNOTATION}")
    for problem in problems:
        ignored = by_line.get((problem.field, problem.line), set())
        prefixes = (names for prefix, names in by_prefix.items() if problem.field.startswith(prefix))
        if str(problem.code) not in ignored.union(*prefixes):
            yield problem


LINT_NAMES = frozenset(str(rule.code) for rule in RULES.values() if rule.is_lint)


def _named(text: str) -> set[str]:
    return set(re.split(r"[\s,]+", text.strip())) - {""}


def _invalid(name: str, field: str, line: int | None = None, column: int | None = None) -> Problem:
    kind = "is an error, and errors cannot be ignored" if name in RULES else "is not a rule"
    severity = RULES[Code.IGNORE_INVALID].severity
    return Problem(Code.IGNORE_INVALID, field, f"`{name}` {kind}", line, column, len(name), severity)
