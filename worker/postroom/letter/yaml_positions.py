"""YAML with positions: documents as JSON values, with the line and the columns of each field in the file.

Input: a text. Output: `YamlDocument` values; a text that cannot be read raises `InvalidYaml` with line,
column and rule. The text is read as kubectl reads it (YAML 1.1 words such as `yes`, merge keys, anchors).
What kubectl accepts silently to its users' harm is an error: a key twice in a mapping, `01234` as an octal
number. Aliases cannot expand a document beyond MAX_YAML_NODES, nor nesting beyond MAX_YAML_DEPTH.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import yaml

MAX_YAML_CHARACTERS = 4 * 1024 * 1024
MAX_YAML_DEPTH = 64
MAX_YAML_NODES = 20_000
MAX_OPEN_BRACKETS = 2000
"""The parser's work grows with the square of the number of open brackets."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "<<"
_TAG = "tag:yaml.org,2002:"
_TRUE = ("y", "yes", "true", "on")
_FALSE = ("n", "no", "false", "off")
_HINTS = {
    "mapping values are not allowed in this context": "; put a text with a colon in quotes, or indent anew",
    "found character that cannot start any token": "; put texts beginning with % @ ` in quotes, no tabs",
}
_BARE_BRACE = re.compile(r"^\s*(?:- +)?(?:[\w.-]+: +)?\{[{%#]")
_NULLS = ("", "~", "null", "Null", "NULL")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,30}|0x[0-9a-fA-F_]{1,16}|0b[01_]{1,64}|0o[0-7_]{1,22})")
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_A_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)")


class InvalidYaml(ValueError):
    """The text is not YAML, or not a manifest's YAML; `line` and `column` are 1-based in the file."""

    def __init__(self, line: int, rule: str, column: int | None = None) -> None:
        super().__init__(rule)
        self.line = line
        self.rule = rule
        self.column = column


@dataclass(slots=True)
class YamlNode:
    """A scalar (text), a list (children) or a mapping (keys and values alternate in children), and its lines.

    `column` is its first column on its first line, `end` the column after it on its last line. Lines and
    columns are 1-based.
    """

    kind: str
    first: int
    last: int
    column: int = 1
    end: int = 1
    style: str = ""
    text: str = ""
    plain: bool = False
    children: list["YamlNode"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FieldPosition:
    """The position of a field: its key (for an item of a list, the item itself), and its value's node."""

    line: int
    node: YamlNode
    column: int = 1
    end: int = 1


@dataclass(frozen=True, slots=True)
class LineRange:
    """A part of one line of the file. Line and columns are 1-based; `end` is the column after the last
    character.
    """

    line: int
    column: int
    end: int


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One document: its value, its first line, and the positions of paths such as `spec.samples[0].name`."""

    value: Any
    first: int
    places: dict[str, FieldPosition]
    lines: list[str]

    def line(self, path: str, within: int | None = None) -> int:
        """The line of a path, or of line `within` of its text. An absent path has its parent's line."""
        while path not in self.places:
            if not path:
                return self.first
            path = _parent(path)
        place = self.places[path]
        if within is None or place.node.kind != "scalar":
            return place.line
        return _line_within(place.node, within, self.lines)

    def key_range(self, path: str) -> LineRange:
        """The position of the key of a path; for an absent path, of its parent's key."""
        while path and path not in self.places:
            path = _parent(path)
        place = self.places[path]
        return LineRange(place.line, place.column, max(place.end, place.column + 1))

    def value_range(self, path: str) -> LineRange:
        """The position of the text of a path if it is on one line, else of its key."""
        node = self.places[path].node if path in self.places else None
        if node is None or node.kind != "scalar" or node.first != node.last or node.style in ("|", ">"):
            return self.key_range(path)
        return LineRange(node.first, node.column, max(node.end, node.column + 1))

    def text_range(self, path: str, line: int, column: int, length: int = 1) -> LineRange:
        """The position of a part of a path's text; `line` and `column` are 1-based in the text itself."""
        node = self.places[path].node if path in self.places else None
        if node is None or node.kind != "scalar":
            return self.key_range(path)
        written = node.text.split("\n")
        if line > len(written):
            return self.key_range(path)
        within = min(column - 1, len(written[line - 1]))
        start = sum(len(each) + 1 for each in written[: line - 1]) + within
        row, at = _written_at(node, start, self.lines)
        last = start + max(1, min(length, len(written[line - 1]) - within)) - 1
        end_row, end = _written_at(node, last, self.lines)
        return LineRange(row, at, end + 1 if end_row == row else at + 1)


def _parent(path: str) -> str:
    return re.sub(r"(?:^|\.)[^.\[]*$|\[[^.\[]*$", "", path)


def yaml_documents(text: str) -> Iterator[YamlDocument]:
    """Parse the documents of a text, without empty ones. Raises InvalidYaml."""
    if len(text) > MAX_YAML_CHARACTERS:
        raise InvalidYaml(
            1, f"the file has {len(text)} characters; at most {MAX_YAML_CHARACTERS} are allowed"
        )
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    if max(accumulate(steps, _rise), default=0) > MAX_OPEN_BRACKETS:
        raise InvalidYaml(1, f"more than {MAX_OPEN_BRACKETS} brackets are open at once")
    lines = yaml_lines(text)
    for root in _roots(text):
        if root.kind == "scalar" and root.plain and root.text in _NULLS:
            continue
        builder = _ValueBuilder()
        value = builder.value(root, "")
        builder.places.setdefault("", FieldPosition(root.first, root, root.column, root.column + 1))
        yield YamlDocument(value, root.first, builder.places, lines)


def yaml_lines(text: str) -> list[str]:
    """The lines of a text as YAML counts them."""
    return re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)


