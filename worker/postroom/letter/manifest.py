"""Manifests: YAML text in, one `LocatedObject` for each object out, with the lines of its problems.

A text may hold several documents, or a `List`, as for kubectl. Each object becomes its model, or the problems
that prevent it; objects of other API groups are skipped with a reason. Nothing raises: a text that is not
YAML is one `LocatedObject` with that problem. A caller that reads from a folder passes `resolve`, which
replaces `htmlFile` and similar fields by the text of the file beside the manifest; the models know only whole
manifests.

`explain_validation_error` turns pydantic's errors into problems: each has the dotted path of the field
(`spec.smtp.port`, `spec.samples[0].name`), a sentence and, for an unknown name, the nearest known one.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from postroom.letter.manifest_fields import API_VERSION, GROUP
from postroom.letter.problems import Code, Problem, did_you_mean, nearest_name
from postroom.letter.profile import SmtpProfile
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.yaml_positions import InvalidYaml, YamlDocument, yaml_documents, yaml_lines

Location = tuple[int | str, ...]

FILE_FIELDS = {"htmlFile": "html", "textFile": "text", "cssFile": "css"}
"""Fields that name a file beside the manifest, and the field that holds the file's text.

They are replaced before validation when a manifest is read from a folder; no model has them.
"""
_IN_FOLDERS_ONLY = (
    "names a file, which only `postroom check DIR` and `postroom up DIR` read, from the manifest's folder; "
    "run `postroom build DIR` and use the manifest that it writes"
)

_MUST_BE = {
    "string_type": "text; put it in quotes if it looks like a number or yes/no",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_short": ("min_length", "at least {} characters long"),
    "string_too_long": ("max_length", "at most {} characters long"),
    "too_short": ("min_length", "a list of at least {}"),
    "too_long": ("max_length", "of at most {} entries"),
}
_PATTERNS = {
    "tag": "a BCP 47 language tag, like en or pt-BR",
    "locale": "a BCP 47 language tag, like en or pt-BR",
    "defaultLocale": "a BCP 47 language tag, like en or pt-BR",
    "topic": "a Kafka topic: letters, digits, dots, underscores, hyphens",
    "name": "a name of lower-case letters, digits, hyphens and dots, like order-receipt",
}


def explain_validation_error(model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """One problem for each broken rule; a misspelt required field is reported only as misspelt."""
    errors = error.errors(include_url=False)
    unknown = (each["loc"] for each in errors if each["type"] == "extra_forbidden")
    misspelt = {_intended_location(model, location) for location in unknown}
    for each in errors:
        if each["type"] == "missing" and each["loc"] in misspelt:
            continue
        location, context = each["loc"], each.get("ctx", {})
        if "broken_rules" in context:
            for field, rule in context["broken_rules"]:
                yield Problem(Code(each["type"]), _join(dotted_path(location), field), rule)
        else:
            yield _problem(model, location, each["type"], context, each["msg"])


def _intended_location(model: type[BaseModel], location: Location) -> Location:
    """The location of the known field whose name is nearest to that of an unknown one."""
    name = nearest_name(str(location[-1]), _known_fields(model, location))
    return (*location[:-1], name) if name else location


def dotted_path(location: Location) -> str:
    """`("spec", "samples", 0, "name")` as `spec.samples[0].name`."""
    path = ""
    for step in location:
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, step)
    return path


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _problem(
    model: type[BaseModel], location: Location, kind: str, context: dict[str, Any], pydantic_message: str
) -> Problem:
    field = dotted_path(location)
    if kind == "extra_forbidden":
        known = _known_fields(model, location)
        if FILE_FIELDS.get(str(location[-1])) in known:
            return Problem(Code.FIELD_UNKNOWN, field, _IN_FOLDERS_ONLY)
        hint = did_you_mean(str(location[-1]), known)
        return Problem(Code.FIELD_UNKNOWN, field, f"is not a field here{hint}")
    if kind == "missing":
        return Problem(Code.FIELD_MISSING, field, "is required")
    if kind in set(Code):
        return Problem(Code(kind), field, pydantic_message)
    return Problem(Code.MANIFEST_INVALID, field, _rule(location, kind, context, pydantic_message))


def _rule(location: Location, kind: str, context: dict[str, Any], pydantic_message: str) -> str:
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind]}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return "must be " + words.format(context[key])
    if kind == "literal_error":
        return f"must be one of {str(context['expected']).replace(' or ', ', ')}"
    if kind == "string_pattern_mismatch":
        names = [step for step in location if isinstance(step, str)]
        return (
            f"must be {_PATTERNS[names[-1]]}"
            if names[-1] in _PATTERNS
            else f"must match {context['pattern']}"
        )
    if kind == "value_error":
        return pydantic_message.removeprefix("Value error, ")
    return pydantic_message[:1].lower() + pydantic_message[1:]


def _known_fields(model: type[BaseModel], location: Location) -> list[str]:
    """The names of the fields of the model that `location` points into."""
    part: type[BaseModel] | None = model
    for step in location[:-1]:
        if isinstance(step, str) and part:
            fields = (info for name, info in part.model_fields.items() if (info.alias or name) == step)
            part = next((_model_in(info.annotation) for info in fields), None)
    return [info.alias or name for name, info in part.model_fields.items()] if part else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)


MAX_OBJECT_CHARACTERS = 1024 * 1024
"""The API server takes objects of about 1 MiB; as JSON in ASCII, so that no encoding is larger."""

Manifest = EmailTemplate | EmailLayout | SmtpProfile

KINDS: dict[str, type[Manifest]] = {
    "EmailTemplate": EmailTemplate,
    "EmailLayout": EmailLayout,
    "SmtpProfile": SmtpProfile,
}


@dataclass(frozen=True, slots=True)
class ResolvedObject:
    """An object with the texts of the files that it names, and the problems of those names."""

    value: dict[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    """The file of each field whose text was read from one: `spec.html` → `letters/order.html`."""
    problems: tuple[Problem, ...] = ()


FileResolver = Callable[[dict[str, Any]], ResolvedObject]


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A part of one line of a file. Line and columns are 1-based; `end` is the column after the last
    character.
    """

    file: str
    line: int
    column: int
    end: int
    source: str = ""
    """The text of the line."""


