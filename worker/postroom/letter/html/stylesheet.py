"""HTML source → its tokens, each with the stretch of source that it is.

The source may be a template's, with a `placeholder` for each Jinja construct: a tokenizer carries those
through text, values, comments and names. The tokens of source that ends inside a tag end before that tag.

A style sheet, read as a browser reads it (CSS Syntax 3): rules in order, and what is wrong with it.

CSS text in, a `Sheet` out: style rules with their selectors and declarations, groups such as `@media`
with rules in them, and every other at-rule as it is written. Nested rules are written out flat, which
means the same and is read by more mail clients. Nothing is fetched: `@import` stays where it is, for the
clients that follow it.

Failure: what a browser would skip is a `Problem` of the sheet with line and column, never an exception.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import tinycss2  # type: ignore[import-untyped]
import turbohtml
from turbohtml import TokenType

from postroom.letter.html.selectors import (
    COMBINATORS,
    Selector,
    SelectorError,
    read_selector,
    read_selectors,
    split_list,
)
from postroom.letter.problems import Code, Problem, Severity

PLACE = re.compile("\x1a([0-9]+)\x1b")
"""Where a Jinja construct stands. A manifest cannot hold these characters as YAML; JSON can."""


class CannotInline(Exception):
    """A page's CSS or text cannot be worked out before the event is known; the message says why."""


def placeholder(number: int) -> str:
    """What stands for the construct of that number."""
    return f"\x1a{number}\x1b"


class Token(NamedTuple):
    """A token of HTML. `name` is an element's, in lower case; `style` is decoded."""

    type: TokenType
    name: str
    source: str
    style: str
    self_closing: bool


def tokenize(source: str) -> Iterator[Token]:
    """The tokens, with the text between two others as one. `source` has line feeds as its only line ends."""
    texts: list[str] = []
    for token in turbohtml.tokenize(source, capture_source=True, resolve_references=False):
        kind = token.type
        if kind is TokenType.TEXT:
            texts.append(token.data or "")
            continue
        if kind is TokenType.CHARACTER_REFERENCE:
            texts.append(token.source or "")
            continue
        if texts:
            yield Token(TokenType.TEXT, "", "".join(texts), "", self_closing=False)
            texts = []
        style = token.attr("style") if kind is TokenType.START_TAG else None
        yield Token(kind, token.tag or "", token.source or "", style or "", token.self_closing)
    if texts:
        yield Token(TokenType.TEXT, "", "".join(texts), "", self_closing=False)


GROUPS = frozenset(("media", "supports", "layer", "container", "scope", "starting-style", "-moz-document"))
"""At-rules that hold style rules."""
KEEP_NEXT = re.compile(r"^\s*(?:postroom:\s*keep|juice\s+ignore\s+next)\s*$", re.IGNORECASE)
KEEP_START = re.compile(r"^\s*(?:postroom:\s*keep\s+start|juice\s+start\s+ignore)\s*$", re.IGNORECASE)
KEEP_END = re.compile(r"^\s*(?:postroom:\s*keep\s+end|juice\s+end\s+ignore)\s*$", re.IGNORECASE)
INFO = Severity.INFO
OUTSIDE = "this is not a rule: write `selector { property: value }`, and a { for each }"
INSIDE = "this is not a declaration: write `property: value;`"
HACK = re.compile(r"[\x00-\x08\x0e-\x1f\t]\Z")
"""What `\\9` at the end of a value is once its escape is read: a character of a name or a unit."""
NOT_A_SELECTOR = "see https://developer.mozilla.org/docs/Web/CSS/CSS_selectors"


@dataclass(frozen=True, slots=True)
class Declaration:
    """`color: red !important`, with its name in lower case unless it is a custom property."""

    name: str
    value: str
    """As written, without comments and `!important`; white space is one space."""
    important: bool

    def text(self, *, important: bool) -> str:
        """The declaration as CSS."""
        return f"{self.name}:{self.value}{' !important' if important else ''}"


@dataclass(frozen=True)
class StyleRule:
    """Selectors and their declarations."""

    number: int
    """Its place in the order of the sheet."""
    selectors: tuple[Selector, ...]
    declarations: tuple[Declaration, ...]
    conditional: bool
    """It is in a group, or a comment asks to keep it: it stays in the sheet."""
    condition: str = ""
    """The preludes of the groups around it: rules with the same one apply together."""
    layered: bool = False
    """It is in an `@layer`: every rule outside of layers beats it."""
    whole: bool = False
    """Some browsers leave it out for one of its selectors, so that it can be neither split nor inlined."""


@dataclass(frozen=True)
class Group:
    """`@media (…) { … }`."""

    prelude: str
    items: tuple["Item", ...]


