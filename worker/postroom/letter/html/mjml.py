"""MJML's components: which stand where, and which attributes each has (MJML 4, documentation.mjml.io).

The compiler leaves out what it does not know without a word, so a template is checked against these tables
first.

MJML → HTML, with the template language riding through.

`compile_mjml` takes assembled MJML source (the layout is filled and partials are in their places) and gives
assembled HTML source whose lines still say where they were written. The compiler, mjml-python (the Rust
library mrml), gets a copy in which placeholders stand for Jinja constructs, for the content of text
components and for addresses; afterwards each placeholder becomes what it stood for, character by character.
So the content is never parsed or rewritten, and the result is Jinja source as the author wrote it.

Between components `{% if %}`, `{% for %}` and `{% set %}` may stand by themselves or in `mj-raw`. What the
compiler would leave out without a word (an unknown component or attribute, text outside of a component) is
refused, as are `mj-include`, which reads files, and a `{{ value }}` in an attribute that MJML computes with.
Failure: `Rejected` with a problem for each, at field and line.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from postroom.letter.language.pieces import Piece, Source, split
from postroom.letter.problems import Code, Problem, Rejected, did_you_mean

CHILDREN: dict[str, frozenset[str]] = {
    "mjml": frozenset(
        (
            "mj-head",
            "mj-body",
        )
    ),
    "mj-head": frozenset(
        (
            "mj-attributes",
            "mj-breakpoint",
            "mj-font",
            "mj-preview",
            "mj-raw",
            "mj-style",
            "mj-title",
        )
    ),
    "mj-body": frozenset(
        (
            "mj-hero",
            "mj-raw",
            "mj-section",
            "mj-wrapper",
        )
    ),
    "mj-wrapper": frozenset(
        (
            "mj-hero",
            "mj-raw",
            "mj-section",
        )
    ),
    "mj-section": frozenset(
        (
            "mj-column",
            "mj-group",
            "mj-raw",
        )
    ),
    "mj-group": frozenset(
        (
            "mj-column",
            "mj-raw",
        )
    ),
    "mj-column": frozenset(
        (
            "mj-accordion",
            "mj-button",
            "mj-carousel",
            "mj-divider",
            "mj-image",
            "mj-navbar",
            "mj-raw",
            "mj-social",
            "mj-spacer",
            "mj-table",
            "mj-text",
        )
    ),
    "mj-hero": frozenset(
        (
            "mj-accordion",
            "mj-button",
            "mj-carousel",
            "mj-divider",
            "mj-image",
            "mj-navbar",
            "mj-raw",
            "mj-social",
            "mj-spacer",
            "mj-table",
            "mj-text",
        )
    ),
    "mj-social": frozenset(
        (
            "mj-raw",
            "mj-social-element",
        )
    ),
    "mj-navbar": frozenset(
        (
            "mj-navbar-link",
            "mj-raw",
        )
    ),
    "mj-accordion": frozenset(("mj-accordion-element",)),
    "mj-accordion-element": frozenset(
        (
            "mj-accordion-title",
            "mj-accordion-text",
        )
    ),
    "mj-carousel": frozenset(("mj-carousel-image",)),
}
"""The components that may stand in each one. What is not a key here and not in `CONTENT` is empty."""

CONTENT = frozenset(
    (
        "mj-accordion-text",
        "mj-accordion-title",
        "mj-button",
        "mj-navbar-link",
        "mj-preview",
        "mj-raw",
        "mj-social-element",
        "mj-style",
        "mj-table",
        "mj-text",
        "mj-title",
    )
)
"""Components whose content is HTML or text, which is taken as it is."""

_TABLE = """
mj-body: background-color width
mj-head:
mj-attributes:
mj-breakpoint: width
mj-font: href name
mj-preview:
mj-style: inline
mj-title:
mj-hero: background-color background-height background-position background-url background-width
  border-radius container-background-color height inner-background-color inner-padding
  inner-padding-bottom inner-padding-left inner-padding-right inner-padding-top mode padding
  padding-bottom padding-left padding-right padding-top vertical-align
