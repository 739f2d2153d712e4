"""The policy for layers that cannot run: a skip that says what to install, and in CI a failure."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.layer_files import MARKER, is_layered
from tests.layers import LAYERS, MARKERS, UNIT, Layer, Outcome, read_report, summary, surroundings

ROOT = Path(__file__).parent.parent
LAYER = {layer.name: layer for layer in LAYERS}
PLANTED = """
import pytest
from tests.layers import unavailable

@pytest.mark.kafka
def test_needs_a_broker() -> None:
    unavailable("no Go", "install Go")

@pytest.mark.browser
@pytest.mark.skip(reason="not today")
def test_needs_a_browser() -> None: ...

@pytest.mark.skip(reason="not today")
def test_needs_nothing() -> None: ...
"""


def run(tmp_path: Path, ci: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    return pytest_on(tmp_path, "-p", "tests.fixtures.skip_policy", CI=ci)


def pytest_on(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    configuration = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *configuration, *arguments, str(folder)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.processes
def test_on_a_developers_machine_a_missing_layer_is_skipped_and_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path, ci="")
    assert done.returncode == 0
    assert "3 skipped" in done.stdout
    assert "no Go: install Go" in done.stdout


@pytest.mark.processes
def test_in_ci_the_same_is_a_failure_and_only_tests_without_a_layer_may_be_skipped(tmp_path: Path) -> None:
    done = run(tmp_path, ci="true")
    assert done.returncode == 1
    assert "1 failed, 1 skipped, 1 error" in done.stdout
    assert "no Go: install Go" in done.stdout
    assert "in CI that is a failure: Skipped: not today" in done.stdout


def test_a_report_is_counted_and_each_reason_kept_once(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase name="a"/><testcase name="b"><failure message="x"/></testcase>'
        '<testcase name="c"><skipped message="no Go"/></testcase>'
        '<testcase name="d"><skipped message="no Go"/></testcase>'
        "</testsuite></testsuites>"
    )
    outcome = Outcome(LAYERS[0])
    read_report(report, outcome)
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 1, 2)
    assert outcome.reasons == ["no Go"]
    assert outcome.verdict == "failed"
    assert summary([outcome]).count("no Go") == 1


@pytest.mark.parametrize("marker", MARKERS)
def test_the_unit_layer_leaves_every_marked_test_out(marker: str) -> None:
    assert f"not {marker}" in LAYERS[0].marker


@pytest.mark.processes
@pytest.mark.parametrize("layer", [LAYERS[0], LAYER["kafka"]], ids=lambda layer: layer.name)
def test_a_layer_imports_no_file_that_has_none_of_its_tests(tmp_path: Path, layer: Layer) -> None:
    marked = "import pytest\npytestmark = {}\nimport {}\ndef test_it() -> None: ...\n"
    kafka, other = ("no_such", "sys") if layer.marker == UNIT else ("sys", "no_such")
    for name, mark, module in (
        ("own", "pytest.mark.usefixtures('tmp_path')", other),
        ("kafka", "[\n    pytest.mark.usefixtures('tmp_path'),\n    pytest.mark.kafka,\n]", kafka),
        ("faults", "pytest.mark.faults", "no_such"),
    ):
        (tmp_path / f"test_{name}.py").write_text(marked.format(mark, module))
    done = pytest_on(tmp_path, "-p", "tests.fixtures.layer_files", "-m", layer.marker)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert "2 errors" in pytest_on(tmp_path, "-p", "tests.fixtures.layer_files").stdout


def test_a_property_test_without_a_marker_is_a_search(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from hypothesis import given, strategies\n\n"
        "@given(strategies.booleans())\ndef test_any(value: bool) -> None: ...\n\n"
        "def test_one() -> None: ...\n"
    )
    for layer, name in (("searches", "test_any"), (UNIT, "test_one")):
        done = pytest_on(tmp_path, "-p", "tests.fixtures.layer_files", "-m", layer, "-v")
        assert f"{name} PASSED" in done.stdout
        assert "1 passed" in done.stdout


def test_a_file_that_the_unit_layer_leaves_out_has_the_marker_of_another_on_all_its_tests() -> None:
    for text in (path.read_text() for path in (ROOT / "tests").rglob("test_*.py")):
        if is_layered(text):
            assignments = [each for each in ast.parse(text).body if isinstance(each, ast.Assign)]
            [marks] = [each.value for each in assignments if ast.unparse(each.targets[0]) == "pytestmark"]
            named = {each.attr for each in ast.walk(marks) if isinstance(each, ast.Attribute)}
            assert named & set(MARKERS), text


def test_a_layers_marker_is_written_in_files_of_tests_alone() -> None:
    others = [path for path in (ROOT / "tests").rglob("*.py") if not path.match("test_*.py")]
    written = {path: set(MARKER.findall(path.read_text())) & set(MARKERS) for path in others}
    assert {path for path, markers in written.items() if markers} == set()
    assert [layer.marker.split(" and ")[0] for layer in LAYERS[1:]] == [layer.name for layer in LAYERS[1:]]


def test_bytecode_is_kept_whatever_an_image_of_python_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in surroundings()
    assert surroundings(TMPDIR="there") == {**surroundings(), "TMPDIR": "there"}
