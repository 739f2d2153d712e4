"""`postroom check` reports findings for people, programs and GitHub."""

import json
from pathlib import Path

import pytest

from postroom.letter.problems import Severity
from postroom.local.check import FormatName, excerpt, format_report, may_go_live, printable
from postroom.local.manifests import Finding, ManifestSet, read_input, read_manifest_folder
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests

ERROR = Finding(
    "m/a.yaml", 3, "css_invalid", "50% of: this\nand that", column=5, end_column=9, source="  a { b }"
)
WARNING = Finding(
    "m/b.yaml",
    14,
    "image_without_alt",
    "this image has no alt text",
    Severity.WARNING,
    "EmailTemplate b",
    7,
    23,
    '      <img src="a.png"> and more',
)
INFO = Finding("m/b.yaml", 5, "link_insecure", "this address uses http://", Severity.INFO)


def lines(manifest_set: ManifestSet, form: FormatName, width: int = 80) -> list[str]:
    return [line.plain for line in format_report(manifest_set, form, width)]


@pytest.fixture
def manifest_set(tmp_path: Path) -> ManifestSet:
    write_manifests(tmp_path, profile=PROFILE, welcome=TEMPLATE)
    return read_manifest_folder(tmp_path)


def test_a_good_folder_is_one_line_of_summary(manifest_set: ManifestSet) -> None:
    assert lines(ManifestSet(manifest_set.objects, manifest_set.validation, files=2), "text", 200) == [
        "2 files, 1 profile; 1 of 1 template passes; 1 sample letter rendered; 0 errors, 0 warnings"
    ]


def test_a_finding_has_its_range_underlined_and_a_remedy() -> None:
    assert lines(ManifestSet(findings=(WARNING,), files=1), "text")[:10] == [
        "warning[image_without_alt] this image has no alt text",
        "  --> m/b.yaml:14:7",
        "   |",
        '14 | <img src="a.png"> and more',
        "   | ^^^^^^^^^^^^^^^^",
        "   = why: Many clients show no images until the reader asks for them, and show",
        "          the text instead; a screen reader reads the file's name aloud when",
        "          there is none.",
        '   = help: Write what the image says: `alt="Order shipped"`. An image that only',
        '           decorates has `alt=""`.',
    ]


def test_a_rule_is_explained_once() -> None:
    text = "\n".join(lines(ManifestSet(findings=(WARNING, WARNING), files=1), "text"))
    assert (text.count("warning[image_without_alt]"), text.count("why:")) == (2, 1)


def test_an_error_with_a_remedy_in_its_message_has_no_help() -> None:
    finding = Finding("a.yaml", 1, "css_invalid", "`x` is wrong; write `y`")
    assert "help" not in "".join(lines(ManifestSet(findings=(finding,)), "text"))
    assert "help" in "".join(lines(ManifestSet(findings=(ERROR,)), "text"))


def test_errors_come_first_then_warnings_then_infos() -> None:
    found = lines(ManifestSet(findings=(INFO, WARNING, ERROR), files=2), "text", 100)
    heads = [line.partition("[")[0] for line in found if "] " in line]
    assert heads == ["error", "warning", "info"]
    assert found[-1].endswith("1 error, 1 warning, 1 info")


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = Finding("a.yaml", 7, "css_invalid", "word " * 30, column=150, end_column=180, source="é" * 300)
    wide = Finding("a.yaml", 7, "css_invalid", "word", column=21, end_column=30, source="漢" * 80)
    found = list(format_report(ManifestSet(findings=(WARNING, long, wide)), "text", width))
    assert max(line.cell_len for line in found) <= width
    for line in found:
        assert "^" not in line.plain or line.plain.count("^") >= 2


def test_an_excerpt_keeps_the_underlined_range_visible() -> None:
    source = " " * 8 + "a" * 100 + "WORD" + "b" * 100
    shown, start, length = excerpt(Finding("a", 1, "x", "", column=109, end_column=113, source=source), 40)
    assert shown[start : start + length] == "WORD"
    assert len(shown) <= 40
    shown, start, length = excerpt(Finding("a", 1, "x", "", column=4, end_column=5, source="漢字 x"), 40)
    assert (shown, start, length) == ("漢字 x", 5, 1)


