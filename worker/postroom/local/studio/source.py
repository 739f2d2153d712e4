"""A file's lines as the studio shows them: numbered, with each finding under its line.

Input: text and the findings of the file. Output: `Line`s; the words at fault are a part of their own, so
that a page can underline them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from postroom.local.manifests import Finding

_KEY = re.compile(r"(\s*(?:- )*)([A-Za-z_][\w.-]*:)(?=\s|$)")
_QUOTED = re.compile(r"`([^`]{1,80})`")


@dataclass(frozen=True, slots=True)
class HighlightedLine:
    """One line: its number, its text in three parts, and what is wrong with it."""

    number: int
    before: str
    marked: str
    """The words at fault; empty where nothing is, or where they are not known."""
    after: str
    key: str = ""
    """The YAML key that the line begins with, without its indent; it is the beginning of `before`."""
    indent: str = ""
    findings: tuple[Finding, ...] = ()


def lines_of(text: str, findings: Iterable[Finding] = ()) -> list[HighlightedLine]:
    """Every line of a text."""
    by_line: dict[int, list[Finding]] = {}
    for finding in findings:
        by_line.setdefault(finding.line, []).append(finding)
    return [
        _line(number, content, tuple(by_line.get(number, ())))
        for number, content in enumerate(text.splitlines() or [""], 1)
    ]


def _line(number: int, text: str, findings: tuple[Finding, ...]) -> HighlightedLine:
    start, end = _span(text, findings)
    key = _KEY.match(text)
    if key and (start == end or key.end() <= start):
        rest = text[key.end() : start] if start != end else text[key.end() :]
        marked, after = (text[start:end], text[end:]) if start != end else ("", "")
        return HighlightedLine(number, rest, marked, after, key[2], key[1], findings)
    if start == end:
        return HighlightedLine(number, text, "", "", findings=findings)
    return HighlightedLine(number, text[:start], text[start:end], text[end:], findings=findings)


def _span(text: str, findings: tuple[Finding, ...]) -> tuple[int, int]:
    """Where the words at fault stand: by the finding's columns, else by what its message quotes."""
    for finding in findings:
        if finding.source == text:
            return finding.column - 1, min(finding.end_column - 1, len(text))
        for quoted in _QUOTED.findall(finding.message):
            if (start := text.find(quoted)) >= 0:
                return start, start + len(quoted)
    return 0, 0
