"""Read a folder of manifests and validate every object in it.

Input: a folder (every *.yaml and *.yml below it, except hidden files), a single file, or for `check` standard
input. Output: a `ManifestSet` with the validation results and every finding, at the position in the file that
it is about. An invalid file does not affect the other files. Failure: `UserError` when the folder does not
exist; from `require_manifests` also when it holds no manifest of Postroom.

A field may name a file beside its manifest: `htmlFile: order.html` becomes `html` with the file's text
(`FieldFiles`). A path is relative to the manifest and stays inside the folder, also through symbolic links,
so that a manifest cannot read other files of the machine. An unusable name or file becomes a problem of the
object; it raises nothing.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from postroom.letter.language.bounds import Timers
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
"""The text of a field whose file cannot be read, so that the field is not reported as missing too."""


@dataclass(slots=True)
class FieldFiles:
    """Resolves the file fields of the objects of a manifest file."""

    manifest: Path
    folder: Path
    """The folder that every path must stay inside."""
    shown: str
    """The manifest's path in messages."""
    referenced_files: set[Path] = field(default_factory=set)
    """Every file that the manifest names; it need not exist."""

    def __call__(self, value: dict[str, Any]) -> ResolvedObject:
        """Return the object with the files' texts in it; `value` is not changed."""
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
            field_path = f"{path}.{name}"
            wanted = whole.pop(name)
            if whole.get(inline) is not None:
                problems.append(_file_problem(field_path, f"and {inline} are both set; keep one of them"))
                continue
            text = self._text(wanted, field_path, FIELD_LIMITS[inline])
            if isinstance(text, Problem):
                problems.append(text)
                whole[inline] = PLACEHOLDER
            else:
                whole[inline] = text
                files[f"{path}.{inline}"] = self._shown(wanted)
        return whole

    def _text(self, wanted: Any, field_path: str, limit: int) -> str | Problem:
        path = self._path(wanted, field_path)
        if isinstance(path, Problem):
            return path
        most = limit * BYTES_PER_CHARACTER + BYTE_ORDER_MARK
        try:
            with path.open("rb") as stream:
                data = stream.read(most + 1)
        except OSError as error:
            return _file_problem(field_path, f"{wanted} cannot be read: {error.strerror}")
        if len(data) > most:  # one character too many, so that the model rejects the field
            return " " * (limit + 1)
        try:
            return StringIO(data.decode("utf-8-sig"), newline=None).read(limit + 1)
        except UnicodeDecodeError as error:
            return _file_problem(field_path, f"{wanted} is not UTF-8 (byte {error.start}); save it as UTF-8")

    def _path(self, wanted: Any, field_path: str) -> Path | Problem:
        if not isinstance(wanted, str) or not wanted.strip() or "\0" in wanted:
            return _file_problem(
                field_path, "must be the name of a file beside the manifest, for example order.html"
            )
        if PurePosixPath(wanted).is_absolute() or Path(wanted).is_absolute() or "://" in wanted:
            return _file_problem(
                field_path, f"{wanted} must be a path relative to the manifest, for example order.html"
            )
        path = self.manifest.parent / wanted
        try:
            real = path.resolve()
            if not real.is_relative_to(self.folder.resolve()):
                rule = f"{wanted} is outside of {self.folder}; move the file into that folder"
                return _file_problem(field_path, rule)
            self.referenced_files |= {real, path.absolute()}
            if real.is_file():
                return path
            there = sorted(
                str(Path(wanted).parent / file.name) for file in real.parent.glob("*") if file.is_file()
            )
        except (OSError, RuntimeError, ValueError) as error:
            return _file_problem(field_path, f"{wanted} cannot be read: {error}")
        return _file_problem(
            field_path, f"there is no file {wanted} beside {self.shown}{did_you_mean(wanted, there)}"
        )

    def _shown(self, wanted: str) -> str:
        """Return the path of a named file for messages: below the manifest's folder."""
        return str(Path(self.shown).parent / wanted)


_MEMBER_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "EmailTemplate": {"locales": ("htmlFile", "textFile")},
    "EmailLayout": {"partials": ("htmlFile",)},
}
_SPEC_FILES: dict[str, tuple[str, ...]] = {
    "EmailTemplate": ("htmlFile", "textFile", "cssFile"),
    "EmailLayout": ("htmlFile", "cssFile"),
}


def _file_problem(field_path: str, rule: str) -> Problem:
    return Problem(Code.MANIFEST_INVALID, field_path, rule)


