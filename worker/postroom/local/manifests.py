"""Files beside a manifest: `htmlFile: order.html` becomes `html` with the file's text.

Input: an object of a manifest as it was written, the manifest's path and the folder that was named. Output:
the object whole, the file of each such field, and a problem for each name that leads to no readable text. A
path is relative to the manifest and stays inside the folder, also behind symbolic links, so that a manifest
reads nothing else of the machine. Nothing raises for what is wrong with a name or a file.

Read a folder of manifests and prove all of them.

Input: a folder (every *.yaml and *.yml below it, but for hidden ones), one file, or for `check` standard
input. Output: a `Reading` with the verdict and every finding, at the words of the file that it is about. What
is wrong in one file takes nothing else down with it. A field may be in a file beside its manifest
(`fieldfiles`). Failure: `Trouble` when there is no such folder; or nothing of ours in it
(`demand_manifests`).
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from postroom.letter.language.bounds import Clocks
from postroom.letter.manifest import (
    FILE_FIELDS,
    FileResolver,
    LocatedObject,
    Manifest,
    ResolvedObject,
    read_manifests,
)
from postroom.letter.problems import Code, Problem, Severity, did_you_mean
from postroom.letter.references import ObjectKey, layout_field
from postroom.letter.template import HTML_CHARACTERS, TEXT_CHARACTERS, EmailLayout, EmailTemplate
from postroom.letter.validation.rules import RULES
from postroom.letter.validation.validate import (
    ManifestValidation,
    TemplateValidation,
    ValidateEach,
    ValidationCache,
    object_key,
    validate_manifests,
)
from postroom.local.errors import UserError

FIELD_LIMITS = {"html": HTML_CHARACTERS, "text": TEXT_CHARACTERS, "css": TEXT_CHARACTERS}
BYTES_PER_CHARACTER = 4
BYTE_ORDER_MARK = 3
PLACEHOLDER = "-"
"""The text of a field whose file cannot be read, so that the field is not said to be missing as well."""


@dataclass(slots=True)
class FieldFiles:
    """Resolves the file fields of one manifest file's objects."""

    manifest: Path
    folder: Path
    """The folder that no path leads out of."""
    shown: str
    """The manifest as messages name it."""
    referenced_files: set[Path] = field(default_factory=set)
    """Every file that was named, whether it is there or not."""

    def __call__(self, value: dict[str, Any]) -> ResolvedObject:
        """The object with the texts in it; `value` is left as it is."""
        spec = value.get("spec")
        if not isinstance(spec, dict):
            return ResolvedObject(value)
        files: dict[str, str] = {}
        problems: list[Problem] = []
        kind = str(value.get("kind"))
        whole = self._part(spec, "spec", _SPEC_FILES.get(kind, ()), (files, problems))
        for member, inner in _MEMBER_FILES.get(kind, {}).items():
            if isinstance(whole.get(member), list):
                whole[member] = [
                    self._part(each, f"spec.{member}[{index}]", inner, (files, problems))
                    if isinstance(each, dict)
                    else each
                    for index, each in enumerate(whole[member])
                ]
        return ResolvedObject({**value, "spec": whole}, files, tuple(problems))

    def _part(
        self,
        part: dict[str, Any],
        path: str,
        names: tuple[str, ...],
        found: tuple[dict[str, str], list[Problem]],
    ) -> dict[str, Any]:
        files, problems = found
        whole = dict(part)
        for name in names:
            if whole.get(name) is None:
                continue
            inline = FILE_FIELDS[name]
            place = f"{path}.{name}"
            wanted = whole.pop(name)
            if whole.get(inline) is not None:
                problems.append(_file_problem(place, f"and {inline} are both there; keep one of them"))
                continue
            text = self._text(wanted, place, FIELD_LIMITS[inline])
            if isinstance(text, Problem):
                problems.append(text)
                whole[inline] = PLACEHOLDER
            else:
                whole[inline] = text
                files[f"{path}.{inline}"] = self._shown(wanted)
        return whole

    def _text(self, wanted: Any, place: str, limit: int) -> str | Problem:
        path = self._path(wanted, place)
        if isinstance(path, Problem):
            return path
        most = limit * BYTES_PER_CHARACTER + BYTE_ORDER_MARK
        try:
            with path.open("rb") as stream:
                data = stream.read(most + 1)
        except OSError as error:
            return _file_problem(place, f"{wanted} cannot be read: {error.strerror}")
        if len(data) > most:  # one character too many is enough for the model to refuse it
            return " " * (limit + 1)
        try:
            return StringIO(data.decode("utf-8-sig"), newline=None).read(limit + 1)
        except UnicodeDecodeError as error:
            return _file_problem(place, f"{wanted} is not UTF-8 (byte {error.start}); save it as UTF-8")

    def _path(self, wanted: Any, place: str) -> Path | Problem:
        if not isinstance(wanted, str) or not wanted.strip() or "\0" in wanted:
            return _file_problem(place, "must be the name of a file beside the manifest, like order.html")
        if PurePosixPath(wanted).is_absolute() or Path(wanted).is_absolute() or "://" in wanted:
            return _file_problem(place, f"{wanted} must be a path relative to the manifest, like order.html")
        path = self.manifest.parent / wanted
        try:
            real = path.resolve()
            if not real.is_relative_to(self.folder.resolve()):
                rule = f"{wanted} leads out of {self.folder}; move the file into that folder"
                return _file_problem(place, rule)
            self.referenced_files |= {real, path.absolute()}
            if real.is_file():
                return path
            there = sorted(
                str(Path(wanted).parent / each.name) for each in real.parent.glob("*") if each.is_file()
            )
        except (OSError, RuntimeError, ValueError) as error:
            return _file_problem(place, f"{wanted} cannot be read: {error}")
        return _file_problem(
            place, f"there is no file {wanted} beside {self.shown}{did_you_mean(wanted, there)}"
        )

    def _shown(self, wanted: str) -> str:
        """The file as a person would type it: beside the manifest."""
        return str(Path(self.shown).parent / wanted)


