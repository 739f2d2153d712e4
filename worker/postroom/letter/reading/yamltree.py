"""YAML with its places: documents as JSON values, and on which line of the file each field stands.

Text in, `Document` values out; text that cannot be read raises `Unreadable` with line and rule. It is
read as kubectl reads it (YAML 1.1 words such as `yes`, merge keys, anchors), but what kubectl takes
silently and people regret is refused: a key there twice, `01234` turning into an octal number.
Aliases cannot grow a document beyond NODES, nor nesting beyond DEPTH.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import yaml

CHARACTERS = 4 * 1024 * 1024
DEPTH = 64
NODES = 20_000
OPEN_BRACKETS = 2000
"""The parser's work grows with the square of the brackets that are open at once."""

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


class Unreadable(ValueError):
    """The text is no YAML that a manifest may be; `line` is 1-based in the file."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line, self.rule = line, rule


@dataclass(slots=True)
class Node:
    """A scalar (text), a list (children) or a mapping (keys and children in turn) and its lines, 1-based."""

    kind: str
    first: int
    last: int
    style: str = ""
    text: str = ""
    plain: bool = False
    children: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands: the line of its key, and how its text is written."""

    line: int
    node: Node


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value, its first line, and the place of each path such as `spec.samples[0].name`."""

    value: Any
    first: int
    places: dict[str, Place]
    lines: list[str]

    def line(self, path: str, within: int | None = None) -> int:
        """The line a path is on, or of line `within` of its text; what is absent is where its parent is."""
        while path not in self.places:
            if not path:
                return self.first
            path = re.sub(r"(?:^|\.)[^.\[]*$|\[[^.\[]*$", "", path)
        place = self.places[path]
        if within is None or place.node.kind != "scalar":
            return place.line
        return _line_within(place.node, within, self.lines)


def documents(text: str) -> Iterator[Document]:
    """The documents of a text, empty ones left out."""
    if len(text) > CHARACTERS:
        raise Unreadable(1, f"the file has {len(text)} characters; at most {CHARACTERS} are allowed")
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    if max(accumulate(steps, _rise), default=0) > OPEN_BRACKETS:
        raise Unreadable(1, f"more than {OPEN_BRACKETS} brackets are open at once")
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)
    for root in _roots(text):
        if root.kind == "scalar" and root.plain and root.text in _NULLS:
            continue
        reading = _Reading()
        value = reading.value(root, "")
        reading.places.setdefault("", Place(root.first, root))
        yield Document(value, root.first, reading.places, lines)


def _rise(depth: int, step: int) -> int:
    return max(0, depth + step)


def _roots(text: str) -> Iterator[Node]:
    try:
        yield from _tree(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "unknown mistake"
        rule = f"is not YAML: {said}{_bare_brace(text, error) or _HINTS.get(said, '')}"
        raise Unreadable(mark.line + 1 if mark else 1, rule) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, f"holds the character U+{error.character:04X}, which YAML forbids") from None
    except UnicodeEncodeError as error:
        raise Unreadable(text.count("\n", 0, error.start) + 1, "holds half a surrogate pair") from None


def _bare_brace(text: str, error: yaml.MarkedYAMLError) -> str:
    """The hint for `subject: {{ name }}, hello`, which YAML takes for a mapping within a mapping."""
    lines = text.splitlines()
    marks = (error.problem_mark, error.context_mark)
    near = (lines[mark.line] for mark in marks if mark and mark.line < len(lines))
    found = any(_BARE_BRACE.search(line) for line in near)
    return "; a text that begins with { needs quotes: '{{ name }}, …'" if found else ""


def _tree(events: Iterable[yaml.Event]) -> Iterator[Node]:
    """Build each document without recursion; an alias becomes the very node it names."""
    growing = _Growing()
    for event in events:
        match event:
            case yaml.DocumentStartEvent():
                growing = _Growing()
            case yaml.DocumentEndEvent():
                yield growing.top.children[0]
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                growing.open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                growing.close()
            case yaml.ScalarEvent():
                growing.add(_scalar(event), event.anchor)
            case yaml.AliasEvent():
                growing.add(growing.named(event), None)


class _Growing:
    """A document while its events come in: the collections that are open, and the finished anchors."""

    def __init__(self) -> None:
        self.top = Node("document", 1, 1)
        self._open: list[tuple[Node, str | None]] = [(self.top, None)]
        self._anchors: dict[str, Node] = {}

    def add(self, node: Node, anchor: str | None) -> None:
        self._open[-1][0].children.append(node)
        if anchor:
            self._anchors[anchor] = node

    def open(self, event: Any) -> None:
        kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
        _refuse_tag(event, kind)
        line = event.start_mark.line + 1
        if len(self._open) > DEPTH:
            raise Unreadable(line, f"nests deeper than {DEPTH} levels")
        node = Node(kind, line, line)
        self.add(node, None)
        self._open.append((node, event.anchor))

    def close(self) -> None:
        node, anchor = self._open.pop()
        if anchor:
            self._anchors[anchor] = node

    def named(self, alias: Any) -> Node:
        name = alias.anchor
        if name not in self._anchors:
            raise Unreadable(
                alias.start_mark.line + 1, f"the alias *{name} has no finished anchor &{name} before it"
            )
        return self._anchors[name]


def _scalar(event: Any) -> Node:
    _refuse_tag(event, "str")
    first, last = event.start_mark.line + 1, event.end_mark.line + 1
    style = event.style if event.style in ("|", ">", "'", '"') else ""
    plain = event.implicit[0] and event.tag is None
    return Node("scalar", first, last - 1 if style in ("|", ">") else last, style, event.value, plain)


def _refuse_tag(event: Any, kind: str) -> None:
    names = {"mapping": "map", "list": "seq", "str": "str"}
    if event.tag not in (None, "!", _TAG + names[kind]):
        tag = event.tag.replace(_TAG, "!!")[:60]
        raise Unreadable(event.start_mark.line + 1, f"the tag {tag} is not allowed; write plain values")


class _Reading:
    """Turn one document's nodes into values, noting each path's place."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._nodes = 0

    def value(self, node: Node, path: str) -> Any:
        self._nodes += 1
        if self._nodes > NODES:
            raise Unreadable(
                node.first, f"has more than {NODES} values; aliases count each time they are used"
            )
        if node.kind == "scalar":
            return _resolve(node) if node.plain else node.text
        if node.kind == "list":
            return [
                self._member(child, f"{path}[{index}]", child.first)
                for index, child in enumerate(node.children)
            ]
        return self._mapping(node, path)

    def _member(self, node: Node, path: str, line: int) -> Any:
        self.places[path] = Place(line, node)
        return self.value(node, path)

    def _mapping(self, node: Node, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Node] = []
        for key, child in zip(node.children[::2], node.children[1::2], strict=True):
            if key.plain and key.text == _MERGE:
                merged.append(child)
                continue
            name = _key(key)
            if name in found:
                raise Unreadable(key.first, f"the key {name[:80]!r} is there twice in one mapping")
            found[name] = self._member(child, f"{path}.{name}" if path else name, key.first)
        for child in merged:
            found = self._merge(child, path) | found
        return found

    def _merge(self, node: Node, path: str) -> dict[str, Any]:
        parts = node.children if node.kind == "list" else [node]
        values = [self.value(part, path) for part in parts]
        if not all(isinstance(value, dict) for value in values):
            raise Unreadable(node.first, "<< merges mappings only")
        return {name: item for value in reversed(values) for name, item in value.items()}


