"""SARIF: the document has what code scanning needs, and is consistent."""

import json
from pathlib import Path

import pytest

from postroom.letter.problems import Severity
from postroom.local.check import format_report, to_sarif
from postroom.local.manifests import Finding, ManifestSet

FOUND = (
    Finding("m/a b.yaml", 3, "css_invalid", "wrong", Severity.ERROR, "EmailLayout page", 5, 9, "    a {"),
    Finding("m/c.yaml", 4, "image_without_alt", "no alt", Severity.WARNING, "EmailTemplate c", 2, 2),
    Finding("m/c.yaml", 9, "image_without_alt", "no alt", Severity.WARNING),
    Finding("m/c.yaml", 1, "link_insecure", "http", Severity.INFO),
)


def test_the_document_has_tool_rules_and_positions() -> None:
    (line,) = format_report(ManifestSet(findings=FOUND), "sarif")
    document = json.loads(line.plain)
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    assert {"name", "version", "informationUri", "rules"} <= set(driver)
    assert [rule["id"] for rule in driver["rules"]] == ["css_invalid", "image_without_alt", "link_insecure"]
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
    levels = [rule["defaultConfiguration"]["level"] for rule in driver["rules"]]
    assert levels == ["error", "warning", "note"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "warning", "note"]


def test_a_result_has_a_region_of_at_least_one_character_in_a_relative_file() -> None:
    first, second, *_ = to_sarif(FOUND)["runs"][0]["results"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "m/a%20b.yaml", "uriBaseId": "SRCROOT"}
    region = place["region"]
    assert (region["startLine"], region["startColumn"], region["endColumn"]) == (3, 5, 9)
    assert first["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "EmailLayout page"
    region = second["locations"][0]["physicalLocation"]["region"]
    assert (region["startColumn"], region["endColumn"]) == (2, 3)


def test_an_absolute_file_below_the_working_folder_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    within, beyond = (
        Finding(str(tmp_path / "m" / "a.yaml"), 1, "x", "y"),
        Finding("/other/a.yaml", 1, "x", "y"),
    )
    results = to_sarif((within, beyond))["runs"][0]["results"]
    found = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results]
    assert found == ["m/a.yaml", "file:///other/a.yaml"]


def test_without_findings_the_run_has_no_results() -> None:
    (run,) = to_sarif(())["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])
