"""Reading a folder of manifests: each finding has a file and a line, and none hides another."""

from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from postroom.local.errors import UserError
from postroom.local.manifests import (
    ManifestSet,
    manifest_files,
    read_input,
    read_manifest_folder,
    require_manifests,
)
from tests.local.manifest_texts import LAYOUT, PROFILE, TEMPLATE, write_manifests


def findings(manifest_set: ManifestSet) -> list[str]:
    return [f"{Path(each.file).name}:{each.line}: {each.rule}" for each in manifest_set.findings]


def test_a_good_folder_passes(tmp_path: Path) -> None:
    write_manifests(tmp_path, profile=PROFILE, welcome=TEMPLATE)
    manifest_set = read_manifest_folder(tmp_path)
    assert manifest_set.errors == ()
    assert (manifest_set.files, manifest_set.complete, len(manifest_set.objects)) == (2, True, 2)


def test_a_problem_is_located_at_its_line(tmp_path: Path) -> None:
    write_manifests(
        tmp_path, profile=PROFILE, welcome=TEMPLATE.replace("Hello {{ name }}", "Hello {{ nam }}")
    )
    line = TEMPLATE[: TEMPLATE.index("Hello {{ name }}")].count("\n") + 1
    assert findings(read_manifest_folder(tmp_path)) == [f"welcome.yaml:{line}: variable_undeclared"]


def test_a_problem_of_a_layout_is_shown_in_the_layout(tmp_path: Path) -> None:
    bad = LAYOUT.replace("<body>", "<body>{{ colour }}")
    uses = TEMPLATE.replace("  eventTypes:", "  layoutRef: {name: page}\n  eventTypes:")
    write_manifests(tmp_path, profile=PROFILE, welcome=uses, page=bad)
    line = bad[: bad.index("{{ colour }}")].count("\n") + 1
    assert findings(read_manifest_folder(tmp_path)) == [f"page.yaml:{line}: variable_undeclared"]


def test_a_broken_file_does_not_affect_the_others(tmp_path: Path) -> None:
    write_manifests(tmp_path, profile=PROFILE, welcome=TEMPLATE, broken="a: [")
    manifest_set = read_manifest_folder(tmp_path)
    assert [each.compiled is not None for each in manifest_set.validation.results.values()] == [True]
    assert not manifest_set.complete
    assert [place.partition(":")[0] for place in findings(manifest_set)] == ["broken.yaml"]


def test_a_duplicate_name_is_rejected_at_the_second_object(tmp_path: Path) -> None:
    write_manifests(tmp_path, a_profile=PROFILE, b_first=TEMPLATE, c_second=TEMPLATE)
    assert [place.partition(":")[0] for place in findings(read_manifest_folder(tmp_path))] == [
        "c_second.yaml"
    ]


def test_objects_of_other_apis_are_skipped_and_reported(tmp_path: Path) -> None:
    write_manifests(tmp_path, profile=PROFILE, service="apiVersion: v1\nkind: Service\nmetadata: {name: x}\n")
    manifest_set = read_manifest_folder(tmp_path)
    assert manifest_set.findings == ()
    assert "Service" in manifest_set.skipped[0]


def test_hidden_files_and_other_suffixes_are_not_read(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "c.txt", ".d.yaml", "deep/e.yaml", ".git/f.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.name for path in manifest_files(tmp_path)] == ["a.yaml", "b.yml", "e.yaml"]


def test_a_single_file_may_be_read(tmp_path: Path) -> None:
    write_manifests(tmp_path, all=f"{PROFILE}---\n{TEMPLATE}")
    assert read_manifest_folder(tmp_path / "all.yaml").errors == ()


USES_LAYOUT = TEMPLATE.replace("  eventTypes:", "  layoutRef: {name: page}\n  eventTypes:")


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    """The platform team's folder: a profile, a layout, and an invalid template."""
    folder = tmp_path / "platform"
    folder.mkdir()
    wrong = TEMPLATE.replace("{name: welcome}", "{name: theirs}").replace("Hello {{ name }}", "{{ nam }}")
    write_manifests(folder, profile=PROFILE, page=LAYOUT, theirs=wrong, chart="a: {{ .Values.a }}\n- b")
    return folder


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """An application team's folder: a template for that profile and layout."""
    folder = tmp_path / "team"
    folder.mkdir()
    write_manifests(folder, welcome=USES_LAYOUT)
    return folder


def test_context_objects_may_be_referenced_and_are_not_checked(team: Path, platform: Path) -> None:
    manifest_set = read_input(team, [platform])
    assert (findings(manifest_set), manifest_set.files, manifest_set.complete) == ([], 1, True)
    assert [(key.name, len(proof.samples)) for key, proof in manifest_set.validation.results.items()] == [
        ("welcome", 1)
    ]


def test_a_template_of_the_context_keeps_its_event_type(team: Path, platform: Path) -> None:
    write_manifests(platform, theirs=TEMPLATE.replace("{name: welcome}", "{name: theirs}"))
    assert findings(read_input(team, [platform])) == ["welcome.yaml:7: event_type_conflict"]


def test_a_checked_folder_may_be_part_of_its_context(team: Path, platform: Path) -> None:
    assert findings(read_input(team, [team.parent])) == []


def test_a_missing_context_folder_is_an_error(team: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_input(team, [team / "none"])


def test_a_reference_elsewhere_is_a_warning_and_hides_no_error(team: Path) -> None:
    manifest_set = read_input(team, elsewhere=True)
    assert manifest_set.errors == ()
    assert findings(manifest_set) == ["welcome.yaml:5: profile_not_found", "welcome.yaml:6: layout_not_found"]
    write_manifests(team, welcome=USES_LAYOUT.replace("{{ name }}", "{{ nam }}"))
    assert [each.rule for each in read_input(team, elsewhere=True).errors] == ["variable_undeclared"]


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(data)))


def test_standard_input_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"
    text = f"{service}---\n{PROFILE}---\n{TEMPLATE.replace('{{ name }}', '{{ nam }}')}"
    line = text[: text.index("{{ nam }}")].count("\n") + 1
    for ending in ("\n", "\r\n"):
        pipe(monkeypatch, text.replace("\n", ending).encode())
        manifest_set = read_input(Path("-"))
        assert findings(manifest_set) == [f"<stdin>:{line}: variable_undeclared"]
        assert manifest_set.skipped == ("<stdin>: Service of v1 is not Postroom's",)


def test_standard_input_without_a_manifest_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"")
    with pytest.raises(UserError, match="Standard input holds no manifest"):
        require_manifests(read_input(Path("-")), Path("-"))


def test_bytes_that_are_no_text_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    assert findings(read_manifest_folder(tmp_path)) == ["x.yaml:1: manifest_invalid"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_manifest_folder(tmp_path / "none")
