"""The kustomize manifests: rendered from the chart, and complete with every overlay.

`make manifests` writes the rendered files.
"""

import subprocess
from typing import Any

import pytest
import yaml

from tests.fixtures.helm import Helm
from tests.test_house import ROOT

pytestmark = pytest.mark.chart
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("dev", "sandbox", "production")
SYSTEM = "postroom-system"
HEAD = "# Rendered from charts/postroom by `make manifests`. Do not edit.\n"
BASE = ("--values", MANIFESTS / "base" / "values.yaml")
DEV = ("--values", MANIFESTS / "overlays" / "dev" / "values.yaml")


def rendered(helm: Helm) -> dict[str, str]:
    """Each rendered file and its content; parts for Helm alone are omitted."""
    operator = helm.render(*BASE, "--set", "crds.enabled=false", namespace=SYSTEM)
    definitions = helm.render("--set", "crds.keep=false", "--show-only", "templates/crds.yaml")
    parts = [
        helm.render(*DEV, "--show-only", f"templates/quickstart/{name}.yaml", namespace=SYSTEM)
        for name in ("secrets", "kafka", "postgresql", "networkpolicy")
    ]
    return {
        "base/operator.yaml": plain(operator),
        "base/crds.yaml": plain(definitions),
        "overlays/dev/quickstart.yaml": plain("".join(parts)),
    }


def plain(text: str) -> str:
    """The text without Helm's labels, because kubectl manages these objects."""
    dropped = ("helm.sh/chart:", "app.kubernetes.io/managed-by: Helm", "# Source: ")
    return HEAD + "".join(
        line for line in text.splitlines(keepends=True) if not line.strip().startswith(dropped)
    )


def built(kubectl: str, overlay: str) -> list[dict[str, Any]]:
    """The objects that `kubectl kustomize` builds from an overlay."""
    command = [kubectl, "kustomize", str(MANIFESTS / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def test_no_drift_between_the_chart_and_the_manifests(helm: Helm, rewrite: bool) -> None:
    for name, text in rendered(helm).items():
        if rewrite:
            (MANIFESTS / name).write_text(text)
        assert (MANIFESTS / name).read_text() == text, f"{name}: `make manifests` renders it again"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_complete(kubectl: str, overlay: str) -> None:
    objects = built(kubectl, overlay)
    kinds = [each["kind"] for each in objects]
    assert kinds.count("CustomResourceDefinition") == 3
    names = [
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in objects
    ]
    assert len(names) == len(set(names))
    spaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    assert {namespace for _, namespace, _ in names if namespace} <= spaces
    secrets = {each["metadata"]["name"] for each in objects if each["kind"] == "Secret"}
    assert overlay == "production" or "postroom-kafka-admin" in secrets


def test_only_production_lets_a_namespace_deliver(kubectl: str) -> None:
    labelled = {
        overlay: [
            each["metadata"]["name"]
            for each in built(kubectl, overlay)
            if each["metadata"].get("labels", {}).get("postroom.dev/delivery")
        ]
        for overlay in OVERLAYS
    }
    assert labelled == {"dev": [], "sandbox": [], "production": ["mail"]}


def test_production_has_two_operators_of_which_one_may_be_moved(kubectl: str) -> None:
    objects = built(kubectl, "production")
    [operator] = [each for each in objects if each["kind"] == "Deployment"]
    assert operator["spec"]["replicas"] == 2
    assert operator["spec"]["strategy"]["type"] == "RollingUpdate"
    [budget] = [each for each in objects if each["kind"] == "PodDisruptionBudget"]
    assert (
        budget["spec"]["selector"]["matchLabels"].items()
        <= operator["spec"]["selector"]["matchLabels"].items()
    )