STANDARD_INPUT = Path("-")
SUFFIXES = frozenset({".yaml", ".yml"})
FILE_FIELD = b"File"
"""The suffix of the fields that name a file."""
OnFirstValidated = Callable[[EmailTemplate, TemplateValidation], None]
"""Called with the result of the first template before the others are validated."""
MAX_FILE_BYTES = 8 * 1024 * 1024
"""Maximum size of a manifest file in bytes; the API server limits an object to about 1 MiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An error, warning or info about a range of characters in a line of a file.

    Columns are 1-based and count Python characters; `end_column` is the column after the last one.
    """

    file: str
    line: int
    rule: str
    message: str
    severity: Severity = Severity.ERROR
    subject: str = ""
    """The object, for example `EmailTemplate welcome`."""
    column: int = 1
    end_column: int = 2
    source: str = ""
    """The text of the line."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.rule}: {self.message}"

    @property
    def why(self) -> str:
        """Why the finding matters; empty when the message is enough."""
        return self._text("why")

    @property
    def help(self) -> str:
        """How to fix the finding."""
        return self._text("help")

    def _text(self, name: Literal["why", "help"]) -> str:
        code = next((code for code in RULES if code == self.rule), None)
        return str(getattr(RULES[code], name)) if code else ""


@dataclass(frozen=True, slots=True)
class ManifestSet:
    """The manifests of a folder: objects, validation results, findings."""

    objects: tuple[Manifest, ...] = ()
    validation: ManifestValidation = field(default_factory=ManifestValidation)
    findings: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()
    """Objects of other APIs, which are not checked."""
    files: int = 0
    complete: bool = True
    """Whether every manifest could be read; a missing object may be in an unreadable file."""
    places: Mapping[ObjectKey, str] = field(default_factory=dict)
    """The file of each object."""
    unread_templates: int = 0
    """Templates that could not be read; they were not validated, and do not pass."""
    referenced_files: frozenset[Path] = frozenset()
    """The files that manifests name (`htmlFile`); they need not exist."""
    located: tuple[LocatedObject, ...] = ()
    """Every object in the order of the files, with objects of other APIs and unreadable ones."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that keep an object from going live."""
        return self.of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that may affect what recipients see."""
        return self.of(Severity.WARNING)

    @property
    def infos(self) -> tuple[Finding, ...]:
        """Findings that need no action."""
        return self.of(Severity.INFO)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of a severity, in the order of their positions."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def without(self, severity: Severity) -> "ManifestSet":
        """Return a copy without the findings of a severity."""
        return replace(
            self, findings=tuple(finding for finding in self.findings if finding.severity is not severity)
        )

    def by_rule(self) -> dict[str, list[Finding]]:
        """Return rule → findings, for counting the false alarms of a corpus."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.rule, []).append(finding)
        return found


def read_manifest_folder(folder: Path) -> ManifestSet:
    """Read and validate the manifests below a folder; raises UserError."""
    return FolderReader(folder).read()


