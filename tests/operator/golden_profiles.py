"""The golden profiles with their surroundings, and manifests as an API server returns them."""

import copy
from collections.abc import Iterator
from typing import Any

import yaml

from postroom.letter.bundle import pack_bundle
from postroom.letter.manifest import read_manifests
from postroom.letter.profile import SmtpProfile
from postroom_operator.desired import bounces, sandbox
from postroom_operator.desired.inputs import EffectiveProfile, KafkaAccess, OperatorDefaults
from postroom_operator.desired.profile import profile_manifests
from postroom_operator.models import FIELD_MANAGER, Manifest
from tests.fixtures.golden import ROOT

CASES = sorted(path for path in (ROOT / "tests" / "golden" / "manifests").iterdir() if path.is_dir())
UID = "5b0d8a3e-0000-4000-8000-000000000001"
PLAIN = KafkaAccess("kafka.kafka.svc:9092")
SECURED = KafkaAccess("kafka.kafka.svc:19093", "SCRAM-SHA-512", tls=True, authority=True)


def view_of(text: str) -> tuple[EffectiveProfile, OperatorDefaults]:
    """A profile from its manifest; the annotations `test/…` describe its surroundings."""
    [located] = read_manifests(text, "profile.yaml")
    assert isinstance(located.object, SmtpProfile), located.problems
    annotations: dict[str, Any] = yaml.safe_load(text)["metadata"].get("annotations", {})
    effective = EffectiveProfile(
        located.object,
        UID,
        delivery_allowed=annotations.get("test/delivery") == "allowed",
        shards={0: pack_bundle([])},
        keda_available=annotations.get("test/keda") == "available",
    )
    kafka = SECURED if annotations.get("test/kafka") == "secured" else PLAIN
    secrets = ("registry",) if annotations.get("test/registry") == "private" else ()
    allow = annotations.get("test/callbacks", "")
    return effective, OperatorDefaults(
        "registry.example/postroom:1.2.3", pull_secrets=secrets, kafka=kafka, callback_allow=allow
    )


def profile(name: str = "orders", **spec: Any) -> SmtpProfile:
    return SmtpProfile.model_validate(
        {
            "apiVersion": "postroom.dev/v1alpha1",
            "kind": "SmtpProfile",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"from": {"address": "orders@larkfield.example"}, **spec},
        }
    )


def everything(effective: EffectiveProfile, defaults: OperatorDefaults) -> list[Manifest]:
    """All objects of a profile, with its namespace's sandbox and bounce server where it uses them."""
    namespace = effective.profile.metadata.namespace
    owners = [(effective.profile, effective.uid)] if effective.mode == "Sandbox" else []
    bouncing = [(effective.profile, effective.uid)] if effective.profile.spec.bounces else []
    shared = sandbox.sandbox_manifests(namespace, owners, defaults) + bounces.bounces_manifests(
        namespace, bouncing, defaults
    )
    return profile_manifests(effective, defaults) + shared


def golden() -> Iterator[Manifest]:
    """Every golden manifest."""
    for case in CASES:
        yield from everything(*view_of((case / "profile.yaml").read_text()))


def applied(manifest: Manifest) -> Manifest:
    """The manifest as an API server returns it, with its metadata and some of its defaults."""
    found = copy.deepcopy(manifest)
    owned: dict[str, Any] = {"f:replicas": {}} if "replicas" in found.get("spec", {}) else {}
    found["metadata"] |= {
        "uid": "9f0d8a3e-0000-4000-8000-0000000000ff",
        "resourceVersion": "4711",
        "generation": 1,
        "creationTimestamp": "2026-11-25T16:00:00Z",
        "managedFields": [
            {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": owned}},
            {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:status": {}}},
        ],
    }
    if "spec" in found:
        found["status"] = {"observedGeneration": 1}
    if found["kind"] == "Deployment":
        found["spec"] |= {"progressDeadlineSeconds": 600, "replicas": found["spec"].get("replicas", 1)}
        pod = found["spec"]["template"]["spec"]
        pod |= {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}
        for each in (*pod["containers"], *pod.get("initContainers", [])):
            each |= {"terminationMessagePath": "/dev/termination-log"}
        for each in pod["volumes"]:
            for source in ("projected", "configMap"):
                if source in each:
                    each[source]["defaultMode"] = 420
    if found["kind"] == "Service":
        found["spec"] |= {"clusterIP": "10.96.0.7", "type": "ClusterIP", "sessionAffinity": "None"}
    return found