mj-button: align background-color border border-bottom border-left border-radius border-right
  border-top color container-background-color font-family font-size font-style font-weight height
  href inner-padding letter-spacing line-height name padding padding-bottom padding-left
  padding-right padding-top rel target text-align text-decoration text-transform title
  vertical-align width
mj-column: background-color border border-bottom border-left border-radius border-right border-top
  direction inner-background-color inner-border inner-border-bottom inner-border-left
  inner-border-radius inner-border-right inner-border-top padding padding-bottom padding-left
  padding-right padding-top vertical-align width
mj-divider: align border-color border-style border-width container-background-color padding
  padding-bottom padding-left padding-right padding-top width
mj-group: background-color direction vertical-align width
mj-image: align alt border border-bottom border-left border-radius border-right border-top
  container-background-color fluid-on-mobile font-size height href max-height name padding
  padding-bottom padding-left padding-right padding-top rel sizes src srcset target title usemap
  width
mj-raw: position
mj-section: background-color background-position background-position-x background-position-y
  background-repeat background-size background-url border border-bottom border-left border-radius
  border-right border-top direction full-width padding padding-bottom padding-left padding-right
  padding-top text-align text-padding
mj-spacer: border border-bottom border-left border-right border-top container-background-color
  height padding padding-bottom padding-left padding-right padding-top
mj-text: align background-color color container-background-color font-family font-size font-style
  font-weight height letter-spacing line-height padding padding-bottom padding-left padding-right
  padding-top text-decoration text-transform vertical-align
mj-table: align border cellpadding cellspacing color container-background-color font-family
  font-size font-weight line-height padding padding-bottom padding-left padding-right padding-top
  role table-layout vertical-align width
mj-wrapper: background-color background-position background-position-x background-position-y
  background-repeat background-size background-url border border-bottom border-left border-radius
  border-right border-top direction full-width gap padding padding-bottom padding-left padding-right
  padding-top text-align text-padding
mj-social: align border-radius color container-background-color font-family font-size font-style
  font-weight icon-height icon-padding icon-size inner-padding line-height mode padding
  padding-bottom padding-left padding-right padding-top table-layout text-decoration text-padding
  vertical-align
mj-social-element: align alt background-color border-radius color font-family font-size font-style
  font-weight href icon-height icon-padding icon-position icon-size line-height name padding
  padding-bottom padding-left padding-right padding-top rel sizes src srcset target text-decoration
  text-padding title vertical-align
mj-navbar: align base-url hamburger ico-align ico-close ico-color ico-font-family ico-font-size
  ico-line-height ico-open ico-padding ico-padding-bottom ico-padding-left ico-padding-right
  ico-padding-top ico-text-decoration ico-text-transform padding padding-bottom padding-left
  padding-right padding-top
mj-navbar-link: color font-family font-size font-style font-weight href letter-spacing line-height
  name padding padding-bottom padding-left padding-right padding-top rel target text-decoration
  text-transform
mj-accordion: border container-background-color font-family icon-align icon-height icon-position
  icon-unwrapped-alt icon-unwrapped-url icon-width icon-wrapped-alt icon-wrapped-url padding
  padding-bottom padding-left padding-right padding-top
mj-accordion-element: background-color border font-family icon-align icon-height icon-position
  icon-unwrapped-alt icon-unwrapped-url icon-width icon-wrapped-alt icon-wrapped-url
mj-accordion-text: background-color color font-family font-size font-weight letter-spacing
  line-height padding padding-bottom padding-left padding-right padding-top
mj-accordion-title: background-color color font-family font-size font-weight padding padding-bottom
  padding-left padding-right padding-top
mj-carousel: align border-radius container-background-color icon-width left-icon padding
  padding-bottom padding-left padding-right padding-top right-icon tb-border tb-border-radius
  tb-hover-border-color tb-selected-border-color tb-width thumbnails
mj-carousel-image: alt border-radius href rel src target tb-border tb-border-radius thumbnails-src
  title
"""

ATTRIBUTES: dict[str, frozenset[str]] = {
    name: frozenset(names.split())
    for name, _, names in (entry.partition(":") for entry in _TABLE.strip().replace("\n  ", " ").split("\n"))
}
"""Each component's own attributes. All of them take css-class and mj-class as well."""


