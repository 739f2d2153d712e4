"""Check what a letter refers to: `cid:` and `data:` images, relative addresses, character entities in texts,
invitations.

Input: a template, its layout, its locale drafts and the letters of its samples. Output: problems of severity
warning or info; it never raises. The rendered letters are checked, so that addresses made of data are checked
too. The position of a finding is searched in the source, where an expression matches any text. A finding
without a position names the sample.
"""

import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape, unescape

import turbohtml

from postroom.letter.catalog import RenderedLetter
from postroom.letter.event import Attachment
from postroom.letter.mime.attachments import decode_base64, read_content_type
from postroom.letter.mime.compose import can_be_named_by_file, cid_references
from postroom.letter.problems import Code, Problem, Rejected, Severity, did_you_mean
from postroom.letter.references import layout_field
from postroom.letter.template import AttachmentSpec, EmailLayout, EmailTemplateSpec
from postroom.letter.validation.drafts import LocaleDraft

_ADDRESSES = {"src": None, "background": None, "poster": None, "srcset": None, "href": ("a", "area")}
"""The attributes that hold addresses, and the elements on which they do; None: all elements."""
_IN_COMMENT = re.compile(r"""(?i)\s(src|background|href)\s*=\s*["']([^"']*)["']""")
_CONDITIONAL = re.compile(r"(?i)<!--\[if\b.*?<!\[endif\]-->", re.DOTALL)
_CSS_ADDRESS = re.compile(r"""(?i)(?<!@import )\burl\(\s*(?:"([^"]*)"|'([^']*)'|([^)"'\s]*))\s*\)""")
_CSS_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_IMAGE_DATA = re.compile(r"(?i)data:image/[\w.+-]*")
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_CONSTRUCT = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_QUOTED = re.compile(r"""(["'])((?:\{\{.*?\}\}|(?!\1)[^\n])*)\1|url\(((?:\{\{.*?\}\}|[^"')\n])*)\)""")
_METHOD = re.compile(rb"(?im)^METHOD:[ \t]*([A-Za-z-]+)")
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class _SourcePosition:
    """A position in the author's source; without a line when the text is not in the source."""

    field: str
    line: int | None = None
    column: int | None = None
    length: int | None = None


class _Sources:
    """The sources of a page by field."""

    def __init__(self, spec: EmailTemplateSpec, layout: EmailLayout | None) -> None:
        texts: dict[str, str | None] = {"spec.html": spec.html, "spec.css": spec.css}
        texts |= {f"spec.locales[{n}].html": each.html for n, each in enumerate(spec.locales)}
        texts |= {f"spec.messages.{key}": text for key, text in spec.messages.items()}
        for n, each in enumerate(spec.locales):
            texts |= {f"spec.locales[{n}].messages.{key}": text for key, text in each.messages.items()}
        if layout:
            own = layout_field(layout.metadata.name)
            texts |= {f"{own}.html": layout.spec.html, f"{own}.css": layout.spec.css}
            texts |= {f"{own}.partials[{n}].html": each.html for n, each in enumerate(layout.spec.partials)}
        self._texts = {field: text for field, text in texts.items() if text}

    def find(self, value: str) -> _SourcePosition:
        """The position of an address: where it is written, else where expressions may have made it."""
        for written in dict.fromkeys((value, escape(value), escape(value, quote=False))):
            for field, text in self._texts.items():
                if (offset := _standing_alone(text, written)) >= 0:
                    return position_in(text, field, offset, min(len(written), _SHOWN))
        return self._made_of_data(value) or _SourcePosition("spec.html")

    def _made_of_data(self, value: str) -> _SourcePosition | None:
        best: tuple[int, _SourcePosition] | None = None
        for field, text in self._texts.items():
            if "{{" not in text:
                continue
            for found in _QUOTED.finditer(text):
                group = 2 if found.group(2) is not None else 3
                source = found.group(group)
                fixed = [part for part in re.split(r"\{\{.*?\}\}", source) if part.strip()]
                if "{{" not in source or not fixed:
                    continue
                pattern = re.sub(r"(?:\\\{){2}.*?(?:\\\}){2}", "(?s:.*)", re.escape(source.strip()))
                weight = sum(map(len, fixed))
                if re.fullmatch(pattern, value) and (best is None or weight > best[0]):
                    best = weight, position_in(text, field, found.start(group), len(source))
        return best[1] if best else None