_MEMBER_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "EmailTemplate": {"locales": ("htmlFile", "textFile")},
    "EmailLayout": {"partials": ("htmlFile",)},
}
_SPEC_FILES: dict[str, tuple[str, ...]] = {
    "EmailTemplate": ("htmlFile", "textFile", "cssFile"),
    "EmailLayout": ("htmlFile", "cssFile"),
}


def _file_problem(place: str, rule: str) -> Problem:
    return Problem(Code.MANIFEST_INVALID, place, rule)


STANDARD_INPUT = Path("-")
SUFFIXES = frozenset({".yaml", ".yml"})
FILE_FIELD = b"File"
"""What the names of all fields end with that name a file."""
OnFirstValidated = Callable[[EmailTemplate, TemplateValidation], None]
"""Takes the proof of one template before the others are proved."""
MAX_FILE_BYTES = 8 * 1024 * 1024
"""Bytes of a manifest file; an object has at most 1 MiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or could be better, at some words of a line of a file.

    Columns are 1-based and count Python characters; `end_column` is the column after the last one.
    """

    file: str
    line: int
    rule: str
    message: str
    severity: Severity = Severity.ERROR
    subject: str = ""
    """The object: `EmailTemplate welcome`."""
    column: int = 1
    end_column: int = 2
    source: str = ""
    """The line itself."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.rule}: {self.message}"

    @property
    def why(self) -> str:
        """Why it matters, or nothing where the message says all."""
        return self._text("why")

    @property
    def help(self) -> str:
        """What to do."""
        return self._text("help")

    def _text(self, name: Literal["why", "help"]) -> str:
        code = next((code for code in RULES if code == self.rule), None)
        return str(getattr(RULES[code], name)) if code else ""


@dataclass(frozen=True, slots=True)
class ManifestSet:
    """A folder as it was read: what it declares, what was proved, what is wrong."""

    objects: tuple[Manifest, ...] = ()
    validation: ManifestValidation = field(default_factory=ManifestValidation)
    findings: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()
    """Objects of others, which are left alone."""
    files: int = 0
    complete: bool = True
    """Whether every object of ours could be read; if not, what is missing may be in what could not."""
    places: Mapping[ObjectKey, str] = field(default_factory=dict)
    """The file that each object stands in."""
    unread_templates: int = 0
    """Templates that could not be read: they were not proved, and do not pass."""
    referenced_files: frozenset[Path] = frozenset()
    """The files that manifests name (`htmlFile`), whether they are there or not."""
    located: tuple[LocatedObject, ...] = ()
    """Every object in the order of the files, also those of others and those that could not be read."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps something from going live."""
        return self.of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What readers may see wrong."""
        return self.of(Severity.WARNING)

    @property
    def infos(self) -> tuple[Finding, ...]:
        """What is good to know and needs nothing."""
        return self.of(Severity.INFO)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of a severity, in the order of their places."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def without(self, severity: Severity) -> "ManifestSet":
        """The same without the findings of a severity."""
        return replace(self, findings=tuple(each for each in self.findings if each.severity is not severity))

    def by_rule(self) -> dict[str, list[Finding]]:
        """The findings of each rule that found something: what a corpus counts false alarms with."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.rule, []).append(finding)
        return found