CHARACTERS = 1024 * 1024
"""Of the source; a compilation takes some milliseconds for each 100 KB and cannot be interrupted."""
OUTPUT_CHARACTERS = 4 * 1024 * 1024
TITLE = "{{ letter.subject }}"
LANGUAGE = "{{ letter.locale }}"

_TOKEN = re.compile(
    r"<!--(?P<comment>.*?)-->|<(?P<close>/)?(?P<name>[A-Za-z][\w:-]*)(?P<attributes>(?:[^<>\"']|\"[^\"]*\"|'[^']*')*?)(?P<empty>/)?>"
    r"|<[!?][^>]*>|(?P<text>[^<]+)|(?P<stray><)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(
    r"(?P<name>[^\s=/\"']+)(?:\s*=\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^\s\"']+)))?"
)
_COMPUTED = re.compile(
    r"width|.*padding.*|border(?:-left|-right)?|inner-border.*|icon-(?:size|height|width)|background-(?:width|height)"
    r"|mode|full-width|fluid-on-mobile|hamburger|gap|tb-width|mj-class|inline|position|direction|thumbnails"
)
"""Attributes whose value the compiler computes or decides with."""
_FREE = frozenset(("mj-button", "mj-divider", "mj-table", "mj-spacer", "mj-text"))
"""Components that write their own width and padding out as they are."""
_PLACED = frozenset(("href", "src", "alt", "title"))
"""Attributes that findings are about: they carry their line into the result."""
_EVERYWHERE = frozenset(("css-class", "mj-class"))
_NO_JINJA = frozenset(
    ("mj-accordion", "mj-accordion-element", "mj-carousel", "mj-head", "mj-attributes", "mj-class", "mjml")
)
_KEEPS_COMMENTS = frozenset(("mj-body", "mj-section", "mj-column", "mj-group", "mj-hero"))
"""Elsewhere the compiler would put a comment inside of another one, or fail."""
_POSITION = re.compile(r" in root template(?: at position (\d+):(\d+))?")
_SOCIAL = re.compile(
    r"<!--\[if mso \| IE\]><td><!\[endif\]--><table[^>]*><tbody>(<!--\w+-->)"
    r"</tbody></table><!--\[if mso \| IE\]></td><!\[endif\]-->"
)
"""A placeholder among social elements, with the table that the compiler puts around each child."""

Role = Literal["jinja", "between", "content", "value"]


@dataclass(frozen=True, slots=True)
class _Held:
    """What a placeholder stands for."""

    text: str
    line: int
    role: Role


@dataclass(slots=True)
class _Copy:
    """The copy for the compiler while it is written, and what is wrong."""

    mark: str
    """How every placeholder begins; it is not in the source."""
    web_fonts: bool
    parts: list[str] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)
    """Byte of the copy → line of the source."""
    held: dict[str, _Held] = field(default_factory=dict)
    problems: list[tuple[str, int]] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    """What stands before the document."""
    after: list[str] = field(default_factory=list)
    has_title: bool = False
    has_head: bool = False
    has_body: bool = False
    preview: int | None = None
    _bytes: int = 0

    def write(self, text: str, line: int) -> None:
        self.lines.append((self._bytes, line))
        self.parts.append(text)
        self._bytes += len(text.encode())

    def hold(self, text: str, line: int, role: Role) -> str:
        name = f"{self.mark}{len(self.held)}z"
        self.held[name] = _Held(text, line, role)
        return name

    def refuse(self, line: int, message: str) -> None:
        self.problems.append((message, line))


def compile_mjml(source: Source, *, web_fonts: bool = True, preheader: bool = False) -> Source:
    """The page in HTML. With `preheader` the template has one of its own. Raises Rejected."""
    if len(source.text) > CHARACTERS:
        rule = f"comes to more than {CHARACTERS} characters of MJML with its layout and partials"
        raise Rejected(Problem(Code.TOO_LARGE, source.place(1)[0], rule))
    copy = _Copy(_unused(source.text), web_fonts)
    _Scanner(copy, source.text).scan()
    if preheader and copy.preview is not None:
        copy.refuse(
            copy.preview,
            "the preview line is here and in spec.preheader; keep one, or write {{ letter.preheader }} here",
        )
    if copy.problems:
        raise Rejected(*(_problem(source, message, line) for message, line in copy.problems))
    html = _compiled(copy, source)
    if len(html) > OUTPUT_CHARACTERS:
        rule = f"comes to more than {OUTPUT_CHARACTERS} characters of HTML"
        raise Rejected(Problem(Code.TOO_LARGE, source.place(1)[0], rule))
    return _restored(_SOCIAL.sub(r"\1", html), copy, source)


