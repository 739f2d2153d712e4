"""`postroom check` says what is wrong as people, programs and GitHub read it."""

import json
from pathlib import Path

import pytest

from postroom.local.check import passes, report
from postroom.local.manifests import Finding, Reading, read_folder, read_input
from tests.local.sources import PROFILE, TEMPLATE, write

ERROR = Finding("m/a.yaml", 3, "css_invalid", "50% of: this\nand that")
WARNING = Finding("m/b.yaml", 4, "advice", "an image has no alt text", "warning")


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    write(tmp_path, profile=PROFILE, welcome=TEMPLATE)
    return read_folder(tmp_path)


def test_a_good_folder_is_one_line_of_summary(reading: Reading) -> None:
    assert list(report(Reading(reading.objects, reading.verdict, files=2), "text")) == [
        "2 files, 1 profile; 1 of 1 template passes; 1 sample letter rendered; 0 errors, 0 warnings"
    ]


def test_errors_come_first_and_warnings_apart() -> None:
    lines = list(report(Reading(findings=(WARNING, ERROR), files=2), "text"))
    assert lines[0].startswith("m/a.yaml:3: css_invalid: ")
    assert lines[2] == "m/b.yaml:4: advice: an image has no alt text (warning)"
    assert lines[-1].endswith("1 error, 1 warning")


def test_github_gets_workflow_commands_with_escaped_text() -> None:
    lines = list(report(Reading(findings=(ERROR, WARNING), files=2), "github"))
    assert lines[0] == "::error file=m/a.yaml,line=3,title=css_invalid::50%25 of: this%0Aand that"
    assert lines[1].startswith("::warning file=m/b.yaml,line=4")


def test_json_is_one_document_with_revisions(reading: Reading) -> None:
    (text,) = report(reading, "json")
    document = json.loads(text)
    (template,) = document["templates"]
    assert (template["name"], template["passes"], len(template["revision"])) == ("welcome", True, 12)
    assert document["files"] == 2


def test_a_template_that_cannot_be_read_counts_as_one_that_does_not_pass(tmp_path: Path) -> None:
    write(tmp_path, profile=PROFILE, welcome=TEMPLATE.replace("html:", "htm:"))
    assert "; 0 of 1 templates pass; " in list(report(read_folder(tmp_path), "text"))[-1]


def test_what_could_not_be_rendered_is_counted_and_neither_passes_nor_fails(tmp_path: Path) -> None:
    write(tmp_path, welcome=TEMPLATE.replace("  eventTypes:", "  layoutRef: {name: page}\n  eventTypes:"))
    found = read_input(tmp_path, elsewhere=True)
    assert passes(found, strict=True)
    assert list(report(found, "text"))[-1] == (
        "1 file, 0 profiles; 0 of 1 templates pass; 1 template not rendered, for want of a layout; "
        "0 sample letters rendered; 0 errors, 2 warnings"
    )
    (text,) = report(found, "json")
    assert [each["passes"] for each in json.loads(text)["templates"]] == [None]


def test_strict_takes_a_warning_for_an_error() -> None:
    assert passes(Reading(findings=(WARNING,)), strict=False)
    assert not passes(Reading(findings=(WARNING,)), strict=True)
    assert not passes(Reading(findings=(ERROR,)), strict=False)