@dataclass(frozen=True, slots=True)
class Verbatim:
    """An at-rule that is passed on as it is written: `@font-face`, `@import`, `@keyframes`."""

    text: str


Item = StyleRule | Group | Verbatim


@dataclass(frozen=True)
class Sheet:
    """One style sheet."""

    items: tuple[Item, ...]
    rules: tuple[StyleRule, ...]
    """All style rules, also those in groups, by number."""
    animated: frozenset[str] = frozenset()
    """Properties that keyframes set: an `!important` would stop the animation."""
    problems: tuple[Problem, ...] = ()


def read_sheet(css: str, media: str = "") -> Sheet:
    """Read a sheet. With `media`, the attribute of a `<style>`, all of its rules are conditional.

    Its problems are of the field `spec.css`. Cached: validation reads a stylesheet for its problems and for
    each page that it styles, and many templates share a layout's.
    """
    return _read_sheet(css, media if is_condition(media) else "")


@lru_cache(maxsize=512)
def _read_sheet(css: str, condition: str) -> Sheet:
    reader = _StylesheetReader(conditional=bool(condition), condition=condition)
    items = tuple(reader.items(tinycss2.parse_stylesheet(css, skip_comments=False, skip_whitespace=True)))
    problems = tuple(reader.problems)
    if not items:  # nothing of it can be used, as when its braces are missing
        problems = tuple(
            each if each.severity is INFO else replace(each, code=Code.CSS_INVALID, severity=Severity.ERROR)
            for each in problems
        )
    return Sheet(items, tuple(reader.rules), frozenset(reader.animated), problems)


def is_condition(media: str) -> bool:
    """Whether the `media` attribute of a `<style>` makes its rules depend on the device."""
    return media.strip().lower() not in ("", "all")


def read_declarations(text: str) -> list[Declaration]:
    """The declarations of a `style` attribute; what a browser would skip is left out."""
    found = tinycss2.parse_blocks_contents(text, skip_comments=True, skip_whitespace=True)
    return [_declaration(node) for node in found if node.type == "declaration"]


def _declaration(node: Any) -> Declaration:
    name = node.name if node.name.startswith("--") else node.lower_name
    custom = name.startswith("--")  # its text is read by scripts and by `var()`, so it stays as it is
    value = str(tinycss2.serialize(node.value)).strip() if custom else _value(node.value)
    return Declaration(name, value, node.important)


def _ends_in_hack(tokens: Sequence[Any]) -> bool:
    """Whether a value ends in the escape of a tab; a tab behind the value is only white space."""
    for token in reversed(tokens):
        if token.type not in ("whitespace", "comment"):
            written = (
                token.unit if token.type == "dimension" else token.value if token.type == "ident" else ""
            )
            return bool(HACK.search(written))
    return False


def _value(tokens: Sequence[Any]) -> str:
    """The value on one line, without its comments."""
    kept = [token for token in tokens if token.type != "comment"]
    _in_single_quotes(kept)
    return str(tinycss2.serialize(kept)).strip()


def _in_single_quotes(tokens: Sequence[Any]) -> None:
    """Write strings with the quotes that fit into a `style` attribute, where that changes nothing else."""
    for token in tokens:
        if token.type == "whitespace":
            token.value = " "
        elif token.type in ("string", "url") and not any(sign in token.value for sign in "'\"\\\n"):
            token.representation = token.representation.replace('"', "'")
        elif token.type == "function":
            _in_single_quotes(token.arguments)


