"""Findings as SARIF 2.1.0, the format of code scanning (OASIS, "Static Analysis Results Interchange Format").

Findings in, one document of JSON values out: one run with every rule that found something, and one result for
each finding. Addresses of files are relative to the working folder, as GitHub and GitLab expect them; columns
count characters (`unicodeCodePoints`), `endColumn` is the one after the last.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from postroom.letter.problems import Severity
from postroom.letter.validation.rules import RULES, Rule
from postroom.local.manifests import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
INFORMATION = "https://postroom.dev/"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
ROOT = "SRCROOT"


def sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """The document."""
    names = list(dict.fromkeys(finding.rule for finding in findings))
    driver = {
        "name": "postroom check",
        "version": version("postroom"),
        "informationUri": INFORMATION,
        "rules": [_rule(name) for name in names],
    }
    return {
        "$schema": SCHEMA,
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
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
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
        "level": LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [location],
    }


def _artifact(file: str) -> dict[str, str]:
    path = PurePath(file)
    if path.is_absolute():
        if not path.is_relative_to(Path.cwd()):
            return {"uri": path.as_uri()}
        path = path.relative_to(Path.cwd())
    return {"uri": quote(path.as_posix()), "uriBaseId": ROOT}