def _rise(depth: int, step: int) -> int:
    return max(0, depth + step)


def _roots(text: str) -> Iterator[YamlNode]:
    try:
        yield from _tree(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "unknown mistake"
        rule = f"is not YAML: {reason}{_bare_brace(text, error) or _HINTS.get(reason, '')}"
        raise InvalidYaml(mark.line + 1 if mark else 1, rule, mark.column + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        rule = f"holds the character U+{error.character:04X}, which YAML forbids"
        raise InvalidYaml(line, rule, column) from None
    except UnicodeEncodeError as error:
        raise InvalidYaml(text.count("\n", 0, error.start) + 1, "holds half a surrogate pair") from None


def _bare_brace(text: str, error: yaml.MarkedYAMLError) -> str:
    """The hint for `subject: {{ name }}, hello`, which YAML reads as a mapping in a mapping."""
    lines = text.splitlines()
    marks = (error.problem_mark, error.context_mark)
    near = (lines[mark.line] for mark in marks if mark and mark.line < len(lines))
    found = any(_BARE_BRACE.search(line) for line in near)
    return "; a text that begins with { needs quotes: '{{ name }}, …'" if found else ""


def _tree(events: Iterable[yaml.Event]) -> Iterator[YamlNode]:
    """Build each document without recursion; an alias becomes the node that it refers to."""
    builder = _TreeBuilder()
    for event in events:
        match event:
            case yaml.DocumentStartEvent():
                builder = _TreeBuilder()
            case yaml.DocumentEndEvent():
                yield builder.top.children[0]
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                builder.open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                builder.close()
            case yaml.ScalarEvent():
                builder.add(_scalar(event), event.anchor)
            case yaml.AliasEvent():
                builder.add(builder.named(event), None)


class _TreeBuilder:
    """Builds a document from parser events: the open collections, and the finished anchors."""

    def __init__(self) -> None:
        self.top = YamlNode("document", 1, 1)
        self._open: list[tuple[YamlNode, str | None]] = [(self.top, None)]
        self._anchors: dict[str, YamlNode] = {}

    def add(self, node: YamlNode, anchor: str | None) -> None:
        self._open[-1][0].children.append(node)
        if anchor:
            self._anchors[anchor] = node

    def open(self, event: Any) -> None:
        kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
        _refuse_tag(event, kind)
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if len(self._open) > MAX_YAML_DEPTH:
            raise InvalidYaml(line, f"nests deeper than {MAX_YAML_DEPTH} levels", column)
        node = YamlNode(kind, line, line, column, column + 1)
        self.add(node, None)
        self._open.append((node, event.anchor))

    def close(self) -> None:
        node, anchor = self._open.pop()
        if anchor:
            self._anchors[anchor] = node

    def named(self, alias: Any) -> YamlNode:
        name = alias.anchor
        if name not in self._anchors:
            rule = f"the alias *{name} has no finished anchor &{name} before it"
            raise InvalidYaml(alias.start_mark.line + 1, rule, alias.start_mark.column + 1)
        return self._anchors[name]


def _scalar(event: Any) -> YamlNode:
    _refuse_tag(event, "str")
    first, last = event.start_mark.line + 1, event.end_mark.line + 1
    style = event.style if event.style in ("|", ">", "'", '"') else ""
    plain = event.implicit[0] and event.tag is None
    last = last - 1 if style in ("|", ">") else last
    column, end = event.start_mark.column + 1, event.end_mark.column + 1
    return YamlNode("scalar", first, last, column, end, style, event.value, plain)


def _refuse_tag(event: Any, kind: str) -> None:
    names = {"mapping": "map", "list": "seq", "str": "str"}
    if event.tag not in (None, "!", _TAG + names[kind]):
        tag = event.tag.replace(_TAG, "!!")[:60]
        raise InvalidYaml(event.start_mark.line + 1, f"the tag {tag} is not allowed; write plain values")


class _ValueBuilder:
    """Converts the nodes of one document to values and records the position of each path."""

    def __init__(self) -> None:
        self.places: dict[str, FieldPosition] = {}
        self._nodes = 0

    def value(self, node: YamlNode, path: str) -> Any:
        self._nodes += 1
        if self._nodes > MAX_YAML_NODES:
            raise InvalidYaml(
                node.first, f"has more than {MAX_YAML_NODES} values; aliases count each time they are used"
            )
        if node.kind == "scalar":
            return _resolve(node) if node.plain else node.text
        if node.kind == "list":
            return [
                self._member(child, f"{path}[{index}]", child) for index, child in enumerate(node.children)
            ]
        return self._mapping(node, path)

    def _member(self, node: YamlNode, path: str, at: YamlNode) -> Any:
        end = at.end if at.kind == "scalar" and at.first == at.last else at.column + 1
        self.places[path] = FieldPosition(at.first, node, at.column, end)
        return self.value(node, path)

    def _mapping(self, node: YamlNode, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[YamlNode] = []
        for key, child in zip(node.children[::2], node.children[1::2], strict=True):
            if key.plain and key.text == _MERGE:
                merged.append(child)
                continue
            name = _key(key)
            if name in found:
                raise InvalidYaml(key.first, f"the key {name[:80]!r} occurs twice in one mapping", key.column)
            found[name] = self._member(child, f"{path}.{name}" if path else name, key)
        for child in merged:
            found = self._merge(child, path) | found
        return found

    def _merge(self, node: YamlNode, path: str) -> dict[str, Any]:
        parts = node.children if node.kind == "list" else [node]
        values = [self.value(part, path) for part in parts]
        if not all(isinstance(value, dict) for value in values):
            raise InvalidYaml(node.first, "<< merges mappings only")
        return {name: item for value in reversed(values) for name, item in value.items()}


def _key(node: YamlNode) -> str:
    if node.kind != "scalar":
        raise InvalidYaml(
            node.first, "a key must be text; put a template expression in quotes: '{{ name }}'", node.column
        )
    if node.plain and not isinstance(_resolve(node), str | int):
        raise InvalidYaml(
            node.first, f"the key {node.text[:40]!r} is not text; put it in quotes", node.column
        )
    if node.plain and isinstance(_resolve(node), bool):
        raise InvalidYaml(
            node.first, f"the key {node.text!r} is a boolean in YAML; put it in quotes", node.column
        )
    return node.text


def _resolve(node: YamlNode) -> Any:
    """The value of a plain scalar, by the rules of YAML 1.1 as kubectl applies them."""
    text = node.text
    if text in _NULLS:
        return None
    if text in (text.lower(), text.upper(), text.title()) and text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _OCTAL.fullmatch(text):
        rule = f"{text[:40]} begins with zero, which YAML reads as octal; put it in quotes"
        raise InvalidYaml(node.first, rule, node.column)
    if _NOT_A_NUMBER.fullmatch(text) or (_FLOAT.fullmatch(text) and abs(float(text)) == float("inf")):
        rule = f"{text[:40]} is no number that JSON can hold; put it in quotes"
        raise InvalidYaml(node.first, rule, node.column)
    return float(text) if _FLOAT.fullmatch(text) else text


_PLAIN = re.compile(r"[A-Za-z_/][\w./@+-]*(?: [\w./@+(]+)*", re.ASCII)


def reads_as_text(text: str) -> bool:
    """Whether a plain scalar with these characters is read as this text, in a key or a value."""
    if not _PLAIN.fullmatch(text):
        return False
    try:
        return isinstance(_resolve(YamlNode("scalar", 1, 1, text=text, plain=True)), str)
    except InvalidYaml:
        return False


def _line_within(node: YamlNode, within: int, lines: list[str]) -> int:
    """The file's line of line `within` of a scalar.

    A literal block keeps its lines. In a folded or quoted text each written line is searched in turn.
    """
    if node.style == "|":
        return min(node.first + within, node.last)
    if within <= 1 and node.style != ">":
        return node.first
    position = 0
    for number in range(node.first + 1, node.last + 1):
        written = lines[number - 1].strip()
        found = node.text.find(written, position) if written else -1
        if found >= 0:
            if node.text.count("\n", 0, found) + 1 >= within:
                return number
            position = found + len(written)
    return node.last


def _written_at(node: YamlNode, offset: int, lines: list[str]) -> tuple[int, int]:
    """The line and column in the file of a character of a scalar's text, both 1-based."""
    if node.style == "|":
        return _literal_at(node, offset, lines)
    if node.style == ">":
        return _folded_at(node, offset, lines)
    return _flow_at(node, offset, lines)


def _literal_at(node: YamlNode, offset: int, lines: list[str]) -> tuple[int, int]:
    """In a literal block: each line of the text after the indentation of its line in the file."""
    within = node.text.count("\n", 0, offset)
    start = node.text.rfind("\n", 0, offset) + 1
    written = node.text[start:].partition("\n")[0]
    row = min(node.first + within + 1, len(lines))
    return row, max(0, len(lines[row - 1]) - len(written)) + offset - start + 1


def _folded_at(node: YamlNode, offset: int, lines: list[str]) -> tuple[int, int]:
    """In a folded block: lines are unchanged in the text, only the breaks between them are folded."""
    block = range(node.first, min(node.last, len(lines)))
    indent = next((len(lines[row]) - len(lines[row].lstrip()) for row in block if lines[row].strip()), 0)
    position, found = 0, (node.first, node.column)
    for row in block:
        content = lines[row][indent:].rstrip()
        start = node.text.find(content, position) if content else -1
        if start < 0:
            continue
        if start > offset:
            break
        found = (row + 1, indent + min(offset - start, len(content)) + 1)
        position = start + len(content)
    return found


_ESCAPES = {"x": 4, "u": 6, "U": 10}
"""The lengths of escapes in double quotes; every other escape has two characters."""


def _flow_at(node: YamlNode, offset: int, lines: list[str]) -> tuple[int, int]:
    """In a plain or quoted text: characters count as YAML reads them, with escapes and folded breaks."""
    row, column, read = node.first - 1, node.column - 1, 0
    if node.style:
        column = max(lines[row].find(node.style, column), column) + 1
    while row < len(lines):
        line = lines[row]
        continued = node.style == '"' and line[column:] == "\\"  # a break that leaves nothing in the text
        if read >= offset and not continued:
            break
        if not line[column:].strip() or continued:
            breaks = _fold(lines, row)
            if row + breaks >= len(lines):
                break
            read += breaks - 1 if continued or breaks > 1 else 1
            row += breaks
            column = len(lines[row]) - len(lines[row].lstrip())
            continue
        width = 1
        if node.style == '"' and line[column] == "\\":
            width = _ESCAPES.get(line[column + 1], 2)
        elif node.style == "'" and line.startswith("''", column):
            width = 2
        column += width
        read += 1
    return row + 1, column + 1


def _fold(lines: list[str], row: int) -> int:
    """The number of line breaks between a line and the next line that is not empty."""
    breaks = 1
    while row + breaks < len(lines) and not lines[row + breaks].strip():
        breaks += 1
    return breaks
