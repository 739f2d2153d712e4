"""Linters on the chart, and Postroom's schemas on the examples."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.schemas import PATTERN, write
from tests.fixtures.helm import Helm
from tests.layers import find_tool, unavailable
from tests.test_house import ROOT

pytestmark = pytest.mark.chart
EXAMPLES = ROOT / "manifests" / "examples"
CASES = sorted(path for path in (ROOT / "tests" / "golden" / "chart").iterdir() if path.is_dir())
ACCEPTED = {
    # a digest or an immutable tag needs no pull at each start
    ("container-image-pull-policy", ""),
    # one operator is the default: a second one only waits
    ("deployment-replicas", ""),
    ("deployment-strategy", ""),
    # the pod of `helm test` runs for seconds and connects to the API server, Kafka and the sandbox
    ("pod-networkpolicy", "Pod"),
    # Kafka and PostgreSQL have their own users, and Kafka writes its settings into the image
    ("container-security-context-user-group-id", "StatefulSet"),
    ("container-security-context-readonlyrootfilesystem", "StatefulSet"),
}


def tool(name: str) -> str:
    """A linter that is installed on this machine."""
    if (program := find_tool(name)) is None:
        unavailable(f"no {name}", "build it with `make tools` (needs Go)")
    return program


def run(*command: str, stdin: str = "") -> str:
    """A linter's output, whatever its exit code."""
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kube_score_finds_nothing_but_what_is_accepted(case: Path, helm: Helm) -> None:
    settings = ("--set", "crds.enabled=false", "--set", "networkPolicy.enabled=true")
    text = helm.render("--values", case / "values.yaml", *settings)
    score = (tool("kube-score"), "score", "--output-format", "json", "--kubernetes-version", "v1.36", "-")
    found: list[dict[str, Any]] = json.loads(run(*score, stdin=text))
    output = {
        (check["check"]["id"], each["type_meta"]["kind"], each["object_meta"]["name"])
        for each in found
        for check in each["checks"]
        if not check["skipped"] and check["grade"] < 7
    }
    assert {each for each in output if not {(each[0], ""), each[:2]} & ACCEPTED} == set()


def conform(folder: Path, stdin: str) -> list[dict[str, Any]]:
    """The errors of kubeconform for custom resources."""
    write(folder)
    program = tool("kubeconform")
    output = run(
        program, "-strict", "-output", "json", "-schema-location", f"{folder}/{PATTERN}", "-", stdin=stdin
    )
    resources: list[dict[str, Any]] = json.loads(output).get("resources", [])
    return resources


def test_the_examples_conform_to_the_definitions(tmp_path: Path) -> None:
    for path in EXAMPLES.glob("*.yaml"):
        assert conform(tmp_path, path.read_text()) == []


def test_a_misspelt_field_does_not(tmp_path: Path) -> None:
    template = yaml.safe_load((EXAMPLES / "welcome.yaml").read_text())
    template["spec"]["subjekt"] = template["spec"].pop("subject")
    [found] = conform(tmp_path, yaml.safe_dump(template))
    assert found["status"] == "statusInvalid"
    assert "subjekt" in found["msg"]
