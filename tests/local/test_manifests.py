"""A folder of manifests is read whole: each finding has a file and a line, and none hides another."""

from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from postroom.local.manifests import Reading, demand_manifests, manifest_files, read_folder, read_input
from postroom.local.trouble import Trouble
from tests.local.sources import LAYOUT, PROFILE, TEMPLATE, write


def findings(reading: Reading) -> list[str]:
    return [f"{Path(each.file).name}:{each.line}: {each.rule}" for each in reading.findings]


def test_a_good_folder_passes(tmp_path: Path) -> None:
    write(tmp_path, profile=PROFILE, welcome=TEMPLATE)
    reading = read_folder(tmp_path)
    assert reading.errors == ()
    assert (reading.files, reading.complete, len(reading.objects)) == (2, True, 2)


def test_a_problem_is_at_its_line_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, profile=PROFILE, welcome=TEMPLATE.replace("Hello {{ name }}", "Hello {{ nam }}"))
    line = TEMPLATE[: TEMPLATE.index("Hello {{ name }}")].count("\n") + 1
    assert findings(read_folder(tmp_path)) == [f"welcome.yaml:{line}: variable_undeclared"]


def test_a_problem_of_a_layout_is_shown_in_the_layout(tmp_path: Path) -> None:
    bad = LAYOUT.replace("<body>", "<body>{{ colour }}")
    uses = TEMPLATE.replace("  eventTypes:", "  layoutRef: {name: page}\n  eventTypes:")
    write(tmp_path, profile=PROFILE, welcome=uses, page=bad)
    line = bad[: bad.index("{{ colour }}")].count("\n") + 1
    assert findings(read_folder(tmp_path)) == [f"page.yaml:{line}: variable_undeclared"]


def test_one_broken_file_leaves_the_others_proved(tmp_path: Path) -> None:
    write(tmp_path, profile=PROFILE, welcome=TEMPLATE, broken="a: [")
    reading = read_folder(tmp_path)
    assert [each.compiled is not None for each in reading.verdict.results.values()] == [True]
    assert not reading.complete
    assert [place.partition(":")[0] for place in findings(reading)] == ["broken.yaml"]


def test_a_name_that_is_there_twice_is_refused_at_the_second(tmp_path: Path) -> None:
    write(tmp_path, a_profile=PROFILE, b_first=TEMPLATE, c_second=TEMPLATE)
    assert [place.partition(":")[0] for place in findings(read_folder(tmp_path))] == ["c_second.yaml"]


def test_objects_of_others_are_left_alone_and_told(tmp_path: Path) -> None:
    write(tmp_path, profile=PROFILE, service="apiVersion: v1\nkind: Service\nmetadata: {name: x}\n")
    reading = read_folder(tmp_path)
    assert reading.findings == ()
    assert "Service" in reading.skipped[0]


def test_only_yaml_that_is_not_hidden_is_read(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "c.txt", ".d.yaml", "deep/e.yaml", ".git/f.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.name for path in manifest_files(tmp_path)] == ["a.yaml", "b.yml", "e.yaml"]


def test_one_file_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, all=f"{PROFILE}---\n{TEMPLATE}")
    assert read_folder(tmp_path / "all.yaml").errors == ()


USES_LAYOUT = TEMPLATE.replace("  eventTypes:", "  layoutRef: {name: page}\n  eventTypes:")


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    """A folder of the platform's: a profile, a layout, and a template that is wrong."""
    folder = tmp_path / "platform"
    folder.mkdir()
    wrong = TEMPLATE.replace("{name: welcome}", "{name: theirs}").replace("Hello {{ name }}", "{{ nam }}")
    write(folder, profile=PROFILE, page=LAYOUT, theirs=wrong, chart="a: {{ .Values.a }}\n- b")
    return folder


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A folder of a team's: a template for that profile and layout."""
    folder = tmp_path / "team"
    folder.mkdir()
    write(folder, welcome=USES_LAYOUT)
    return folder


def test_a_context_is_referred_to_and_not_judged(team: Path, platform: Path) -> None:
    reading = read_input(team, [platform])
    assert (findings(reading), reading.files, reading.complete) == ([], 1, True)
    assert [(key.name, len(proof.samples)) for key, proof in reading.verdict.results.items()] == [
        ("welcome", 1)
    ]


def test_a_template_of_the_context_keeps_its_event_type(team: Path, platform: Path) -> None:
    write(platform, theirs=TEMPLATE.replace("{name: welcome}", "{name: theirs}"))
    assert findings(read_input(team, [platform])) == ["welcome.yaml:7: event_type_conflict"]


def test_what_is_checked_may_be_in_its_context_too(team: Path, platform: Path) -> None:
    assert findings(read_input(team, [team.parent])) == []


def test_a_context_that_is_not_there_is_trouble(team: Path) -> None:
    with pytest.raises(Trouble, match="no folder"):
        read_input(team, [team / "none"])


def test_what_is_elsewhere_is_a_warning_and_hides_nothing(team: Path) -> None:
    reading = read_input(team, elsewhere=True)
    assert reading.errors == ()
    assert findings(reading) == ["welcome.yaml:5: profile_not_found", "welcome.yaml:6: layout_not_found"]
    write(team, welcome=USES_LAYOUT.replace("{{ name }}", "{{ nam }}"))
    assert [each.rule for each in read_input(team, elsewhere=True).errors] == ["variable_undeclared"]


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(data)))


def test_a_pipe_is_read_as_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"
    text = f"{service}---\n{PROFILE}---\n{TEMPLATE.replace('{{ name }}', '{{ nam }}')}"
    line = text[: text.index("{{ nam }}")].count("\n") + 1
    for ending in ("\n", "\r\n"):
        pipe(monkeypatch, text.replace("\n", ending).encode())
        reading = read_input(Path("-"))
        assert findings(reading) == [f"<stdin>:{line}: variable_undeclared"]
        assert reading.skipped == ("<stdin>: Service of v1 is not Postroom's",)


def test_a_pipe_that_holds_nothing_of_ours_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"")
    with pytest.raises(Trouble, match="Standard input holds no manifest"):
        demand_manifests(read_input(Path("-")), Path("-"))


def test_bytes_that_are_no_text_are_a_finding(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    assert findings(read_folder(tmp_path)) == ["x.yaml:1: manifest_invalid"]


def test_a_folder_that_is_not_there_is_trouble(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="no folder"):
        read_folder(tmp_path / "none")
