"""Import a page, or a folder of them: translate, make the manifests, write them beside the page.

Input: `Wishes`. Output: an `Imported` with the files that were written and what was not translated, each at a
line of the page that was handed in. A page keeps every character but its placeholders. Pages in one folder
share their partials and bases as one EmailLayout. Failure: `Trouble` for a page that cannot be read or a file
that is there already.
"""

import html as entities
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateSyntaxError

from postroom.letter.language.environment import HTML
from postroom.local.build import to_yaml
from postroom.local.design_import.dialects import Dialect, detect, translate
from postroom.local.design_import.handlebars import partial_name
from postroom.local.design_import.schema import Reader
from postroom.local.design_import.translation import Note, Translation, shortened
from postroom.local.errors import UserError

PAGES = frozenset(
    (
        ".html",
        ".htm",
        ".mjml",
        ".hbs",
        ".handlebars",
        ".mustache",
        ".liquid",
        ".erb",
        ".ejs",
        ".j2",
        ".jinja",
        ".jinja2",
        ".tmpl",
        ".gohtml",
    )
)
PARTIAL_FOLDERS = frozenset(
    ("partials", "partial", "includes", "include", "components", "snippets", "shared", "layouts")
)
LARGEST = 4 * 1024 * 1024
PROFILE = "mail"
SHARED = "shared"
_INCLUDE = re.compile(r"\{%-?\s*include \"([^\"]+)\"\s*-?%\}")
_MJ_INCLUDE = re.compile(r"<mj-include\b[^>]*?\bpath\s*=\s*[\"']([^\"']+)[\"'][^>]*?(?:/>|>\s*</mj-include>)")
_STYLESHEET = re.compile(
    r"<link\b(?=[^>]*\brel\s*=\s*[\"']?stylesheet)[^>]*?\bhref\s*=\s*[\"']([^\"']+)[\"'][^>]*>", re.IGNORECASE
)
_IMAGE = re.compile(
    r"<(?:img|input|mj-image|mj-carousel-image)\b[^>]*?\bsrc\s*=\s*[\"']([^\"']*)[\"']", re.IGNORECASE
)
_TITLE = re.compile(r"<(title|mj-title)\b[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_EXTENDS = re.compile(r"\{# not translated: extends [\"']?([^\"' #]+)[\"']? #\}\s*")
_BLOCK = re.compile(r"\{%-?\s*block\s")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What to import, and what the manifest says that no page tells."""

    source: Path
    folder: Path
    dialect: Dialect | None = None
    name: str | None = None
    event_type: str | None = None
    profile: str | None = None
    subject: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class ConversionFinding:
    """A note at its place."""

    file: Path
    note: Note

    def __str__(self) -> str:
        return f"{self.file}:{self.note.line}: {self.note.construct}: {self.note.way_out}"


@dataclass(slots=True)
class Imported:
    """What came of an import."""

    written: list[Path] = field(default_factory=list)
    findings: list[ConversionFinding] = field(default_factory=list)
    dialects: dict[Path, Dialect] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """Whether something has no translation."""
        return any(finding.note.lost for finding in self.findings)


@dataclass(slots=True)
class _Page:
    """A page in Postroom's language."""

    file: Path
    name: str
    text: str
    css: str = ""
    plain: str | None = None
    base: str = ""
    """The base that it extends."""
    title: str = ""

    @property
    def is_mjml(self) -> bool:
        return self.file.suffix == ".mjml" or "<mjml" in self.text[:2000]

    @property
    def file_name(self) -> str:
        return f"{self.name}{'.mjml' if self.is_mjml else '.html'}"


def import_design(options: ImportOptions) -> Imported:
    """Import what was asked for."""
    done = Imported()
    pages, partials = _pages(options.source)
    read = {file: _translated(file, options, done) for file in pages}
    usual = Counter(done.dialects.values()).most_common(1)[0][0]
    for file in _needed(read, partials):
        read[file] = _translated(file, replace(options, dialect=usual), done)
    names = {file: partial_name(file.name) for file in read}
    bases = {each.base for each in read.values() if each.base}
    layouts = {names[file] for file in read if names[file] in bases}
    included = {name for each in read.values() for name in _INCLUDE.findall(each.text)}
    shared = [
        file for file in read if names[file] in included or (file in partials and names[file] not in layouts)
    ]
    letters = [read[file] for file in pages if names[file] not in layouts and file not in shared]
    files: dict[str, str] = {}
    missing = included - {names[file] for file in shared}
    for file, each in read.items():
        for name in set(_INCLUDE.findall(each.text)) & missing:
            line = each.text[: each.text.index(f'include "{name}"')].count("\n") + 1
            way = "the partial is not among what was imported; add it to the layout's partials"
            done.findings.append(ConversionFinding(file, Note(line, f'include "{name}"', way)))
    used = [read[file] for file in shared]
    for layout in sorted(layouts | ({SHARED} if used else set())):
        base = next((read[file] for file in read if names[file] == layout), None)
        files |= _layout(layout, base, used)
    for page in letters:
        layout_name = page.base or (SHARED if _INCLUDE.search(page.text) and used else "")
        layout_page = next((read[file] for file in read if names[file] == page.base), None)
        files |= _template(page, options, layout_name, [*used, *([layout_page] if layout_page else [])], done)
    if not options.profile:
        files[f"{PROFILE}-profile.yaml"] = _profile()
    _write(options, files, done)
    done.findings.sort(key=lambda finding: (str(finding.file), finding.note.line))
    return done


def _needed(read: dict[Path, _Page], partials: list[Path]) -> Iterator[Path]:
    """The partials and bases that the pages ask for, and those that these ask for; `read` grows meanwhile."""
    seen: set[Path] = set()
    while True:
        names = {name for each in read.values() for name in (*_INCLUDE.findall(each.text), each.base)}
        asked = [file for file in partials if file not in seen and partial_name(file.name) in names]
        if not asked:
            return
        seen.update(asked)
        yield from asked


def _pages(source: Path) -> tuple[list[Path], list[Path]]:
    """The pages and the partials of what was named."""
    if source.is_file():
        here = source.parent
        found = [
            each for each in here.rglob("*") if _is_page(each) and each != source and _is_partial(each, here)
        ]
        return [source], sorted(found)
    if not source.is_dir():
        raise UserError(f"There is no page {source}.", "Name an HTML or MJML file, or a folder with some.")
    every = sorted(each for each in source.rglob("*") if _is_page(each))
    if not every:
        raise UserError(f"{source} holds no page.", f"A page's name ends in {', '.join(sorted(PAGES))}.")
    partials = [each for each in every if _is_partial(each, source)]
    return [each for each in every if each not in partials], partials


def _is_page(file: Path) -> bool:
    return file.suffix in PAGES and file.is_file()


def _is_partial(file: Path, folder: Path) -> bool:
    inside = {part.lower() for part in file.relative_to(folder).parts[:-1]}
    return file.name.startswith("_") or bool(inside & PARTIAL_FOLDERS)


def _translated(file: Path, options: ImportOptions, done: Imported) -> _Page:
    source = _read(file, done)
    dialect = options.dialect or detect(source)
    done.dialects[file] = dialect
    translation = translate(source, dialect)
    notes = list(translation.notes)
    text = _MJ_INCLUDE.sub(lambda found: f'{{% include "{partial_name(found[1])}" %}}', translation.text)
    notes += _cannot_compile(text)
    text, css = _stylesheets(text, file, notes)
    notes += _images(source)
    base = _EXTENDS.search(text)
    title = _TITLE.search(text)
    done.findings += [ConversionFinding(file, note) for note in notes]
    plain = file.with_suffix(".txt")
    return _Page(
        file,
        options.name if options.name and file == options.source else partial_name(file.name),
        _EXTENDS.sub("", text, count=1) if base else text,
        css,
        _plain(plain, dialect, done) if plain.is_file() and file.suffix != ".txt" else None,
        partial_name(base[1]) if base else "",
        " ".join(entities.unescape(title[2]).split()) if title else "",
    )


def _plain(file: Path, dialect: Dialect, done: Imported) -> str:
    """The text part that lies beside a page."""
    source = _read(file, done)
    translation: Translation = translate(source, dialect)
    done.findings += [ConversionFinding(file, note) for note in translation.notes]
    return translation.text


def _read(file: Path, done: Imported) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.", "Name a page that can.") from None
    if len(data) > LARGEST:
        raise UserError(
            f"{file} is larger than {LARGEST // 1024**2} MiB.", "A letter has at most 256 KB of HTML."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        note = Note(
            1, "encoding", "was not UTF-8 and was read as Windows-1252; look at its accents and its charset"
        )
        done.findings.append(ConversionFinding(file, note))
        return data.decode("cp1252", "replace")


def _cannot_compile(text: str) -> Iterator[Note]:
    """What the template language says of the translation."""
    try:
        HTML.parse(text)
    except TemplateSyntaxError as error:
        line = text.split("\n")[error.lineno - 1].strip() if error.lineno <= text.count("\n") + 1 else ""
        yield Note(error.lineno, shortened(line), f"is not in order after the translation: {error.message}")


def _stylesheets(text: str, file: Path, notes: list[Note]) -> tuple[str, str]:
    """The page without links to style sheets beside it, and those sheets' text."""
    sheets: list[str] = []

    def replace(found: re.Match[str]) -> str:
        address = entities.unescape(found[1])
        sheet = file.parent / address
        line = text.count("\n", 0, found.start()) + 1
        if "://" in address or address.startswith("//"):
            if not re.search(r"font", address):
                way = "mail clients fetch no style sheet; save it beside the page and import again"
                notes.append(Note(line, shortened(found[0]), way))
            return found[0]
        if not sheet.is_file() or not sheet.resolve().is_relative_to(file.parent.resolve()):
            notes.append(Note(line, shortened(found[0]), "the style sheet is not beside the page"))
            return found[0]
        sheets.append(sheet.read_text("utf-8-sig"))
        return f"{{# {address} is in cssFile #}}"

    return _STYLESHEET.sub(replace, text), "\n".join(sheets)


def _images(source: str) -> Iterator[Note]:
    for found in _IMAGE.finditer(source):
        address = found[1].strip()
        if address and not re.match(r"https?://|cid:|//|[{<*$%\[]", address):
            line = source.count("\n", 0, found.start(1)) + 1
            way = "mail clients cannot fetch it; write a whole https:// address, or attach it and write cid:"
            yield Note(line, f'src="{shortened(address)}"', way)


def _layout(name: str, base: _Page | None, partials: Iterable[_Page]) -> dict[str, str]:
    """The layout of pages that extend one base, or that share partials."""
    listed = [
        {"name": each.name, "htmlFile": f"partials/{each.file_name}"} for each in partials if each is not base
    ]
    spec: dict[str, Any] = {}
    files = {f"partials/{each.file_name}": each.text for each in partials if each is not base}
    if base:
        spec["htmlFile"] = f"{name}.html"
        files[f"{name}.html"] = base.text
        if base.css:
            spec["cssFile"] = f"{name}.css"
            files[f"{name}.css"] = base.css
    else:
        spec["html"] = "{% block content %}{% endblock %}\n"
    if (base and base.is_mjml) or any(each.is_mjml or "<mj-" in each.text for each in partials):
        spec["format"] = "MJML"
    if listed:
        spec["partials"] = listed
    return {**files, f"{name}-layout.yaml": _manifest("EmailLayout", name, spec)}


def _template(
    page: _Page, options: ImportOptions, layout: str, shared: list[_Page], done: Imported
) -> dict[str, str]:
    reader = Reader()
    subject = options.subject or ("" if "letter.subject" in page.title else page.title)
    if not subject:
        subject = page.name.replace("-", " ").capitalize()
        done.findings.append(
            ConversionFinding(
                page.file,
                Note(1, "subject", f"the page has no <title>; the subject is {subject!r}", lost=False),
            )
        )
    for text in (page.text, page.plain or "", subject, *(each.text for each in shared if layout)):
        try:
            reader.read(_INCLUDE.sub("", text))
        except TemplateSyntaxError:
            continue  # it is among the findings
    spec: dict[str, Any] = {
        "smtpProfileRef": {"name": options.profile or PROFILE},
        "eventTypes": [options.event_type or f"imported.{page.name}"],
        "subject": subject[:1000],
    }
    if page.is_mjml:
        spec["format"] = "MJML"
    spec["htmlFile"] = page.file_name
    files = {page.file_name: page.text}
    if page.plain is not None:
        spec["textFile"] = f"{page.name}.txt"
        files[f"{page.name}.txt"] = page.plain
    if page.css:
        spec["cssFile"] = f"{page.name}.css"
        files[f"{page.name}.css"] = page.css
    if layout:
        spec["layoutRef"] = {"name": layout}
    spec["variables"] = reader.schema()
    spec["samples"] = [{"name": "example", "data": reader.sample()}]
    return {**files, f"{page.name}.yaml": _manifest("EmailTemplate", page.name, spec)}


def _profile() -> str:
    return _manifest("SmtpProfile", PROFILE, {"from": {"name": "Example", "address": "post@example.com"}})


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> str:
    whole = {"apiVersion": "postroom.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return to_yaml(whole)


def _write(options: ImportOptions, files: dict[str, str], done: Imported) -> None:
    profile = f"{PROFILE}-profile.yaml"
    if (options.folder / profile).exists():
        files.pop(profile, None)
    there = [name for name in files if (options.folder / name).exists()]
    if there and not options.force:
        raise UserError(
            f"{options.folder / there[0]} is there already.",
            "Name another folder with --to, or let it be written over with --force.",
        )
    for name, text in files.items():
        file = options.folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        except OSError as error:
            raise UserError(
                f"{file} cannot be written: {error.strerror}.", "Name another folder with --to."
            ) from None
        done.written.append(file)
