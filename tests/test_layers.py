"""The policy for layers that cannot run: a skip that says what to install, and in CI a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.layers import LAYERS, MARKERS, Outcome, read_report, summary

ROOT = Path(__file__).parent.parent
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
    configuration = [
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(ROOT),
        "-p",
        "tests.fixtures.policy",
    ]
    command = [sys.executable, "-m", "pytest", *configuration, "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "CI": ci}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_on_a_developers_machine_a_missing_layer_is_skipped_and_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path, ci="")
    assert done.returncode == 0
    assert "3 skipped" in done.stdout
    assert "no Go: install Go" in done.stdout


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
