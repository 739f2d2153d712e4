"""Reading a letter's CSS: what can be inlined, what must stay in a `<style>`, what is wrong and where.

Mail clients that read `<style>` at all give way to inline styles, so that what stays there (media
queries, dark mode, `:hover`) is made `!important`. Nothing is ever fetched: `@import` is refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cssselect
import tinycss2  # type: ignore[import-untyped]

from postroom.letter.problems import Code, Problem, Rejected

INLINABLE_PSEUDO = (":first-child", ":last-child")
POSITIONAL = (*INLINABLE_PSEUDO, "+", "~")
GROUPS = frozenset(("media", "supports"))
KEPT = frozenset(("font-face", "keyframes", "-webkit-keyframes"))

OUTSIDE = "this is no rule: write `selector { property: value }`, and a { for each }"
INSIDE = "this is no declaration: write `property: value;`"


@dataclass(frozen=True, slots=True)
class Sheet:
    """CSS, split by what becomes of it."""

    inlined: str
    kept: str
    positional: str = ""
    """An inlined selector that depends on an element's neighbours, if there is one."""


@dataclass(frozen=True, slots=True)
class _Rule:
    selectors: tuple[str, ...]
    declarations: tuple[Any, ...]


def read_css(css: str, field: str = "spec.css", offset: int = 0) -> Sheet:
    """Split a sheet. Raises Rejected (css_invalid) with every mistake; `offset` is added to its lines."""
    problems: list[Problem] = []

    def report(message: str, node: Any) -> None:
        line = node.source_line + offset
        # of a `<style>`, what stands before the CSS on its first line is not known here
        column = node.source_column if node.source_line > 1 or not offset else None
        problems.append(Problem(Code.CSS_INVALID, field, message, line, column))

    inlined: list[str] = []
    kept: list[str] = []
    positional = ""
    for node in tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True):
        if node.type == "qualified-rule":
            rule = _read_rule(node, report)
            inline = [selector for selector in rule.selectors if _is_inlinable(selector)]
            stay = [selector for selector in rule.selectors if selector not in inline]
            if inline:
                inlined.append(_write(inline, rule.declarations, important=False))
            if stay:
                kept.append(_write(stay, rule.declarations, important=True))
            positional = positional or next((s for s in inline if any(p in s for p in POSITIONAL)), "")
        else:
            kept += _keep(node, report)
    if problems:
        raise Rejected(*problems)
    return Sheet("\n".join(inlined), "\n".join(kept), positional)


def _keep(node: Any, report: Any) -> Iterator[str]:
    if node.type == "error":
        report(_plainly(node.message, OUTSIDE), node)
    elif node.type == "at-rule":
        name = node.lower_at_keyword
        if name in GROUPS and node.content is not None:
            yield f"@{name} {tinycss2.serialize(node.prelude).strip()} {{\n{_keep_group(node, report)}\n}}"
        elif name in KEPT:
            yield node.serialize()
        elif name != "charset":
            reason = (
                "nothing is fetched when a letter is made" if name == "import" else "mail clients ignore it"
            )
            report(f"`@{name}` is not for letters: {reason}", node)


def _keep_group(node: Any, report: Any) -> str:
    rules: list[str] = []
    for inner in tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True):
        if inner.type == "qualified-rule":
            rule = _read_rule(inner, report)
            rules.append(_write(rule.selectors, rule.declarations, important=True))
        else:
            rules += _keep(inner, report)
    return "\n".join(rules)


def _read_rule(node: Any, report: Any) -> _Rule:
    selectors = tuple(s.strip() for s in _split_selectors(node.prelude))
    for selector in selectors:
        try:
            cssselect.parse(selector)
        except cssselect.SelectorError:
            report(f"`{selector[:60]}` is not a selector", node)
    declarations = []
    for item in tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True):
        if item.type == "declaration":
            declarations.append(item)
        else:
            nested = "rules inside of rules are not for letters"
            message = _plainly(item.message, INSIDE) if item.type == "error" else nested
            report(f"in `{', '.join(selectors)[:60]}`: {message}", item)
    return _Rule(selectors, tuple(declarations))


def _plainly(said: str, meant: str) -> str:
    """The parser's words, but for those that only its author understands."""
    return meant if "block for a qualified rule" in said else said.rstrip(".")


def _split_selectors(prelude: Iterable[Any]) -> Iterator[str]:
    held: list[Any] = []
    for token in prelude:
        if token == ",":
            yield tinycss2.serialize(held)
            held = []
        else:
            held.append(token)
    yield tinycss2.serialize(held)


def _is_inlinable(selector: str) -> bool:
    """Whether an inline style can say it: no states (`:hover`), no `*`."""
    if "*" in selector:
        return False
    plain, colon, pseudo = selector.partition(":")
    return not colon or (bool(plain) and colon + pseudo in INLINABLE_PSEUDO)


def _write(selectors: Iterable[str], declarations: Iterable[Any], *, important: bool) -> str:
    lines = (
        f"{item.name}:{tinycss2.serialize(item.value).strip()}"
        + (" !important" if important or item.important else "")
        for item in declarations
    )
    return f"{', '.join(selectors)} {{ {'; '.join(lines)} }}"
