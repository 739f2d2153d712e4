"""`postroom check`: prove a folder of manifests and say what is wrong, for people, programs and GitHub.

Input: a `Reading`. Output: lines. In the text form errors come first, then warnings, then one line of
summary; `json` is one document; `github` is workflow commands, which GitHub shows beside the lines of a
change (docs.github.com, "Workflow commands").
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

from postroom.letter.problems import Code
from postroom.letter.proof import Proof
from postroom.local.manifests import Finding, Reading

Form = Literal["text", "json", "github"]
MISSING = frozenset({Code.PROFILE_NOT_FOUND, Code.LAYOUT_NOT_FOUND})


def passes(reading: Reading, *, strict: bool) -> bool:
    """Whether everything may go live; with `strict` a warning is as bad as an error.

    Not the warning that a reference leads out of what was read: it is there only if it was asked for.
    """
    advice = [warning for warning in reading.warnings if warning.rule not in MISSING]
    return not reading.errors and not (strict and advice)


def report(reading: Reading, form: Form) -> Iterator[str]:
    """The findings in one of the forms."""
    match form:
        case "json":
            yield _json(reading)
        case "github":
            yield from map(_github, reading.findings)
            yield summary(reading)
        case "text":
            yield from _text(reading)


def summary(reading: Reading) -> str:
    """`8 files, 1 profile; 6 of 6 templates pass; 21 sample letters rendered; 0 errors, 2 warnings`."""
    proofs = reading.verdict.proofs
    templates = [proof for key, proof in proofs.items() if key.kind == "EmailTemplate"]
    passed = sum(proof.passed for proof in templates)
    letters = sum(len(proof.samples) for proof in templates)
    asked = len(templates) + reading.unread_templates
    apart = sum(map(_without_layout, templates))
    parts = [
        f"{_count(reading.files, 'file')}, {_count(len(reading.verdict.profiles), 'profile')}",
        f"{passed} of {asked} {'template passes' if asked == passed == 1 else 'templates pass'}",
        *([f"{_count(apart, 'template')} not rendered, for want of a layout"] if apart else []),
        f"{_count(letters, 'sample letter')} rendered",
        f"{_count(len(reading.errors), 'error')}, {_count(len(reading.warnings), 'warning')}",
    ]
    return "; ".join(parts)


def _without_layout(proof: Proof) -> bool:
    """Whether nothing is wrong with a template as far as can be told without its layout."""
    missing = any(warning.code is Code.LAYOUT_NOT_FOUND for warning in proof.warnings)
    return missing and not proof.problems


def _text(reading: Reading) -> Iterator[str]:
    yield from map(str, reading.errors)
    if reading.warnings:
        if reading.errors:
            yield ""
        yield from (f"{finding} (warning)" for finding in reading.warnings)
    yield from (f"skipped: {line}" for line in reading.skipped)
    if reading.findings or reading.skipped:
        yield ""
    yield summary(reading)


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
        for key, proof in reading.verdict.proofs.items()
        if key.kind == "EmailTemplate"
    ]
    findings = [asdict(finding) for finding in reading.findings]
    document = {
        "findings": findings,
        "templates": templates,
        "skipped": reading.skipped,
        "files": reading.files,
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _github(finding: Finding) -> str:
    place = f"file={_property(finding.file)},line={finding.line},title={_property(finding.rule)}"
    return f"::{finding.severity} {place}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
