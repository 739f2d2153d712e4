"""`postroom check`: say what is wrong in a folder of manifests, for people and for programs.

Input: a `Reading`. Output: lines of text. Forms:

- `text`: each finding with its severity, rule and place, the line of the file with the words underlined, and
  for the first finding of a rule why it matters and what to do; errors first; one line of summary at the end;
- `concise`: one line a finding, `file:line:column: severity[rule] message`, for editors and grep;
- `json`: one document, whose schema is in docs/reference/rules.md;
- `sarif`: SARIF 2.1.0 (`postroom.local.sarif`);
- `github`: workflow commands, which GitHub shows beside the lines of a change.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from rich.cells import cell_len
from rich.text import Text

from postroom.letter.problems import Code, Severity
from postroom.letter.validation.validate import TemplateValidation
from postroom.local.manifests import Finding, Reading
from postroom.local.sarif import sarif

Form = Literal["text", "concise", "json", "sarif", "github"]
MISSING = frozenset({Code.PROFILE_NOT_FOUND, Code.LAYOUT_NOT_FOUND})
JSON_VERSION = 1
"""Of the JSON document; a field may be added without a new one."""
NARROWEST = 40
COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}
GITHUB = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
LINK = re.compile(r"\[([^\]]*)\]\(([^).#]*)[^)]*\)")


def passes(reading: Reading, *, strict: bool) -> bool:
    """Whether everything may go live; with `strict` a warning is as bad as an error, and an info is not.

    Not the warning that a reference leads out of what was read: it is there only if it was asked for.
    """
    counted = [warning for warning in reading.warnings if warning.rule not in MISSING]
    return not reading.errors and not (strict and counted)


def report(reading: Reading, form: Form, width: int = 80) -> Iterator[Text]:
    """The findings in one of the forms, line by line; `width` is the terminal's, in cells."""
    match form:
        case "json":
            yield Text(_json(reading))
        case "sarif":
            yield Text(json.dumps(sarif(reading.findings), ensure_ascii=False, indent=2))
        case "github":
            yield from map(Text, map(_github, reading.findings))
            yield Text(summary(reading))
        case "concise":
            yield from map(_concise, _by_severity(reading))
            yield Text(summary(reading))
        case "text":
            yield from _text(reading, max(width, NARROWEST))


def summary(reading: Reading) -> str:
    """`8 files, 1 profile; 6 of 6 templates pass; 21 sample letters rendered; 0 errors, 2 warnings`."""
    proofs = reading.verdict.results
    templates = [proof for key, proof in proofs.items() if key.kind == "EmailTemplate"]
    passed = sum(proof.passed for proof in templates)
    letters = sum(len(proof.samples) for proof in templates)
    asked = len(templates) + reading.unread_templates
    apart = sum(map(_without_layout, templates))
    counts = [_count(len(reading.errors), "error"), _count(len(reading.warnings), "warning")]
    counts += [_count(len(reading.infos), "info")] if reading.infos else []
    parts = [
        f"{_count(reading.files, 'file')}, {_count(len(reading.verdict.profiles), 'profile')}",
        f"{passed} of {asked} {'template passes' if asked == passed == 1 else 'templates pass'}",
        *([f"{_count(apart, 'template')} not rendered, for want of a layout"] if apart else []),
        f"{_count(letters, 'sample letter')} rendered",
        ", ".join(counts),
    ]
    return "; ".join(parts)


def _without_layout(proof: TemplateValidation) -> bool:
    """Whether nothing is wrong with a template as far as can be told without its layout."""
    missing = any(warning.code is Code.LAYOUT_NOT_FOUND for warning in proof.warnings)
    return missing and not proof.problems


def _by_severity(reading: Reading) -> tuple[Finding, ...]:
    return (*reading.errors, *reading.warnings, *reading.infos)


# --- for people -----------------------------------------------------------------------------------


def _text(reading: Reading, width: int) -> Iterator[Text]:
    explained: set[str] = set()
    for finding in _by_severity(reading):
        yield from _drawn(finding, width, explain=finding.rule not in explained)
        explained.add(finding.rule)
        yield Text()
    yield from (Text(f"skipped: {line}") for line in reading.skipped)
    yield from [Text()] if reading.skipped else []
    yield from _wrapped(Text(summary(reading)), "", width)