def _standing_alone(text: str, value: str) -> int:
    """The offset of a value that is not part of a longer one, or -1."""
    found = re.search(rf"""(?<=["'(=\s,]){re.escape(value)}(?=["')\s>,/]|$)""", text)
    return found.start() if found else -1


def position_in(text: str, field: str, offset: int, length: int) -> _SourcePosition:
    """The position of an offset; line and column are 1-based."""
    return _SourcePosition(
        field, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset), length
    )


def check_references(
    spec: EmailTemplateSpec,
    layout: EmailLayout | None,
    drafts: Iterable[LocaleDraft],
    letters: Iterable[tuple[str, RenderedLetter]],
) -> Iterator[Problem]:
    """All findings; `letters` are the samples' names and letters."""
    rendered = list(letters)
    sources = _Sources(spec, layout)
    yield from _check_images(spec, sources, rendered)
    for sample, html in _each_page(rendered):
        for address in dict.fromkeys(addresses(html)):
            yield from _check_address(address, sample, sources)
    yield from _check_entities(spec, drafts, rendered)
    for index, attachment in enumerate(spec.attachments):
        yield from _check_invitation(attachment, f"spec.attachments[{index}]")


def _each_page(letters: Iterable[tuple[str, RenderedLetter]]) -> Iterator[tuple[str, str]]:
    """Each distinct page with the first sample that has it."""
    seen: set[str] = set()
    for sample, rendered in letters:
        if rendered.html not in seen:
            seen.add(rendered.html)
            yield sample, rendered.html


# --- cid: ------------------------------------------------------------------------------------------------


def _check_images(
    spec: EmailTemplateSpec, sources: _Sources, letters: list[tuple[str, RenderedLetter]]
) -> Iterator[Problem]:
    own = {each.content_id or each.filename: each for each in spec.attachments if _can_be_shown(each)}
    brought = {sample.name: frozenset(sample.content_ids) for sample in spec.samples}
    used: set[str] = set()
    for sample, rendered in letters:
        for reference in cid_references(rendered.html):
            used.add(reference)
            if reference not in own and reference not in brought.get(sample, ()):
                yield _dangling(reference, sample, spec, own, sources)
    for index, attachment in enumerate(spec.attachments):
        if attachment.content_id and attachment.content_id not in used:
            name = attachment.content_id
            message = (
                f"no sample's letter shows `cid:{name}`; the part is sent and not shown. Refer to it, or "
                "remove contentId to send it as a file"
            )
            yield Problem(
                Code.CID_UNUSED, f"spec.attachments[{index}].contentId", message, severity=Severity.INFO
            )


def _can_be_shown(attachment: AttachmentSpec) -> bool:
    file = Attachment(attachment.filename, attachment.content_type, b"", attachment.content_id)
    return bool(file.content_id) or can_be_named_by_file(file)


def _dangling(
    reference: str,
    sample: str,
    spec: EmailTemplateSpec,
    own: Mapping[str, AttachmentSpec],
    sources: _Sources,
) -> Problem:
    place = sources.find(f"cid:{reference}")
    if any(attachment.filename == reference for attachment in spec.attachments):
        hint = "; an attachment of that file name is there: give it a contentId to show it"
    else:
        way_out = "; add it to spec.attachments with contentId"
        hint = did_you_mean(reference, own) or way_out
    message = f"no part of the letter is `{reference[:_SHOWN]}`, so that no image is shown{hint}"
    return _finding(Code.CID_DANGLING, place, message, sample)


# --- addresses -------------------------------------------------------------------------------------------


def addresses(html: str) -> Iterator[str]:
    """The addresses in a page's attributes, CSS and conditional comments, without outer spaces."""
    document = turbohtml.parse(html, positions=False)
    for element in document.iter_elements():
        tag = element.tag.lower()
        for name, value in element.attrs.items():
            if not isinstance(value, str):
                continue
            if name in _ADDRESSES and ((on := _ADDRESSES[name]) is None or tag in on):
                yield from _each_of(name, value)
            elif name == "style":
                yield from css_addresses(value)
        if tag == "style":
            yield from css_addresses(element.text)
    for comment in _CONDITIONAL.findall(html):
        for name, value in _IN_COMMENT.findall(comment):
            if name.lower() != "href" or "<a" in comment.lower():
                yield from _each_of(name.lower(), unescape(value))


