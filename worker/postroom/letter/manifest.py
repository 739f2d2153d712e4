"""Manifests: YAML text in, one `Located` for each object out, with the lines that its problems are on.

A text may hold several documents, or a `List`, as for kubectl. Each object becomes its model, or the
problems that keep it from becoming one; objects of other API groups are skipped and say so. Nothing
raises: a text that is no YAML is one `Located` with that problem.

A caller that reads from a folder passes `resolve`, which replaces `htmlFile` and the like by the text of the
file beside the manifest. The models know whole manifests only.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from postroom.letter.hint import did_you_mean
from postroom.letter.problems import Code, Problem
from postroom.letter.profile import SmtpProfile
from postroom.letter.reading.explain import explain
from postroom.letter.reading.spec import API_VERSION, GROUP
from postroom.letter.reading.yamltree import Document, Unreadable, documents, lines_of
from postroom.letter.template import EmailLayout, EmailTemplate

OBJECT_CHARACTERS = 1024 * 1024
"""The API server takes objects of about 1 MiB; as JSON in ASCII, so that no encoding is larger."""

Manifest = EmailTemplate | EmailLayout | SmtpProfile

KINDS: dict[str, type[Manifest]] = {
    "EmailTemplate": EmailTemplate,
    "EmailLayout": EmailLayout,
    "SmtpProfile": SmtpProfile,
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """An object with the texts of the files that it names, and what is wrong with those names."""

    value: dict[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    """The file that each field's text stands in: `spec.html` → `letters/order.html`."""
    problems: tuple[Problem, ...] = ()


Resolve = Callable[[dict[str, Any]], Resolved]


@dataclass(frozen=True, slots=True)
class Spot:
    """A part of one line of a file: 1-based; `end` is the column after the last character."""

    file: str
    line: int
    column: int
    end: int
    source: str = ""
    """The line itself."""


@dataclass(frozen=True, slots=True)
class Located:
    """One object of a file: the model, or problems, or why it was skipped; and where its fields stand."""

    file: str
    first: int
    """The line of the file that the object, or the unreadable text, begins on."""
    kind: str = ""
    name: str = ""
    object: Manifest | None = None
    problems: tuple[Problem, ...] = ()
    skipped: str | None = None
    document: Document | None = None
    root: str = ""
    """The object's path in its document, when it is an item of a List."""
    namespace: str = "default"
    files: Mapping[str, str] = field(default_factory=dict)
    """The fields whose text stands in a file of its own, and that file."""
    value: Mapping[str, Any] | None = None
    """The object as it was written, files included; None for what is no object."""

    lines: Sequence[str] = ()
    """The file's lines, where there is no document."""

    def at(self, field: str = "", within: int | None = None) -> tuple[str, int]:
        """The file and the line of a field, or of line `within` of that field's text."""
        if field in self.files:
            return self.files[field], within or 1
        return self.file, self.line(field, within)

    def line(self, field: str = "", within: int | None = None) -> int:
        """The file's line of a field such as `spec.html`, or of line `within` of that field's text."""
        if self.document is None:
            return self.first
        return self.document.line(self._path(field), within)

    def _path(self, field: str) -> str:
        return f"{self.root}.{field}" if self.root and field else self.root or field

    def spot(self, problem: Problem) -> Spot:
        """The file, line and columns that a problem of this object is about.

        The words that are underlined are, in this order: what the problem's column and length say; the first
        name in backquotes of its message that stands on its line; the field's value or key.
        """
        if self.document is None:
            column = problem.column or 1
            return Spot(
                self.file, self.first, column, column + (problem.length or 1), self._written(self.first)
            )
        if problem.field in self.files:
            return self._spot_in_file(problem)
        path = self._path(problem.field if problem.field != "manifest" else "")
        if problem.line and problem.column:
            stretch = self.document.of_text(path, problem.line, problem.column, problem.length or 1)
            written, end = self._written(stretch.line), stretch.end
            if problem.length is None:
                start, end = _named(written, problem.message, stretch.column) or _word(
                    written, stretch.column
                )
                return Spot(self.file, stretch.line, start, end, written)
            return Spot(self.file, stretch.line, stretch.column, end, written)
        if problem.line and path in self.document.places:
            line = self.document.line(path, problem.line)
            written = self._written(line)
            start, end = _named(written, problem.message) or _whole(written)
            return Spot(self.file, line, start, end, written)
        whole_key = problem.code is Code.FIELD_UNKNOWN
        stretch = self.document.of_key(path) if whole_key else self.document.of_value(path)
        return Spot(self.file, stretch.line, stretch.column, stretch.end, self._written(stretch.line))

    def _spot_in_file(self, problem: Problem) -> Spot:
        """The place of a problem in a text that stands in a file of its own."""
        line = problem.line or 1
        lines = lines_of(_text_at(self.value or {}, problem.field))
        written = lines[line - 1] if line <= len(lines) else ""
        if problem.column and problem.length:
            start, end = problem.column, problem.column + problem.length
        elif problem.column:
            start, end = _named(written, problem.message, problem.column) or _word(written, problem.column)
        else:
            start, end = _named(written, problem.message) or _whole(written)
        return Spot(self.files[problem.field], line, start, max(end, start + 1), written)

    def _written(self, line: int) -> str:
        lines = self.document.lines if self.document else self.lines
        return lines[line - 1] if 0 < line <= len(lines) else ""

    def place(self, problem: Problem) -> str:
        """`welcome.yaml:61`, the line that a problem of this object is on."""
        file, line = self.at(problem.field, problem.line)
        return f"{file}:{line}"