def _key(node: Node) -> str:
    if node.kind != "scalar":
        raise Unreadable(node.first, "a key must be text; put a template expression in quotes: '{{ name }}'")
    if node.plain and not isinstance(_resolve(node), str | int):
        raise Unreadable(node.first, f"the key {node.text[:40]!r} is not text; put it in quotes")
    if node.plain and isinstance(_resolve(node), bool):
        raise Unreadable(node.first, f"the key {node.text!r} is a boolean in YAML; put it in quotes")
    return node.text


def _resolve(node: Node) -> Any:
    """A plain scalar's value, by the rules of YAML 1.1 as Kubernetes' tools apply them."""
    text = node.text
    if text in _NULLS:
        return None
    if text in (text.lower(), text.upper(), text.title()) and text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _OCTAL.fullmatch(text):
        raise Unreadable(
            node.first, f"{text[:40]} begins with zero, which YAML reads as octal; put it in quotes"
        )
    if _NOT_A_NUMBER.fullmatch(text) or (_FLOAT.fullmatch(text) and abs(float(text)) == float("inf")):
        raise Unreadable(node.first, f"{text[:40]} is no number that JSON can hold; put it in quotes")
    return float(text) if _FLOAT.fullmatch(text) else text


_PLAIN = re.compile(r"[A-Za-z_/][\w./@+-]*(?: [\w./@+(]+)*", re.ASCII)


def reads_as_text(text: str) -> bool:
    """Whether a plain scalar of these characters is surely this text, in a key or a value."""
    if not _PLAIN.fullmatch(text):
        return False
    try:
        return isinstance(_resolve(Node("scalar", 1, 1, text=text, plain=True)), str)
    except Unreadable:
        return False


def _line_within(node: Node, within: int, lines: list[str]) -> int:
    """A literal block keeps its lines; of a folded or quoted text each written line is looked up in turn."""
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
