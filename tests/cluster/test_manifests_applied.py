"""The golden manifests on a real API server: it accepts all, and afterwards nothing is left to write."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from postroom_operator.diff import Plan, diff, with_hash
from postroom_operator.models import FIELD_MANAGER, Manifest
from tests.cluster.controlplane import ControlPlane
from tests.operator.golden_profiles import CASES, everything, view_of

pytestmark = pytest.mark.apiserver

PLURALS = {
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Service": "api/v1/namespaces/{}/services",
}
"""All kinds but KEDA's, which this API server does not have."""


class AppliedObjects:
    """A namespace with restricted Pod Security."""

    def __init__(self, cluster: ControlPlane, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        label = "pod-security.kubernetes.io/enforce=restricted"
        self.uid = ""
        cluster.kubectl("label", "namespace", namespace, label)

    def address(self, manifest: Manifest) -> str:
        folder = PLURALS[manifest["kind"]].format(self.namespace)
        return f"/{folder}/{manifest['metadata']['name']}"

    def apply(self, manifest: Manifest) -> Manifest:
        answer = self.cluster.api.patch(
            self.address(manifest),
            params={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )
        assert answer.is_success, answer.text
        found: Manifest = answer.json()
        return found

    def read(self, manifest: Manifest) -> Manifest:
        found: Manifest = self.cluster.api.get(self.address(manifest)).raise_for_status().json()
        return found | {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"]}

    def patch(self, manifest: Manifest, part: Any, sub: str = "") -> None:
        answer = self.cluster.api.patch(
            self.address(manifest) + sub,
            params={"fieldManager": "another"},
            headers={"Content-Type": "application/merge-patch+json"},
            content=json.dumps(part),
        )
        assert answer.is_success, answer.text

    def hand_over(self, manifest: Manifest, replicas: int) -> None:
        """Apply `/scale`, because an update to the present number would not change the owner."""
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas}}
        answer = self.cluster.api.patch(
            self.address(manifest) + "/scale",
            params={"fieldManager": f"{FIELD_MANAGER}-scale", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=json.dumps(scale | {"metadata": {"name": manifest["metadata"]["name"]}}),
        )
        assert answer.is_success, answer.text

    def manifests(self, case: str) -> list[Manifest]:
        """The objects of a golden profile with an existing owner, because the garbage collector deletes
        orphans."""
        [folder] = [each for each in CASES if each.name == case]
        text = (folder / "profile.yaml").read_text().replace("shop", self.namespace)
        created = self.cluster.kubectl("create", "-f", "-", "-o", "json", stdin=yaml.safe_load(text))
        self.uid = json.loads(created)["metadata"]["uid"]
        view, fixed = view_of(text)
        return [each for each in everything(replace(view, uid=self.uid), fixed) if each["kind"] in PLURALS]

    def plan(self, wanted: list[Manifest]) -> Plan:
        return diff(wanted, [self.read(each) for each in wanted], self.uid)


@pytest.fixture
def server(cluster: ControlPlane, namespace: str) -> AppliedObjects:
    return AppliedObjects(cluster, namespace)


@pytest.mark.parametrize("case", [each.name for each in CASES])
def test_what_a_real_api_server_accepted_is_not_applied_again(server: AppliedObjects, case: str) -> None:
    wanted = server.manifests(case)
    answers = [server.apply(each) for each in diff(wanted, [], server.uid).apply]
    assert diff(wanted, answers, server.uid) == Plan()
    assert server.plan(wanted) == Plan()


def test_edits_are_noticed_and_reverted(server: AppliedObjects) -> None:
    wanted = server.manifests("smtp-allowed")
    for each in wanted:
        server.apply(with_hash(each))
    [policy] = [each for each in wanted if each["kind"] == "NetworkPolicy"]
    [workers] = [each for each in wanted if each["kind"] == "Deployment"]
    server.patch(policy, {"spec": {"egress": [{}]}})
    server.patch(workers, {"metadata": {"labels": None}, "spec": {"replicas": 9}})
    plan = server.plan(wanted)
    assert {each["kind"] for each in plan.apply} == {"NetworkPolicy", "Deployment"}
    for each in plan.apply:
        server.apply(each)
    assert server.plan(wanted) == Plan()


def test_an_autoscaler_takes_over_the_present_number_of_workers(server: AppliedObjects) -> None:
    [ours] = [each for each in server.manifests("smtp-allowed") if each["kind"] == "Deployment"]
    theirs = ours | {"spec": {key: value for key, value in ours["spec"].items() if key != "replicas"}}
    server.apply(with_hash(ours))
    plan = diff([theirs], [server.read(ours)], server.uid)
    [(_, replicas)] = plan.scale
    assert replicas == 3
    server.hand_over(ours, replicas)
    [manifest] = plan.apply
    server.apply(manifest)
    assert server.read(ours)["spec"]["replicas"] == 3
    server.patch(ours, {"spec": {"replicas": 5}}, "/scale")
    assert diff([theirs], [server.read(ours)], server.uid) == Plan()
    [back] = diff([ours], [server.read(ours)], server.uid).apply
    assert server.apply(back)["spec"]["replicas"] == 3


def test_a_namespace_of_restricted_pods_takes_workers_and_the_sandbox(server: AppliedObjects) -> None:
    deployments = [each for each in server.manifests("sandbox") if each["kind"] == "Deployment"]
    assert len(deployments) == 2
    for each in deployments:
        server.apply(with_hash(each))
    server.cluster.until(
        lambda: all(server.read(each)["status"].get("replicas") == 1 for each in deployments)
    )