def _drawn(finding: Finding, width: int, *, explain: bool) -> Iterator[Text]:
    """A finding in full."""
    colour = COLOURS[finding.severity]
    head = Text.assemble((f"{finding.severity}[{finding.rule}]", colour), " ")
    head.append(printable(finding.message), style="bold")
    yield from _wrapped(head, "  ", width)
    gutter = " " * len(str(finding.line))
    place = f"{finding.file}:{finding.line}:{finding.column}"
    yield Text.assemble((f"{gutter}--> ", "bold blue"), printable(place))
    if finding.source.strip():
        shown, start, length = excerpt(finding, width - len(gutter) - 3)
        yield Text.assemble((f"{gutter} |", "bold blue"))
        yield Text.assemble((f"{finding.line} | ", "bold blue"), shown)
        yield Text.assemble((f"{gutter} | ", "bold blue"), " " * start, ("^" * length, colour))
    for name, text in (("why", finding.why), ("help", finding.help)):
        if explain and text and (finding.severity is not Severity.ERROR or ";" not in finding.message):
            lead = Text.assemble((f"{gutter} = ", "bold blue"), (f"{name}: ", "bold"))
            for line in _wrapped(Text(_plain(text)), "", width - len(lead)):
                yield lead + line
                lead = Text(" " * len(lead))


def excerpt(finding: Finding, room: int) -> tuple[str, int, int]:
    """The finding's line without its indentation, cut to `room` cells; where to underline it, in cells."""
    line = printable(finding.source.rstrip())
    indent = min(len(line) - len(line.lstrip()), finding.column - 1)
    begin, end = finding.column - 1 - indent, min(finding.end_column - 1, len(line)) - indent
    line = line[indent:]
    if begin > room // 2 and cell_len(line) > room:
        cut = begin - room // 3
        line, begin, end = "…" + line[cut + 1 :], begin - cut, end - cut
    end = max(end, begin + 1)
    kept = line
    while cell_len(kept) > room:
        kept = kept[:-2].rstrip("…") + "…"
    start = cell_len(line[:begin])
    return kept, start, max(1, min(cell_len(line[begin:end]), room - start))


def printable(text: str) -> str:
    """A text in which nothing moves the cursor or turns the writing around; its length stays."""
    return "".join(each if each.isprintable() else " " if each == "\t" else "·" for each in text)


def _wrapped(text: Text, indent: str, width: int) -> Iterator[Text]:
    """The text in lines of at most `width` cells; words longer than that are left whole."""
    words = text.split(" ", allow_blank=True)
    line, used = Text(), 0
    for word in words:
        if used and used + 1 + word.cell_len > width:
            yield line
            line, used = Text(indent), len(indent)
            line.append_text(word)
        else:
            line.append_text(Text(" ") + word if used else word)
            used += 1 if used else 0
        used += word.cell_len
    yield line


def _plain(markdown: str) -> str:
    """Markdown for a terminal: links become the names that they have, or that their page has."""
    return LINK.sub(lambda link: link.group(1) or f"the page {link.group(2)}", markdown)


# --- for programs ---------------------------------------------------------------------------------


def _concise(finding: Finding) -> Text:
    place = f"{finding.file}:{finding.line}:{finding.column}"
    return Text.assemble(
        (printable(place), "bold"),
        ": ",
        (f"{finding.severity}[{finding.rule}]", COLOURS[finding.severity]),
        f" {printable(finding.message)}",
    )


def _json(reading: Reading) -> str:
    templates = [
        {
            "namespace": key.namespace,
            "name": key.name,
            "passes": None if _without_layout(proof) else proof.passed,
            "revision": proof.compiled.revision if proof.compiled else None,
            "samples": [
                {"name": sample.name, "locale": sample.locale, "html_bytes": sample.html_bytes}
                for sample in proof.samples
            ],
        }
        for key, proof in reading.verdict.results.items()
        if key.kind == "EmailTemplate"
    ]
    document = {
        "version": JSON_VERSION,
        "findings": [_fields(finding) for finding in reading.findings],
        "templates": templates,
        "skipped": reading.skipped,
        "files": reading.files,
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _fields(finding: Finding) -> dict[str, Any]:
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "end_column": finding.end_column,
        "severity": finding.severity,
        "rule": finding.rule,
        "message": finding.message,
        "why": _plain(finding.why),
        "help": _plain(finding.help),
        "subject": finding.subject,
    }


def _github(finding: Finding) -> str:
    place = (
        f"file={_property(finding.file)},line={finding.line},col={finding.column},"
        f"endColumn={finding.end_column},title={_property(finding.rule)}"
    )
    return f"::{GITHUB[finding.severity]} {place}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