def read(text: str, name: str, resolve: Resolve | None = None) -> Iterator[Located]:
    """Every object of a manifest's text; `name` is the file's, for the places of problems."""
    try:
        for document in documents(text):
            yield from _objects(document, document.value, name, resolve)
    except Unreadable as error:
        problem = Problem(Code.MANIFEST_INVALID, "manifest", error.rule, column=error.column)
        yield Located(name, error.line, problems=(problem,), lines=lines_of(text))


_QUOTED = re.compile(r"`([^`\n]+)`")


def _named(line: str, message: str, column: int = 1) -> tuple[int, int] | None:
    """The columns of the first name in backquotes of a message that stands on a line, from `column` on."""
    for name in _QUOTED.findall(message):
        whole = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        found = whole.search(line, column - 1)
        start = found.start() if found else -1
        if start >= 0:
            return start + 1, start + 1 + len(name)
    return None


def _text_at(value: Any, path: str) -> str:
    """The text at a path such as `spec.locales[0].html`."""
    for step in re.findall(r"[^.\[\]]+", path):
        value = value[int(step)] if isinstance(value, list) else value.get(step, "")
    return value if isinstance(value, str) else ""


def _word(line: str, column: int) -> tuple[int, int]:
    """The columns of the word that begins at a column."""
    found = re.compile(r"[\w@.#-]+|.").match(line, column - 1)
    return column, found.end() + 1 if found else column + 1


def _whole(line: str) -> tuple[int, int]:
    """The columns of a line's text."""
    text = line.strip()
    start = len(line) - len(line.lstrip()) if text else 0
    return start + 1, start + 1 + max(1, len(text))


def _objects(
    document: Document, value: Any, file: str, resolve: Resolve | None, root: str = ""
) -> Iterator[Located]:
    if (
        isinstance(value, dict)
        and value.get("kind") == "List"
        and isinstance(value.get("items"), list)
        and not root
    ):
        for index, item in enumerate(value["items"]):
            yield from _objects(document, item, file, resolve, f"items[{index}]")
        return
    first = document.line(root)
    if not isinstance(value, dict):
        problem = Problem(
            Code.MANIFEST_INVALID, "manifest", "is not an object with apiVersion, kind and metadata"
        )
        yield Located(file, first, problems=(problem,), document=document, root=root)
        return
    kind, name = _text(value.get("kind")), _text(_member(value, "metadata", "name"))
    namespace = _text(_member(value, "metadata", "namespace")) or "default"
    whole = resolve(value) if resolve and _is_ours(value) else Resolved(value)
    found, problems, skipped = understand(whole.value, kind)
    if whole.problems:
        found, problems = None, (*whole.problems, *problems)
    located = Located(
        file,
        first,
        kind,
        name,
        found,
        skipped=skipped,
        document=document,
        root=root,
        namespace=namespace,
        files=whole.files,
        value=whole.value,
    )
    yield replace(located, problems=tuple(sorted(problems, key=lambda each: located.line(each.field))))


def _is_ours(value: dict[str, Any]) -> bool:
    return _text(value.get("apiVersion")).partition("/")[0] == GROUP


def understand(value: dict[str, Any], kind: str) -> tuple[Manifest | None, tuple[Problem, ...], str | None]:
    """An object as the API server gives it: its model, or its problems, or why it is none of ours."""
    version = _text(value.get("apiVersion"))
    ours = version.partition("/")[0] == GROUP
    if not ours and kind not in KINDS:
        if not version or not kind:
            return (
                None,
                _wrong("apiVersion" if not version else "kind", "is required", Code.FIELD_MISSING),
                None,
            )
        return None, (), f"{kind} of {version} is not Postroom's"
    if version != API_VERSION:
        rule = f"is {version[:80]!r}; " if version else "is required; "
        return None, _wrong("apiVersion", f"{rule}write {API_VERSION} for kind {kind[:80]}"), None
    model = KINDS.get(kind)
    if model is None:
        return (
            None,
            _wrong("kind", f"{kind[:80]!r} is not a kind of {API_VERSION}{did_you_mean(kind, KINDS)}"),
            None,
        )
    if len(json.dumps(value)) > OBJECT_CHARACTERS:
        return (
            None,
            _wrong("spec", "is larger than 1 MiB as JSON, the API server's limit", Code.TOO_LARGE),
            None,
        )
    try:
        return validated(model, value), (), None
    except ValidationError as error:
        return None, tuple(explain(model, error)), None


def validated(model: type[Manifest], value: dict[str, Any]) -> Manifest:
    """The object's model, read strictly; raises ValidationError."""
    return model.model_validate(value, strict=True, by_alias=True, by_name=False)


def _wrong(field: str, rule: str, code: Code = Code.MANIFEST_INVALID) -> tuple[Problem, ...]:
    return (Problem(code, field, rule),)


def _member(value: Any, *path: str) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