@dataclass(slots=True)
class _StylesheetReader:
    """Reads one sheet; collects its rules and problems."""

    conditional: bool
    condition: str
    layered: bool = False
    rules: list[StyleRule] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    animated: set[str] = field(default_factory=set)

    def items(self, nodes: Sequence[Any], parent: Sequence[Selector] = ()) -> Iterator[Item]:
        keeping = keep_next = False
        for node in nodes:
            if node.type == "comment":
                keeping = (keeping or bool(KEEP_START.match(node.value))) and not KEEP_END.match(node.value)
                keep_next = keep_next or bool(KEEP_NEXT.match(node.value))
                continue
            outer, self.conditional = self.conditional, self.conditional or keeping or keep_next
            if node.type == "qualified-rule":
                yield from self._style(node, parent)
            elif node.type == "at-rule":
                yield self._at_rule(node, parent)
            elif node.type == "error":
                self._report(node, _plainly(node.message, OUTSIDE))
            self.conditional = outer
            keep_next = keep_next and node.type == "whitespace"

    def _style(self, node: Any, parent: Sequence[Selector]) -> Iterator[Item]:
        try:
            selectors = _nest(node.prelude, parent) if parent else read_selectors(node.prelude)
        except SelectorError as error:
            self._report(node, f"{error}; {NOT_A_SELECTOR}")
            return
        yield from self._body(node.content, selectors)

    def _body(self, content: Sequence[Any], selectors: Sequence[Selector]) -> Iterator[Item]:
        """The declarations of a rule, and the rules that are nested in it, each in its place."""
        held: list[Declaration] = []
        for item in tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True):
            if item.type == "declaration" and _ends_in_hack(item.value):
                self._hack(
                    item, ", ".join(each.text for each in selectors)[:60], "a value that ends in `\\9`"
                )
            elif item.type == "declaration":
                held.append(_declaration(item))
            elif item.type == "error":
                self._broken_declaration(item, content, selectors)
            else:
                if held:
                    yield self._rule(selectors, held)
                    held = []
                yield from self.items([item], selectors)
        if held:
            yield self._rule(selectors, held)

    def _rule(self, selectors: Sequence[Selector], declarations: Sequence[Declaration]) -> StyleRule:
        rule = StyleRule(
            len(self.rules),
            tuple(selectors),
            tuple(declarations),
            self.conditional,
            self.condition,
            self.layered,
            not all(selector.is_known for selector in selectors),
        )
        self.rules.append(rule)
        return rule

    def _at_rule(self, node: Any, parent: Sequence[Selector]) -> Item:
        name = node.lower_at_keyword
        if name.endswith("keyframes") and node.content:
            for frame in tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True):
                if frame.type == "qualified-rule":
                    self.animated |= {
                        each.name for each in read_declarations(tinycss2.serialize(frame.content))
                    }
        if name not in GROUPS or node.content is None:
            return Verbatim(node.serialize().strip())
        prelude = f"@{node.at_keyword} {tinycss2.serialize(node.prelude).strip()}".rstrip()
        outer = self.conditional, self.condition, self.layered
        self.conditional, self.condition = True, f"{self.condition} {prelude}"
        self.layered = self.layered or name == "layer"
        if parent:
            items = tuple(self._body(node.content, parent))
        else:
            inner = tinycss2.parse_rule_list(node.content, skip_comments=False, skip_whitespace=True)
            items = tuple(self.items(inner))
        self.conditional, self.condition, self.layered = outer
        return Group(prelude, items)

    def _broken_declaration(self, error: Any, content: Sequence[Any], selectors: Sequence[Selector]) -> None:
        names = ", ".join(selector.text for selector in selectors)[:60]
        segment = _segment(content, error)
        if segment[:1] == ["*"]:
            self._hack(segment[0], names, "a property with `*` before its name")
        else:
            self._report(segment[0] if segment else error, f"in `{names}`: {_plainly(error.message, INSIDE)}")

    def _hack(self, node: Any, names: str, what: str) -> None:
        message = f"in `{names}`: {what} is a hack for old browsers, which no mail client reads"
        self._report(node, f"{message}; it is left out, and you can delete it", INFO)

    def _report(self, node: Any, message: str, severity: Severity = Severity.WARNING) -> None:
        self.problems.append(
            Problem(
                Code.CSS_IGNORED, "spec.css", message, node.source_line, node.source_column, severity=severity
            )
        )


def _segment(content: Sequence[Any], error: Any) -> list[Any]:
    """The tokens from the last `;` to the place of an error, without white space."""
    held: list[Any] = []
    for token in content:
        if (token.source_line, token.source_column) >= (error.source_line, error.source_column):
            break
        if token == ";":
            held = []
        elif token.type not in ("whitespace", "comment"):
            held.append(token)
    return held


def _plainly(message: str, meant: str) -> str:
    """The parser's message, except where only its author would understand it."""
    return meant if "block for a qualified rule" in message else message.rstrip(".")


def _nest(prelude: Sequence[Any], parent: Sequence[Selector]) -> list[Selector]:
    """The selectors of a nested rule, with the parent's in the place of `&` (CSS Nesting 1 §3)."""
    texts = [selector.text for selector in parent]
    alike = len({selector.specificity for selector in parent}) == 1
    simple = alike and all(len(selector.compounds) == 1 for selector in parent)
    out: list[Selector] = []
    for relative in split_list(prelude):
        if all(token.type in ("whitespace", "comment") for token in relative):
            raise SelectorError("a nested rule has no selector")
        for own in texts if simple else [f":is({', '.join(texts)})"]:
            nested = _with_parent(relative, own)
            out.append(read_selector(tinycss2.parse_component_value_list(nested)))
    return out


def _with_parent(tokens: Sequence[Any], own: str) -> str:
    text = "".join(own if token == "&" else token.serialize() for token in tokens).strip()
    is_relative = text[:1] in COMBINATORS or not any(token == "&" for token in tokens)
    return f"{own} {text}" if is_relative else text