def test_a_source_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\tc\u202ed") == "a·[2Jb c·d"
    finding = Finding("a.yaml", 1, "x", "m\x1b", source="s\x1b")
    assert "\x1b" not in "".join(
        lines(ManifestSet(findings=(finding,)), "text") + lines(ManifestSet(findings=(finding,)), "concise")
    )


def test_concise_is_one_line_for_each_finding() -> None:
    assert lines(ManifestSet(findings=(WARNING, ERROR), files=2), "concise")[1] == (
        "m/b.yaml:14:7: warning[image_without_alt] this image has no alt text"
    )


def test_github_gets_workflow_commands_with_escaped_text() -> None:
    found = lines(ManifestSet(findings=(ERROR, WARNING, INFO), files=2), "github")
    assert found[0] == (
        "::error file=m/a.yaml,line=3,col=5,endColumn=9,title=css_invalid::50%25 of: this%0Aand that"
    )
    assert found[1].startswith("::warning file=m/b.yaml,line=14,col=7,")
    assert found[2].startswith("::notice file=m/b.yaml,line=5,")


def test_json_is_one_document_with_revisions(manifest_set: ManifestSet) -> None:
    (text,) = lines(manifest_set, "json")
    document = json.loads(text)
    (template,) = document["templates"]
    assert (template["name"], template["passes"], len(template["revision"])) == ("welcome", True, 12)
    assert (document["files"], document["version"]) == (2, 1)


def test_a_finding_in_json_has_its_position_and_its_remedy() -> None:
    (text,) = lines(ManifestSet(findings=(WARNING,)), "json")
    (finding,) = json.loads(text)["findings"]
    assert list(finding) == [
        "file",
        "line",
        "column",
        "end_column",
        "severity",
        "rule",
        "message",
        "why",
        "help",
        "subject",
    ]
    assert (finding["severity"], finding["column"], finding["subject"]) == ("warning", 7, "EmailTemplate b")
    assert finding["help"].startswith("Write what the image says")


def test_a_markdown_link_becomes_its_text() -> None:
    (text,) = lines(ManifestSet(findings=(Finding("a", 1, "filter_not_allowed", "m"),)), "json")
    assert (
        json.loads(text)["findings"][0]["help"] == "Use a filter of the list in the page template-language."
    )


def test_an_unreadable_template_counts_as_failed(tmp_path: Path) -> None:
    write_manifests(tmp_path, profile=PROFILE, welcome=TEMPLATE.replace("html:", "htm:"))
    assert "; 0 of 1 templates pass; " in lines(read_manifest_folder(tmp_path), "text", 200)[-1]


def test_a_template_without_its_layout_is_counted_as_not_rendered(tmp_path: Path) -> None:
    write_manifests(
        tmp_path, welcome=TEMPLATE.replace("  eventTypes:", "  layoutRef: {name: page}\n  eventTypes:")
    )
    found = read_input(tmp_path, elsewhere=True)
    assert may_go_live(found, strict=True)
    assert lines(found, "text", 200)[-1] == (
        "1 file, 0 profiles; 0 of 1 templates pass; 1 template not rendered, because the layout is missing; "
        "0 sample letters rendered; 0 errors, 2 warnings"
    )
    (text,) = lines(found, "json")
    assert [each["passes"] for each in json.loads(text)["templates"]] == [None]


def test_strict_counts_warnings_as_errors_and_ignores_infos() -> None:
    assert may_go_live(ManifestSet(findings=(WARNING, INFO)), strict=False)
    assert not may_go_live(ManifestSet(findings=(WARNING,)), strict=True)
    assert may_go_live(ManifestSet(findings=(INFO,)), strict=True)
    assert not may_go_live(ManifestSet(findings=(ERROR,)), strict=False)


def test_findings_are_grouped_by_rule_and_infos_can_be_omitted() -> None:
    found = ManifestSet(findings=(WARNING, INFO, WARNING))
    assert {rule: len(each) for rule, each in found.by_rule().items()} == {
        "image_without_alt": 2,
        "link_insecure": 1,
    }
    assert found.without(Severity.INFO).findings == (WARNING, WARNING)