def _problem(source: Source, message: str, line: int) -> Problem:
    place, within = source.place(line)
    return Problem(Code.TEMPLATE_SYNTAX, place, message, within)


def _unused(text: str) -> str:
    """A beginning for placeholders that no word of the source has."""
    number = 0
    while f"pr{number}x" in text:
        number += 1
    return f"pr{number}x"


def _compiled(copy: _Copy, source: Source) -> str:
    import mjml  # noqa: PLC0415  only templates in MJML need the compiler

    text = "".join(copy.parts)
    try:
        return mjml.mjml2html(text, fonts=None if copy.web_fonts else {})
    except ValueError as error:
        error_text, line = str(error), 1
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":  # a panic of the compiler is no Exception
            raise
        error_text, line = "the compiler failed", 1
    found = _POSITION.search(error_text)
    if found and found[1]:
        at = bisect_right(copy.lines, (int(found[1]), 1 << 60)) - 1
        line = copy.lines[max(at, 0)][1]
    message = f"is not MJML that can be compiled: {_POSITION.sub('', error_text)}"
    raise Rejected(_problem(source, message, line))


class _Scanner:
    """Reads the source once and writes the copy."""

    def __init__(self, copy: _Copy, text: str) -> None:
        self._copy = copy
        self._jinja: dict[str, Piece] = {}
        self._starts: list[tuple[int, int]] = []
        self._text = self._masked(text)
        self._open: list[tuple[str, int]] = []

    def _masked(self, text: str) -> str:
        """The source with a placeholder for each Jinja construct, so that its signs are no markup."""
        parts: list[str] = []
        length = 0
        for piece in split(text, "spec.html"):
            self._starts.append((length, piece.line))
            shown = piece.text
            if piece.kind != "data":
                shown = self._copy.hold(piece.text, piece.line, "jinja")
                self._jinja[shown] = piece
            parts.append(shown)
            length += len(shown)
        return "".join(parts)

    def _line(self, position: int) -> int:
        start, line = self._starts[bisect_right(self._starts, (position, 1 << 60)) - 1]
        return line + self._text.count("\n", start, position)

    def scan(self) -> None:
        """Write the copy."""
        position = 0
        while position < len(self._text):
            found = _TOKEN.match(self._text, position)
            assert found is not None, "the last choice takes what no other does"
            position = found.end()
            line = self._line(found.start())
            if found["name"]:
                position = self._tag(found, line)
            elif found["comment"] is not None:
                self._comment(found["comment"], found.start("comment"))
            elif found["text"] is not None:
                self._between(found["text"], found.start())
            elif found["stray"]:
                self._copy.refuse(line, "`<` begins no tag here; close the tag, or write &lt;")
        for name, line in self._open:
            self._copy.refuse(line, f"<{name}> is not closed; add </{name}>")
        if not self._copy.has_body and not self._copy.problems:
            self._copy.refuse(
                1, "is format MJML and has no <mjml> with an <mj-body>; write format: HTML for HTML"
            )

    @property
    def _parent(self) -> str:
        return self._open[-1][0] if self._open else ""

    def _tag(self, found: re.Match[str], line: int) -> int:
        """Write a tag, with its content where that is taken as it is; the position behind it."""
        name = found["name"]
        if found["close"]:
            self._close(name, line)
            return found.end()
        if not self._may_stand(name, line):
            return self._skip(found)
        content, end = "", found.end()
        if name in CONTENT and not found["empty"] and self._parent != "mj-attributes":
            closing = re.compile(rf"</{name}\s*>").search(self._text, end)
            if closing is None:
                self._copy.refuse(line, f"<{name}> is not closed; add </{name}>")
                return len(self._text)
            content, end = self._text[end : closing.start()], closing.end()
        attributes = self._attributes(name, found["attributes"] or "", found.start("attributes"))
        self._element(name, attributes, content, (line, self._line(found.end())), empty=bool(found["empty"]))
        return end

    def _element(
        self, name: str, attributes: dict[str, str], content: str, lines: tuple[int, int], *, empty: bool
    ) -> None:
        copy, line = self._copy, lines[0]
        if name == "mj-font" and not copy.web_fonts:
            if not empty:
                self._open.append(("mj-font ", line))
            return
        self._note(name, attributes, content, line)
        if name == "mj-raw" and attributes.pop("position", "") == "file-start":
            copy.before.append(self._unmasked(content))
            return
        shown = "".join(f' {key}="{value}"' for key, value in attributes.items())
        if name in CONTENT and self._parent != "mj-attributes":
            lone = self._jinja.get(content.strip())
            if name == "mj-raw" and self._parent not in ("mj-head", "") and lone and lone.kind == "block":
                copy.write(f"<!--{copy.hold(lone.text, lone.line, 'between')}-->", line)
                return
            held = copy.hold(self._unmasked(content), lines[1], "content") if content.strip() else ""
            if name == "mj-raw" and self._parent not in ("mj-head", ""):
                copy.write(f"<!--{held}-->" if held else "", line)
            else:
                copy.write(f"<{name}{shown}>{held}</{name}>", line)
        elif empty or name not in (*CHILDREN, "mj-attributes", "mj-class"):
            copy.write(f"<{name}{shown} />", line)
            if not empty:
                self._open.append((f"{name} ", line))  # its end tag is written already
        else:
            copy.write(f"<{name}{shown}>", line)
            self._open.append((name, line))

    def _note(self, name: str, attributes: dict[str, str], content: str, line: int) -> None:
        """What a document lacks is added: its language, its head, its title."""
        copy = self._copy
        if name == "mj-body":
            copy.has_body = True
            if not copy.has_head:
                copy.write(f"<mj-head>{self._title()}</mj-head>", line)
        copy.has_title |= name == "mj-title"
        copy.has_head |= name == "mj-head"
        if name == "mj-preview" and "letter.preheader" not in self._unmasked(content) and content.strip():
            copy.preview = line
        if name == "mjml" and "lang" not in attributes:
            attributes["lang"] = copy.hold(LANGUAGE, line, "jinja")

    def _title(self) -> str:
        return f"<mj-title>{self._copy.hold(TITLE, 1, 'jinja')}</mj-title>"

    def _close(self, name: str, line: int) -> None:
        if not self._open or self._parent.strip() != name:
            expected = f"; </{self._parent.strip()}> is due first" if self._open else ""
            self._copy.refuse(line, f"</{name}> closes nothing here{expected}")
            return
        opened, _ = self._open.pop()
        if opened.endswith(" "):
            return
        if name == "mj-head" and not self._copy.has_title:
            self._copy.write(self._title(), line)
        self._copy.write(f"</{name}>", line)

    def _skip(self, found: re.Match[str]) -> int:
        """Leave out a tag that was refused, with what is in it."""
        closing = f"</{found['name']}"
        end = self._text.find(closing, found.end()) if not found["empty"] else -1
        if end < 0:
            return found.end()
        return self._text.find(">", end) + 1 or len(self._text)

    def _may_stand(self, name: str, line: int) -> bool:
        parent = self._parent.strip()
        allowed = CHILDREN.get(parent, frozenset()) if parent else frozenset(("mjml",))
        if name == "mj-include":
            rule = "mj-include reads a file; put the part into the layout's partials and write"
            self._copy.refuse(line, f'{rule} {{% include "name" %}}')
            return False
        if name == "mj-html-attributes":
            rule = (
                "mj-html-attributes is not supported; write the attribute on an element in mj-text or mj-raw"
            )
            self._copy.refuse(line, rule)
            return False
        if parent == "mj-attributes" and (name in ATTRIBUTES or name in ("mj-all", "mj-class")):
            return True
        if parent == "mj-class" and name in ATTRIBUTES:
            return True
        if name in allowed:
            return True
        known = frozenset(ATTRIBUTES) | {"mjml", "mj-head", "mj-body", "mj-all", "mj-class"}
        if not name.startswith("mj"):
            rule = f"<{name}> is no component of MJML; put it into mj-text, mj-table or mj-raw"
        elif name not in known:
            rule = f"there is no component <{name}>{did_you_mean(name, known)}"
        else:
            places = sorted(each for each, inside in CHILDREN.items() if name in inside)
            where = f"it stands in {' or '.join(places)}" if places else "it begins the document"
            rule = f"<{name}> may not stand {f'in <{parent}>' if parent else 'outside of <mjml>'}; {where}"
        self._copy.refuse(line, rule)
        return False

    def _attributes(self, name: str, text: str, start: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in _ATTRIBUTE.finditer(text):
            line = self._line(start + each.start())
            key = each["name"]
            value = next(
                (each[kind] for kind in ("double", "single", "bare") if each[kind] is not None), None
            )
            if key in self._jinja or self._copy.mark in key:
                shown = self._unmasked(each[0])
                self._copy.refuse(line, f"`{shown}` may not stand among the attributes; put it into a value")
            elif value is None:
                self._copy.refuse(line, f'{key} has no value; write {key}="…"')
            elif key in found:
                self._copy.refuse(line, f"{key} is there twice in <{name}>")
            elif self._knows(name, key, line):
                found[key] = self._value(name, key, value, line)
        self._adapt(name, found, self._line(start))
        return found

    def _adapt(self, name: str, found: dict[str, str], line: int) -> None:
        """Where the compiler differs from MJML: what it needs to be given, and what it cannot do."""
        if name in ("mj-social-element", "mj-carousel-image") and self._parent != "mj-attributes":
            found.setdefault("alt", "")
        if name == "mj-hero" and found.get("mode") == "fluid-height":
            rule = "mode fluid-height of <mj-hero> is not supported; write a height and leave mode out"
            self._copy.refuse(line, rule)
        if name == "mj-hero" and len(sizes := found.get("padding", "").split()) > 1:
            # The compiler takes a hero's padding off its height only where each side is given by itself.
            del found["padding"]
            places = {"top": (0,), "right": (1,), "bottom": (2, 0), "left": (3, 1)}
            for side, indexes in places.items():
                size = next(sizes[index] for index in indexes if index < len(sizes))
                found.setdefault(f"padding-{side}", size)
        if name == "mj-style":
            found.pop("inline", None)  # every <style> is inlined after the compilation

    def _knows(self, name: str, key: str, line: int) -> bool:
        if name in ("mjml", "mj-class", "mj-all") or key in _EVERYWHERE or key.startswith("data-"):
            return True
        known = ATTRIBUTES.get(name, frozenset())
        if key in known or (name == "mj-body" and key == "id"):
            return True
        self._copy.refuse(line, f"<{name}> has no attribute {key}{did_you_mean(key, known)}")
        return False

    def _value(self, name: str, key: str, value: str, line: int) -> str:
        copy = self._copy
        if copy.mark in value and _COMPUTED.fullmatch(key) and name not in _FREE and name != "mjml":
            rule = f"MJML computes with {key} of <{name}> before there is data; write the value itself,"
            copy.refuse(line, f"{rule} or choose between two components with {{% if %}}")
            return ""
        if copy.mark in value or key in _PLACED or any(sign in value for sign in '<>"'):
            return copy.hold(self._unmasked(value.replace('"', "&quot;")), line, "value")
        return value

    def _comment(self, text: str, start: int) -> None:
        """A comment that holds tags of the template language and nothing else stands for those tags."""
        if self._copy.mark in text and not re.sub(rf"{self._copy.mark}\d+z", "", text).strip():
            self._between(text, start)
        elif self._parent in _KEEPS_COMMENTS:
            line = self._line(start)
            held = self._copy.hold(f"<!--{self._unmasked(text)}-->", line, "between")
            self._copy.write(f"<!--{held}-->", line)

    def _between(self, text: str, start: int) -> None:
        """What stands between components: tags of the template language, and nothing else."""
        for found in re.finditer(rf"{self._copy.mark}\d+z|\S(?:(?!{self._copy.mark})[^\n])*", text):
            line = self._line(start + found.start())
            piece = self._jinja.get(found[0])
            if piece is None or piece.kind != "block":
                shown = self._unmasked(found[0])[:60].strip()
                rule = f"`{shown}` stands outside of a component and would be lost;"
                self._copy.refuse(line, f"{rule} put it into mj-text or mj-raw")
            elif not self._open:
                whole = (
                    self._copy.after
                    if any("<mjml" in part for part in self._copy.parts)
                    else self._copy.before
                )
                whole.append(piece.text)
            elif self._parent.strip() in _NO_JINJA:
                rule = f"{piece.text} may not stand directly in <{self._parent.strip()}>;"
                way_out = "put it around the whole component, or into the content of one"
                self._copy.refuse(line, f"{rule} {way_out}")
            else:
                self._copy.write(f"<!--{self._copy.hold(piece.text, piece.line, 'between')}-->", line)

    def _unmasked(self, text: str) -> str:
        """A stretch of the masked source as it was written."""
        if self._copy.mark not in text:
            return text
        return re.sub(rf"{self._copy.mark}\d+z", lambda found: self._copy.held[found[0]].text, text)


def _restored(html: str, copy: _Copy, source: Source) -> Source:
    """The compiled page with what the placeholders stood for, and the origin of each of its lines.

    So that a line of the result belongs to one line of the source, line ends are added where they mean
    nothing: inside of a tag, between its attributes.
    """
    names = re.compile(rf"<!--({copy.mark}\d+z)-->|({copy.mark}\d+z)")
    breaks: dict[int, int] = {}
    for found in names.finditer(html):
        held = copy.held[found[1] or found[2]]
        at = _break_before(html, found.start(), held.role)
        if at is not None and at not in breaks:
            breaks[at] = held.line
    writer = _Lines(1)
    for text in copy.before:
        writer.write(text)
    position = 0
    for found in names.finditer(html):
        writer.pieces(html, position, found.start(), breaks)
        held = copy.held[found[1] or found[2]]
        if held.role == "between" and held.text.startswith("{%"):
            writer.jinja(held)
        else:
            writer.written(held)
        position = found.end()
    writer.pieces(html, position, len(html), breaks)
    for text in copy.after:
        writer.write(text)
    return Source("".join(writer.parts), tuple(_placed(source, line) for line in writer.origin))


def _placed(source: Source, line: int) -> tuple[str, int]:
    place, within = source.place(line)
    return place, within or 1


def _break_before(html: str, position: int, role: Role) -> int | None:
    """Where a line may end, so that a placeholder's element begins on one of its own."""
    if role == "content":
        ends_tag = html[position - 1 : position] == ">" and html[position - 2 : position] not in ("->", "]>")
        return position - 1 if ends_tag else None
    if role != "value":
        return None
    start = html.rfind("<", 0, position)
    found = re.compile(r"<[\w:-]+(?=\s)").match(html, start) if start >= 0 else None
    return found.end() if found else None


@dataclass(slots=True)
class _Lines:
    """Writes the result and notes the source's line of each line."""

    current: int
    parts: list[str] = field(default_factory=list)
    origin: list[int] = field(default_factory=lambda: [1])

    def write(self, text: str) -> None:
        """Text of the compiler's own."""
        self.parts.append(text)
        self.origin += [self.current] * text.count("\n")

    def pieces(self, html: str, start: int, end: int, breaks: dict[int, int]) -> None:
        """A stretch of the compiled page with its added line ends."""
        for at in sorted(each for each in breaks if start <= each < end):
            self.write(html[start:at])
            self._begin(breaks[at])
            start = at
        self.write(html[start:end])

    def jinja(self, held: _Held) -> None:
        """A tag of the template language, whose own line end is inside of it."""
        opening = re.match(r"\{%[-+]?", held.text)
        assert opening is not None, "only tags stand between components"
        self.parts.append(opening[0])
        self._begin(held.line)
        self.written(_Held(held.text[opening.end() :], held.line, held.role))

    def written(self, held: _Held) -> None:
        """Text of the source, whose lines follow each other as there."""
        self.parts.append(held.text)
        added = held.text.count("\n")
        self.origin += range(held.line + 1, held.line + added + 1)
        self.current = held.line + added

    def _begin(self, line: int) -> None:
        self.parts.append("\n")
        self.origin.append(line)
        self.current = line