def read_manifest_folder(folder: Path) -> ManifestSet:
    """Everything below a folder, read and proved; raises Trouble."""
    return FolderReader(folder).read()


class FolderReader:
    """Reads one folder again and again; only what has changed since the last time is parsed and proved.

    One reading at a time: it is not safe for concurrent calls.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parsed: dict[str, _ParsedFile] = {}
        """By the name of a manifest file."""
        self._proofs = ValidationCache(Clocks(time.monotonic, time.thread_time))

    def read(self, first: ObjectKey | None = None, on_first: OnFirstValidated | None = None) -> ManifestSet:
        """Everything below the folder, read and proved; raises Trouble.

        The template `first` is proved before all others and given to `early` at once: after an edit of a
        layout the rest takes as long as all templates that use it.
        """
        files = list(manifest_files(self._folder))
        before, self._parsed = self._parsed, {}
        referenced_files: set[Path] = set()
        found = [located for file in files for located in self._read(file, before, referenced_files)]
        if first and on_first:
            self._validate_first(first, {_key(each): each.object for each in reversed(found)}, on_first)
        whole = _ManifestFiles(found, len(files), frozenset(referenced_files))
        return _validate(whole, validate_each=self._proofs.validate_each)

    def _validate_first(
        self, key: ObjectKey, objects: Mapping[ObjectKey, Manifest | None], on_first: OnFirstValidated
    ) -> None:
        template = objects.get(key)
        if not isinstance(template, EmailTemplate):
            return
        ref = template.spec.layout_ref
        layout = objects.get(ObjectKey("EmailLayout", key.namespace, ref.name)) if ref else None
        if ref is None or isinstance(layout, EmailLayout):
            page = layout if isinstance(layout, EmailLayout) else None
            on_first(template, self._proofs.validate(template, page))

    def _read(
        self, file: Path, before: Mapping[str, "_ParsedFile"], referenced_files: set[Path]
    ) -> list[LocatedObject]:
        name = _display_path(file, self._folder)
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return [_unreadable(name, f"cannot be read: {error.strerror}")]
        kept = before.get(name)
        same = kept is not None and kept.data == data
        beside = _contents(kept.beside) if kept and same else self._named(data, name, file)
        if kept is None or not same or None in beside.values() or beside != kept.beside:
            # after the contents were taken: a save in between is found at the next reading
            located = _read_bytes(data, name, _field_files(file, self._folder, set()))
            kept = _ParsedFile(data, located, beside)
        self._parsed[name] = kept
        referenced_files.update(kept.beside)
        return kept.located

    def _named(self, data: bytes, name: str, file: Path) -> dict[Path, bytes | None]:
        """The files that a manifest names, with what is in them."""
        if FILE_FIELD not in data:
            return {}
        named: set[Path] = set()
        _read_bytes(data, name, _field_files(file, self._folder, named))
        return _contents(named)


@dataclass(frozen=True, slots=True)
class _ParsedFile:
    """A manifest file as it was parsed."""

    data: bytes
    located: list[LocatedObject]
    beside: Mapping[Path, bytes | None]
    """The files that it names, with what was in them; None for one that could not be read."""


def _contents(files: Iterable[Path]) -> dict[Path, bytes | None]:
    return {file: _read_or_none(file) for file in files}


def _read_or_none(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES)
    except OSError:
        return None


Inspection = Callable[[Iterable[Manifest], ManifestValidation], ManifestValidation]
"""A further check of proved objects, which adds its findings to the proofs."""


def read_input(
    source: Path,
    context: Iterable[Path] = (),
    *,
    elsewhere: bool = False,
    validate_each: ValidateEach | None = None,
    inspection: Inspection | None = None,
) -> ManifestSet:
    """What is to be checked: a folder, a file, or `-`; raises Trouble.

    What the folders of `context` declare may be referred to and is not judged itself; what cannot be read
    there is not there. With `elsewhere`, profiles and layouts that are missing are warnings.
    `validate_each` may prove in several processes; `inspection` looks at what was proved.
    """
    around = [located for folder in context for located in _read_all(folder).located]
    if source == STANDARD_INPUT:
        asked = _ManifestFiles(_read_stream(sys.stdin.buffer, "<stdin>"))
    else:
        asked = _read_all(source)
    return _validate(asked, around, elsewhere=elsewhere, validate_each=validate_each, inspection=inspection)


@dataclass(frozen=True, slots=True)
class _ManifestFiles:
    """What the manifest files of a folder hold."""

    located: list[LocatedObject]
    files: int = 1
    referenced_files: frozenset[Path] = frozenset()


def _read_all(folder: Path) -> _ManifestFiles:
    files = list(manifest_files(folder))
    referenced_files: set[Path] = set()
    located = [each for file in files for each in _read(file, folder, referenced_files)]
    return _ManifestFiles(located, len(files), frozenset(referenced_files))


def _validate(
    read: _ManifestFiles,
    around: Iterable[LocatedObject] = (),
    *,
    elsewhere: bool = False,
    validate_each: ValidateEach | None = None,
    inspection: Inspection | None = None,
) -> ManifestSet:
    found = read.located
    own = {_key(located) for located in found}
    others = [each for each in around if _key(each) not in own]
    objects = tuple(located.object for located in found if located.object is not None)
    faulty = (_key(located) for located in found if located.problems)
    before = [other.object for other in others if other.object is not None]
    clocks = Clocks(time.monotonic, time.thread_time)
    together = (*before, *objects)
    validation = validate_manifests(
        together, clocks, faulty, incomplete=elsewhere, validate_each=validate_each
    )
    validation = _only(own, validation)
    if inspection is not None:
        validation = inspection(together, validation)
    unread = [finding for located in found for finding in _findings(located, located.problems)]
    proved = list(_validation_findings([*others, *found], validation))
    return ManifestSet(
        objects,
        validation,
        tuple(dict.fromkeys(sorted([*unread, *proved], key=_finding_position))),
        tuple(f"{located.file}: {located.skipped}" for located in found if located.skipped),
        read.files,
        complete=not unread,
        places={object_key(located.object): located.file for located in found if located.object is not None},
        unread_templates=sum(
            located.kind == "EmailTemplate" and located.object is None and bool(located.problems)
            for located in found
        ),
        referenced_files=read.referenced_files,
        located=tuple(found),
    )


def _finding_position(finding: Finding) -> tuple[str, int, int]:
    return finding.file, finding.line, finding.column


def _key(located: LocatedObject) -> ObjectKey:
    return ObjectKey(located.kind, located.namespace, located.name)


def _only(own: set[ObjectKey], validation: ManifestValidation) -> ManifestValidation:
    proofs = {key: proof for key, proof in validation.results.items() if key in own}
    return ManifestValidation(proofs, {key: each for key, each in validation.profiles.items() if key in own})


def require_manifests(manifest_set: ManifestSet, folder: Path) -> None:
    """Raise Trouble when a folder declares nothing of ours: a green check of nothing would deceive."""
    if manifest_set.objects or manifest_set.findings:
        return
    if folder == STANDARD_INPUT:
        raise UserError(
            "Standard input holds no manifest of Postroom.",
            "Look at what the command before the pipe prints: kustomize build . | postroom check -",
        )
    read = (
        "no *.yaml or *.yml file" if not manifest_set.files else "no manifest of Postroom in its YAML files"
    )
    raise UserError(
        f"{folder} holds {read}.",
        "Name the folder with your EmailTemplates and SmtpProfiles (apiVersion: postroom.dev/v1alpha1).",
    )


def manifest_files(folder: Path) -> Iterator[Path]:
    """The manifest files of a folder in the order of their names, or the one file that was named."""
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}.", "Name the folder that holds your manifests (*.yaml)."
        )
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in SUFFIXES and path.is_file() and not hidden:
            yield path


def _read(file: Path, folder: Path, referenced_files: set[Path]) -> list[LocatedObject]:
    name = _display_path(file, folder)
    try:
        with file.open("rb") as stream:
            return _read_stream(stream, name, _field_files(file, folder, referenced_files))
    except OSError as error:
        return [_unreadable(name, f"cannot be read: {error.strerror}")]


def _field_files(file: Path, folder: Path, referenced_files: set[Path]) -> FieldFiles:
    root = file.parent if folder.is_file() else folder
    return FieldFiles(file, root, _display_path(file, folder), referenced_files)


def _read_stream(stream: BinaryIO, name: str, resolve: FileResolver | None = None) -> list[LocatedObject]:
    return _read_bytes(stream.read(MAX_FILE_BYTES + 1), name, resolve)


def _read_bytes(data: bytes, name: str, resolve: FileResolver | None) -> list[LocatedObject]:
    """The objects of a file, or of as much of it as shows that it is too large."""
    if len(data) > MAX_FILE_BYTES:
        return [_unreadable(name, f"is larger than {MAX_FILE_BYTES // 1024**2} MiB; split it")]
    try:
        text = StringIO(data.decode("utf-8"), newline=None).read()
    except UnicodeDecodeError as error:
        return [_unreadable(name, f"is not UTF-8 (byte {error.start})")]
    return list(read_manifests(text, name, resolve))


def _unreadable(name: str, rule: str) -> LocatedObject:
    return LocatedObject(name, 1, problems=(Problem(Code.MANIFEST_INVALID, "manifest", rule),))


def _display_path(file: Path, folder: Path) -> str:
    """The file as a person would type it: below the folder that was named."""
    return str(file if folder.is_file() else folder / file.relative_to(folder))


def _validation_findings(found: Iterable[LocatedObject], validation: ManifestValidation) -> Iterator[Finding]:
    """The findings of every proof, at the lines of the objects that they are about."""
    places: dict[ObjectKey, LocatedObject] = {}
    for located in found:
        if located.object is not None:
            places[object_key(located.object)] = located  # of two with one name the second is at fault
    for key, proof in validation.results.items():
        for problem in (*proof.problems, *proof.warnings):
            yield from _located_findings(problem, key, places)


def _located_findings(
    problem: Problem, key: ObjectKey, places: Mapping[ObjectKey, LocatedObject]
) -> Iterator[Finding]:
    """A problem of a template may be in its layout: then it is shown there."""
    for other, located in places.items():
        own = layout_field(other.name)
        if other.kind == "EmailLayout" and other.namespace == key.namespace and problem.field.startswith(own):
            yield from _findings(located, [replace(problem, field="spec" + problem.field[len(own) :])])
            return
    yield from _findings(places[key], [problem])


def _findings(located: LocatedObject, problems: Iterable[Problem]) -> Iterator[Finding]:
    subject = f"{located.kind} {located.name}".strip()
    for problem in problems:
        message = (
            problem.message if _is_shown_by_the_excerpt(problem) else f"{problem.field} {problem.message}"
        )
        spot = located.source_range(problem)
        yield Finding(
            spot.file,
            spot.line,
            str(problem.code),
            message,
            problem.severity,
            subject,
            spot.column,
            spot.end,
            spot.source,
        )


def _is_shown_by_the_excerpt(problem: Problem) -> bool:
    """Whether the message says all; else the field is named before it."""
    rule = RULES.get(problem.code)
    return problem.field == "manifest" or (rule is not None and rule.is_lint)
