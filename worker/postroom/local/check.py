"""`postroom check`: print the findings of a `ManifestSet` for people and for programs.

Input: a `ManifestSet`. Output: lines of text in one of five formats:

- `text`: each finding with severity, rule and position, the line of the file with the range underlined, and
  for the first finding of a rule why it matters and how to fix it; errors first; a summary as the last line;
- `concise`: one line for each finding, `file:line:column: severity[rule] message`, for editors and grep;
- `json`: one document; docs/reference/rules.md has its schema;
- `sarif`: SARIF 2.1.0 for code scanning (OASIS, "Static Analysis Results Interchange Format"): one run with
  the rules that have findings. File URIs are relative to the working folder, as GitHub and GitLab expect
  them; columns count characters (`unicodeCodePoints`), and `endColumn` is the column after the last one;
- `github`: workflow commands, which GitHub shows beside the lines of a change.
"""

import json
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import quote

from rich.cells import cell_len
from rich.text import Text

from postroom.letter.problems import Code, Severity
from postroom.letter.validation.rules import RULES, Rule
from postroom.letter.validation.validate import TemplateValidation
from postroom.local.manifests import Finding, ManifestSet

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
INFORMATION = "https://postroom.dev/"
SARIF_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
SOURCE_ROOT = "SRCROOT"


def to_sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the SARIF document as JSON values."""
    names = list(dict.fromkeys(finding.rule for finding in findings))
    driver = {
        "name": "postroom check",
        "version": version("postroom"),
        "informationUri": INFORMATION,
        "rules": [_rule(name) for name in names],
    }
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, names) for finding in findings],
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    rule = next((rule for code, rule in RULES.items() if code == name), None)
    if rule is None:
        return {"id": name, "shortDescription": {"text": name}, "defaultConfiguration": {"level": "error"}}
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": " ".join(filter(None, (rule.title, rule.why)))},
        "help": {"text": _help(rule, "{}:\n{}"), "markdown": _help(rule, "{}:\n\n```html\n{}\n```")},
        "defaultConfiguration": {"level": SARIF_LEVELS[rule.severity]},
        "properties": {"tags": ["email"], "precision": "high"},
    }


def _help(rule: Rule, form: str) -> str:
    parts = [rule.help, rule.why]
    if rule.example and rule.instead:
        parts += [form.format("Instead of", rule.example), form.format("write", rule.instead)]
    parts += [f"Source: {source}" for source in rule.sources]
    return "\n\n".join(filter(None, parts))


def _result(finding: Finding, names: Sequence[str]) -> dict[str, Any]:
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endColumn": max(finding.end_column, finding.column + 1),
        "snippet": {"text": finding.source},
    }
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": _artifact(finding.file), "region": region}
    }
    if finding.subject:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.subject, "kind": "object"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": names.index(finding.rule),
        "level": SARIF_LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [location],
    }


def _artifact(file: str) -> dict[str, str]:
    path = PurePath(file)
    if path.is_absolute():
        if not path.is_relative_to(Path.cwd()):
            return {"uri": path.as_uri()}
        path = path.relative_to(Path.cwd())
    return {"uri": quote(path.as_posix()), "uriBaseId": SOURCE_ROOT}


FormatName = Literal["text", "concise", "json", "sarif", "github"]
MISSING = frozenset({Code.PROFILE_NOT_FOUND, Code.LAYOUT_NOT_FOUND})
JSON_VERSION = 1
"""The version of the JSON document's schema; new fields do not change it."""
MIN_WIDTH = 40
COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold cyan"}
GITHUB = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
LINK = re.compile(r"\[([^\]]*)\]\(([^).#]*)[^)]*\)")


def may_go_live(manifest_set: ManifestSet, *, strict: bool) -> bool:
    """Whether all objects may go live; with `strict` warnings count as errors, infos do not.

    The warning about a reference to an object elsewhere never counts: the user asked for it.
    """
    counted = [warning for warning in manifest_set.warnings if warning.rule not in MISSING]
    return not manifest_set.errors and not (strict and counted)


