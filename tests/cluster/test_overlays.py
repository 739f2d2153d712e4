"""`kubectl apply -k` of each overlay on a real API server: every object is accepted without a warning."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.controlplane import ControlPlane, KubectlError
from tests.test_house import ROOT

pytestmark = pytest.mark.apiserver
FOLDER = ROOT / "manifests" / "overlays"
OVERLAYS = ("dev", "sandbox", "production")
WARN = {"pod-security.kubernetes.io/warn": "restricted"}
"""The warning about a Deployment whose pods would be rejected."""
DRY = ("apply", "--server-side", "--dry-run=server", "--warnings-as-errors")


@pytest.fixture(scope="module")
def spaces(cluster: ControlPlane) -> Iterator[None]:
    """The overlays' namespaces, which a dry run does not create."""
    texts = [cluster.kubectl("kustomize", str(FOLDER / name)) for name in OVERLAYS]
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each]
    found = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Namespace"}
    for each in found.values():
        cluster.create("/api/v1/namespaces", {"metadata": {**each["metadata"], "labels": WARN}})
    yield
    cluster.kubectl("delete", "namespace", *found, "--wait=false")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_applied_without_a_warning(cluster: ControlPlane, spaces: None, overlay: str) -> None:
    output = cluster.kubectl(*DRY, "-k", str(FOLDER / overlay))
    assert output.count("serverside-applied (server dry run)") >= 10


def test_workers_get_the_image_that_an_overlay_names(cluster: ControlPlane, tmp_path: Path) -> None:
    copied = shutil.copytree(FOLDER.parent, tmp_path / "manifests") / "overlays" / "production"
    kustomization = copied / "kustomization.yaml"
    image = {"name": "postroom", "newName": "registry.example/postroom", "digest": f"sha256:{'0' * 64}"}
    kustomization.write_text(yaml.safe_dump(yaml.safe_load(kustomization.read_text()) | {"images": [image]}))
    objects = yaml.safe_load_all(cluster.kubectl("kustomize", str(copied)))
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert container["image"] == f"registry.example/postroom@sha256:{'0' * 64}"
    assert environment["POSTROOM_IMAGE"] == container["image"]
    assert environment["POSTROOM_IMAGE_PULL_POLICY"] == "IfNotPresent"


def test_pods_that_would_be_rejected_are_a_warning(cluster: ControlPlane, spaces: None) -> None:
    text = cluster.kubectl("kustomize", str(FOLDER / "dev")).replace(
        "runAsNonRoot: true", "runAsNonRoot: false"
    )
    with pytest.raises(KubectlError, match="would violate PodSecurity"):
        cluster.kubectl(*DRY, "-f", "-", stdin=[each for each in yaml.safe_load_all(text) if each])