def _each_of(name: str, value: str) -> Iterator[str]:
    if name != "srcset":
        yield value.strip()
    elif not value.lstrip().startswith("data:"):
        yield from (each.split()[0] for each in value.split(",") if each.strip())


def css_addresses(css: str) -> Iterator[str]:
    """The addresses in `url(…)`."""
    if "url(" in css.lower():
        for found in _CSS_ADDRESS.finditer(_CSS_COMMENT.sub("", css)):
            yield next((each for each in found.groups() if each is not None), "").strip()


def _check_address(address: str, sample: str, sources: _Sources) -> Iterator[Problem]:
    if _IMAGE_DATA.match(address):
        message = (
            "Outlook for Windows and some Gmail apps show no image from a `data:` address; attach it with"
            " a contentId "
            "and write `cid:`, or link to it with https"
        )
        yield _finding(Code.IMAGE_IS_DATA, _place_of_data(address, sources), message, sample)
    elif address.startswith("//"):
        message = (
            f"`{address[:_SHOWN]}` has no scheme, which a letter cannot add; write https:{address[:_SHOWN]}"
        )
        yield _finding(Code.ADDRESS_RELATIVE, sources.find(address), message, sample)
    elif address and not address.startswith("#") and not _SCHEME.match(address):
        rule = "is relative, and a letter has no address to begin from; write it with https://"
        message = f"`{address[:_SHOWN]}` {rule}"
        yield _finding(Code.ADDRESS_RELATIVE, sources.find(address), message, sample)


def _place_of_data(address: str, sources: _Sources) -> _SourcePosition:
    place = sources.find(address)
    found = _IMAGE_DATA.match(address)
    assert found is not None
    return _SourcePosition(place.field, place.line, place.column, len(found.group())) if place.line else place


# --- text fields -----------------------------------------------------------------------------------------


def _check_entities(
    spec: EmailTemplateSpec, drafts: Iterable[LocaleDraft], letters: Iterable[tuple[str, RenderedLetter]]
) -> Iterator[Problem]:
    texts = {part.field: part.source for draft in drafts for part in draft.parts()}
    if spec.sender:
        texts["spec.from.name"] = spec.sender.name
    written: set[str] = set()
    for field, text in texts.items():
        for found in _ENTITY.finditer(_without_constructs(text)):
            if (meant := unescape(found.group())) != found.group():
                written.add(found.group())
                place = position_in(text, field, found.start(), len(found.group()))
                yield _finding(Code.ENTITY_IN_TEXT, place, _entity(found.group(), meant), "")
    for sample, rendered in letters:
        for found in _ENTITY.finditer(rendered.subject):
            if found.group() not in written and (meant := unescape(found.group())) != found.group():
                message = f"{_entity(found.group(), meant)}; it comes from the data"
                yield _finding(Code.ENTITY_IN_TEXT, _SourcePosition("spec.subject"), message, sample)


def _entity(entity: str, meant: str) -> str:
    shown = "a no-break space" if meant == "\xa0" else f"`{meant}`"
    return f"readers see `{entity}`, for this is text and no HTML; write {shown}"


def _without_constructs(source: str) -> str:
    return _CONSTRUCT.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)


# --- invitations -----------------------------------------------------------------------------------------


def _check_invitation(attachment: AttachmentSpec, field: str) -> Iterator[Problem]:
    try:
        kind = read_content_type(attachment.content_type)
        content = decode_base64(attachment.content)
    except (Rejected, ValueError, binascii.Error):
        return
    declared = kind.parameter("method")
    if kind.media_type != "text/calendar" or not declared:
        return
    found = _METHOD.search(content)
    inside = found.group(1).decode() if found else "none"
    if inside.upper() != declared.upper():
        message = (
            f"the content type says method={declared[:40]}, and the calendar's METHOD is {inside[:40]}; "
            "clients offer an answer only where both are the same (RFC 6047)"
        )
        yield Problem(Code.CALENDAR_METHOD, f"{field}.contentType", message, severity=Severity.WARNING)


def _finding(code: Code, place: _SourcePosition, message: str, sample: str) -> Problem:
    if place.line is None and sample:
        message = f"sample `{sample}`: {message}"
    return Problem(code, place.field, message, place.line, place.column, place.length, Severity.WARNING)