def format_report(manifest_set: ManifestSet, form: FormatName, width: int = 80) -> Iterator[Text]:
    """Yield the report in a format, line by line; `width` is the terminal's width in cells."""
    match form:
        case "json":
            yield Text(_json(manifest_set))
        case "sarif":
            yield Text(json.dumps(to_sarif(manifest_set.findings), ensure_ascii=False, indent=2))
        case "github":
            yield from map(Text, map(_github, manifest_set.findings))
            yield Text(summary_line(manifest_set))
        case "concise":
            yield from map(_concise, _by_severity(manifest_set))
            yield Text(summary_line(manifest_set))
        case "text":
            yield from _text(manifest_set, max(width, MIN_WIDTH))


def summary_line(manifest_set: ManifestSet) -> str:
    """Return a line like `8 files, 1 profile; 6 of 6 templates pass; 21 sample letters rendered; …`."""
    results = manifest_set.validation.results
    templates = [result for key, result in results.items() if key.kind == "EmailTemplate"]
    passed = sum(result.passed for result in templates)
    letters = sum(len(result.samples) for result in templates)
    asked = len(templates) + manifest_set.unread_templates
    apart = sum(map(_without_layout, templates))
    counts = [_count(len(manifest_set.errors), "error"), _count(len(manifest_set.warnings), "warning")]
    counts += [_count(len(manifest_set.infos), "info")] if manifest_set.infos else []
    parts = [
        f"{_count(manifest_set.files, 'file')}, {_count(len(manifest_set.validation.profiles), 'profile')}",
        f"{passed} of {asked} {'template passes' if asked == passed == 1 else 'templates pass'}",
        *([f"{_count(apart, 'template')} not rendered, because the layout is missing"] if apart else []),
        f"{_count(letters, 'sample letter')} rendered",
        ", ".join(counts),
    ]
    return "; ".join(parts)


def _without_layout(result: TemplateValidation) -> bool:
    """Whether a template was checked without its layout, and has no problem so far."""
    missing = any(warning.code is Code.LAYOUT_NOT_FOUND for warning in result.warnings)
    return missing and not result.problems


def _by_severity(manifest_set: ManifestSet) -> tuple[Finding, ...]:
    return (*manifest_set.errors, *manifest_set.warnings, *manifest_set.infos)


# --- for people -----------------------------------------------------------------------------------


def _text(manifest_set: ManifestSet, width: int) -> Iterator[Text]:
    explained: set[str] = set()
    for finding in _by_severity(manifest_set):
        yield from _full_finding(finding, width, explain=finding.rule not in explained)
        explained.add(finding.rule)
        yield Text()
    yield from (Text(f"skipped: {line}") for line in manifest_set.skipped)
    yield from [Text()] if manifest_set.skipped else []
    yield from _wrapped(Text(summary_line(manifest_set)), "", width)


def _full_finding(finding: Finding, width: int, *, explain: bool) -> Iterator[Text]:
    """Yield the lines of a finding in the format `text`."""
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
    """Return the finding's line, dedented and cut to `room` cells; start and length of the underline."""
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
    """Replace control and bidi characters, so that a text cannot move the cursor; keeps the length."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "·" for c in text)


def _wrapped(text: Text, indent: str, width: int) -> Iterator[Text]:
    """Wrap a text into lines of at most `width` cells; longer words stay whole."""
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
    """Convert Markdown for a terminal: a link becomes its text, or the name of its page."""
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


def _json(manifest_set: ManifestSet) -> str:
    templates = [
        {
            "namespace": key.namespace,
            "name": key.name,
            "passes": None if _without_layout(result) else result.passed,
            "revision": result.compiled.revision if result.compiled else None,
            "samples": [
                {"name": sample.name, "locale": sample.locale, "html_bytes": sample.html_bytes}
                for sample in result.samples
            ],
        }
        for key, result in manifest_set.validation.results.items()
        if key.kind == "EmailTemplate"
    ]
    document = {
        "version": JSON_VERSION,
        "findings": [_fields(finding) for finding in manifest_set.findings],
        "templates": templates,
        "skipped": manifest_set.skipped,
        "files": manifest_set.files,
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
        f"file={_github_property(finding.file)},line={finding.line},col={finding.column},"
        f"endColumn={finding.end_column},title={_github_property(finding.rule)}"
    )
    return f"::{GITHUB[finding.severity]} {place}::{_github_message(finding.message)}"


def _github_message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_message(text).replace(":", "%3A").replace(",", "%2C")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