class FolderReader:
    """Reads a folder repeatedly; parses and validates only what changed since the last call.

    Not safe for concurrent calls.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parsed: dict[str, _ParsedFile] = {}
        """Path of a manifest file in messages → its parsed content."""
        self._cache = ValidationCache(Timers(time.monotonic, time.thread_time))

    def read(self, first: ObjectKey | None = None, on_first: OnFirstValidated | None = None) -> ManifestSet:
        """Read and validate the manifests below the folder; raises UserError.

        The template `first` is validated before the others, and its result passed to `on_first` at once:
        after an edit of a layout, all templates that use it are validated, which can take long.
        """
        files = list(manifest_files(self._folder))
        before, self._parsed = self._parsed, {}
        referenced_files: set[Path] = set()
        found = [located for file in files for located in self._read(file, before, referenced_files)]
        if first and on_first:
            self._validate_first(
                first, {_key(located): located.object for located in reversed(found)}, on_first
            )
        read = _ManifestFiles(found, len(files), frozenset(referenced_files))
        return _validate(read, validate_each=self._cache.validate_each)

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
            on_first(template, self._cache.validate(template, page))

    def _read(
        self, file: Path, before: Mapping[str, "_ParsedFile"], referenced_files: set[Path]
    ) -> list[LocatedObject]:
        name = _display_path(file, self._folder)
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return [_unreadable(name, f"cannot be read: {error.strerror}")]
        parsed = before.get(name)
        unchanged = parsed is not None and parsed.data == data
        contents = _contents(parsed.contents) if parsed and unchanged else self._named_files(data, name, file)
        if parsed is None or not unchanged or None in contents.values() or contents != parsed.contents:
            # parsed after the contents were read: a save in between is found by the next call
            located = _read_bytes(data, name, _field_files(file, self._folder, set()))
            parsed = _ParsedFile(data, located, contents)
        self._parsed[name] = parsed
        referenced_files.update(parsed.contents)
        return parsed.located

    def _named_files(self, data: bytes, name: str, file: Path) -> dict[Path, bytes | None]:
        """Return the files that a manifest names, with their contents."""
        if FILE_FIELD not in data:
            return {}
        named: set[Path] = set()
        _read_bytes(data, name, _field_files(file, self._folder, named))
        return _contents(named)


@dataclass(frozen=True, slots=True)
class _ParsedFile:
    """A parsed manifest file."""

    data: bytes
    located: list[LocatedObject]
    contents: Mapping[Path, bytes | None]
    """The files that the manifest names, with their contents; None for an unreadable file."""


def _contents(files: Iterable[Path]) -> dict[Path, bytes | None]:
    return {file: _read_or_none(file) for file in files}


def _read_or_none(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES)
    except OSError:
        return None


Inspection = Callable[[Iterable[Manifest], ManifestValidation], ManifestValidation]
"""A further check of validated objects, which adds its findings to the results."""


def read_input(
    source: Path,
    context: Iterable[Path] = (),
    *,
    elsewhere: bool = False,
    validate_each: ValidateEach | None = None,
    inspection: Inspection | None = None,
) -> ManifestSet:
    """Read and validate a folder, a file, or `-` for standard input; raises UserError.

    Objects in the folders of `context` may be referenced, but are not checked themselves; unreadable files
    there are ignored. With `elsewhere`, a missing profile or layout is a warning. `validate_each` may use
    several processes; `inspection` checks the validated objects further.
    """
    context_objects = [located for folder in context for located in _read_all(folder).located]
    if source == STANDARD_INPUT:
        read = _ManifestFiles(_read_stream(sys.stdin.buffer, "<stdin>"))
    else:
        read = _read_all(source)
    return _validate(
        read, context_objects, elsewhere=elsewhere, validate_each=validate_each, inspection=inspection
    )


@dataclass(frozen=True, slots=True)
class _ManifestFiles:
    """The objects in the manifest files of a folder."""

    located: list[LocatedObject]
    files: int = 1
    referenced_files: frozenset[Path] = frozenset()


def _read_all(folder: Path) -> _ManifestFiles:
    files = list(manifest_files(folder))
    referenced_files: set[Path] = set()
    found = [located for file in files for located in _read(file, folder, referenced_files)]
    return _ManifestFiles(found, len(files), frozenset(referenced_files))


def _validate(
    read: _ManifestFiles,
    context_objects: Iterable[LocatedObject] = (),
    *,
    elsewhere: bool = False,
    validate_each: ValidateEach | None = None,
    inspection: Inspection | None = None,
) -> ManifestSet:
    found = read.located
    own = {_key(located) for located in found}
    others = [located for located in context_objects if _key(located) not in own]
    objects = tuple(located.object for located in found if located.object is not None)
    faulty = (_key(located) for located in found if located.problems)
    before = [other.object for other in others if other.object is not None]
    clocks = Timers(time.monotonic, time.thread_time)
    together = (*before, *objects)
    validation = validate_manifests(
        together, clocks, faulty, incomplete=elsewhere, validate_each=validate_each
    )
    validation = _only(own, validation)
    if inspection is not None:
        validation = inspection(together, validation)
    unread = [finding for located in found for finding in _findings(located, located.problems)]
    validated = list(_validation_findings([*others, *found], validation))
    return ManifestSet(
        objects,
        validation,
        tuple(dict.fromkeys(sorted([*unread, *validated], key=_finding_position))),
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
    results = {key: result for key, result in validation.results.items() if key in own}
    return ManifestValidation(
        results, {key: profile for key, profile in validation.profiles.items() if key in own}
    )


def require_manifests(manifest_set: ManifestSet, folder: Path) -> None:
    """Raise UserError when a folder holds no manifest of Postroom, so that an empty check does not pass."""
    if manifest_set.objects or manifest_set.findings:
        return
    if folder == STANDARD_INPUT:
        raise UserError(
            "Standard input holds no manifest of Postroom.",
            "Check the output of the command before the pipe: kustomize build . | postroom check -",
        )
    content = (
        "no *.yaml or *.yml file" if not manifest_set.files else "YAML files, but no manifest of Postroom"
    )
    raise UserError(
        f"{folder} holds {content}.",
        "Name the folder that holds EmailTemplates and SmtpProfiles (apiVersion: postroom.dev/v1alpha1).",
    )


def manifest_files(folder: Path) -> Iterator[Path]:
    """Yield the manifest files of a folder in the order of their names, or the file itself."""
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise UserError(
            f"The folder {folder} does not exist.", "Name the folder that holds your manifests (*.yaml)."
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
    """Read the objects of a file; unreadable data becomes an object with a problem."""
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
    """Return a file's path for messages: below the folder that was named."""
    return str(file if folder.is_file() else folder / file.relative_to(folder))


def _validation_findings(found: Iterable[LocatedObject], validation: ManifestValidation) -> Iterator[Finding]:
    """Yield the findings of all validated objects, at their positions in the files."""
    places: dict[ObjectKey, LocatedObject] = {}
    for located in found:
        if located.object is not None:
            places[object_key(located.object)] = (
                located  # of two objects with the same name the second has the problem
            )
    for key, result in validation.results.items():
        for problem in (*result.problems, *result.warnings):
            yield from _located_findings(problem, key, places)


def _located_findings(
    problem: Problem, key: ObjectKey, places: Mapping[ObjectKey, LocatedObject]
) -> Iterator[Finding]:
    """Yield the finding of a problem; a template's problem in its layout is located in the layout."""
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
    """Whether the excerpt shows the field; otherwise the message names it."""
    rule = RULES.get(problem.code)
    return problem.field == "manifest" or (rule is not None and rule.is_lint)