@dataclass(frozen=True, slots=True)
class LocatedObject:
    """One object of a file: the model, or problems, or the reason why it was skipped; and its positions."""

    file: str
    first: int
    """The first line of the object, or of the text that is not YAML."""
    kind: str = ""
    name: str = ""
    object: Manifest | None = None
    problems: tuple[Problem, ...] = ()
    skipped: str | None = None
    document: YamlDocument | None = None
    root: str = ""
    """The object's path in its document when it is an item of a List, else empty."""
    namespace: str = "default"
    files: Mapping[str, str] = field(default_factory=dict)
    """The fields whose text is in a separate file, and that file."""
    value: Mapping[str, Any] | None = None
    """The object as it was written, with the texts of files; None when it is not an object."""
    lines: Sequence[str] = ()
    """The lines of the file, when there is no document."""

    def at(self, field: str = "", within: int | None = None) -> tuple[str, int]:
        """The file and the line of a field, or of line `within` of the field's text."""
        if field in self.files:
            return self.files[field], within or 1
        return self.file, self.line(field, within)

    def line(self, field: str = "", within: int | None = None) -> int:
        """The line of a field such as `spec.html`, or of line `within` of the field's text."""
        if self.document is None:
            return self.first
        return self.document.line(self._path(field), within)

    def _path(self, field: str) -> str:
        return f"{self.root}.{field}" if self.root and field else self.root or field

    def source_range(self, problem: Problem) -> SourceRange:
        """The file, line and columns of a problem of this object.

        The columns are, in this order: those of the problem itself; those of the first name in backquotes in
        its message that occurs on its line; those of the field's value or key.
        """
        if self.document is None:
            column = problem.column or 1
            return SourceRange(
                self.file, self.first, column, column + (problem.length or 1), self._written(self.first)
            )
        if problem.field in self.files:
            return self._range_in_own_file(problem)
        path = self._path(problem.field if problem.field != "manifest" else "")
        if problem.line and problem.column:
            line_range = self.document.text_range(path, problem.line, problem.column, problem.length or 1)
            written, end = self._written(line_range.line), line_range.end
            if problem.length is None:
                start, end = _find_quoted_name(written, problem.message, line_range.column) or _word_range(
                    written, line_range.column
                )
                return SourceRange(self.file, line_range.line, start, end, written)
            return SourceRange(self.file, line_range.line, line_range.column, end, written)
        if problem.line and path in self.document.places:
            line = self.document.line(path, problem.line)
            written = self._written(line)
            start, end = _find_quoted_name(written, problem.message) or _text_range(written)
            return SourceRange(self.file, line, start, end, written)
        whole_key = problem.code is Code.FIELD_UNKNOWN
        line_range = self.document.key_range(path) if whole_key else self.document.value_range(path)
        return SourceRange(
            self.file, line_range.line, line_range.column, line_range.end, self._written(line_range.line)
        )

    def _range_in_own_file(self, problem: Problem) -> SourceRange:
        """The position of a problem in a text from a separate file."""
        line = problem.line or 1
        lines = yaml_lines(_text_at(self.value or {}, problem.field))
        written = lines[line - 1] if line <= len(lines) else ""
        if problem.column and problem.length:
            start, end = problem.column, problem.column + problem.length
        elif problem.column:
            start, end = _find_quoted_name(written, problem.message, problem.column) or _word_range(
                written, problem.column
            )
        else:
            start, end = _find_quoted_name(written, problem.message) or _text_range(written)
        return SourceRange(self.files[problem.field], line, start, max(end, start + 1), written)

    def _written(self, line: int) -> str:
        lines = self.document.lines if self.document else self.lines
        return lines[line - 1] if 0 < line <= len(lines) else ""

    def location(self, problem: Problem) -> str:
        """The file and line of a problem of this object, such as `welcome.yaml:61`."""
        file, line = self.at(problem.field, problem.line)
        return f"{file}:{line}"


def read_manifests(text: str, name: str, resolve: FileResolver | None = None) -> Iterator[LocatedObject]:
    """Read every object of a manifest's text; `name` is the file's name for the positions of problems."""
    try:
        for document in yaml_documents(text):
            yield from _read_objects(document, document.value, name, resolve)
    except InvalidYaml as error:
        problem = Problem(Code.MANIFEST_INVALID, "manifest", error.rule, column=error.column)
        yield LocatedObject(name, error.line, problems=(problem,), lines=yaml_lines(text))


_QUOTED = re.compile(r"`([^`\n]+)`")


def _find_quoted_name(line: str, message: str, column: int = 1) -> tuple[int, int] | None:
    """The columns of the first name in backquotes in a message that occurs on a line from `column` on."""
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


def _word_range(line: str, column: int) -> tuple[int, int]:
    """The columns of the word that begins at a column."""
    found = re.compile(r"[\w@.#-]+|.").match(line, column - 1)
    return column, found.end() + 1 if found else column + 1


def _text_range(line: str) -> tuple[int, int]:
    """The columns of a line's text."""
    text = line.strip()
    start = len(line) - len(line.lstrip()) if text else 0
    return start + 1, start + 1 + max(1, len(text))


def _read_objects(
    document: YamlDocument, value: Any, file: str, resolve: FileResolver | None, root: str = ""
) -> Iterator[LocatedObject]:
    if (
        isinstance(value, dict)
        and value.get("kind") == "List"
        and isinstance(value.get("items"), list)
        and not root
    ):
        for index, item in enumerate(value["items"]):
            yield from _read_objects(document, item, file, resolve, f"items[{index}]")
        return
    first = document.line(root)
    if not isinstance(value, dict):
        problem = Problem(
            Code.MANIFEST_INVALID, "manifest", "is not an object with apiVersion, kind and metadata"
        )
        yield LocatedObject(file, first, problems=(problem,), document=document, root=root)
        return
    kind, name = _text(value.get("kind")), _text(_member(value, "metadata", "name"))
    namespace = _text(_member(value, "metadata", "namespace")) or "default"
    whole = resolve(value) if resolve and _is_own(value) else ResolvedObject(value)
    found, problems, skipped = parse_object(whole.value, kind)
    if whole.problems:
        found, problems = None, (*whole.problems, *problems)
    located = LocatedObject(
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


def _is_own(value: dict[str, Any]) -> bool:
    return _text(value.get("apiVersion")).partition("/")[0] == GROUP


def parse_object(value: dict[str, Any], kind: str) -> tuple[Manifest | None, tuple[Problem, ...], str | None]:
    """Parse an object as the API server gives it: its model, or its problems, or why it is skipped."""
    version = _text(value.get("apiVersion"))
    is_own = version.partition("/")[0] == GROUP
    if not is_own and kind not in KINDS:
        if not version or not kind:
            return (
                None,
                _problems("apiVersion" if not version else "kind", "is required", Code.FIELD_MISSING),
                None,
            )
        return None, (), f"{kind} of {version} is not Postroom's"
    if version != API_VERSION:
        rule = f"is {version[:80]!r}; " if version else "is required; "
        return None, _problems("apiVersion", f"{rule}write {API_VERSION} for kind {kind[:80]}"), None
    model = KINDS.get(kind)
    if model is None:
        return (
            None,
            _problems("kind", f"{kind[:80]!r} is not a kind of {API_VERSION}{did_you_mean(kind, KINDS)}"),
            None,
        )
    if len(json.dumps(value)) > MAX_OBJECT_CHARACTERS:
        return (
            None,
            _problems("spec", "is larger than 1 MiB as JSON, the API server's limit", Code.TOO_LARGE),
            None,
        )
    try:
        return validate_object(model, value), (), None
    except ValidationError as error:
        return None, tuple(explain_validation_error(model, error)), None


def validate_object(model: type[Manifest], value: dict[str, Any]) -> Manifest:
    """Validate an object strictly. Raises pydantic's ValidationError."""
    return model.model_validate(value, strict=True, by_alias=True, by_name=False)


def _problems(field: str, rule: str, code: Code = Code.MANIFEST_INVALID) -> tuple[Problem, ...]:
    return (Problem(code, field, rule),)


def _member(value: Any, *path: str) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
