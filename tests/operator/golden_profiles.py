"""The golden profiles as the operator sees them, and what an API server makes of a manifest."""

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
    """A profile's manifest; the annotations `test/…` say what else the operator sees."""
    [located] = read_manifests(text, "profile.yaml")
    assert isinstance(located.object, SmtpProfile), located.problems
    told: dict[str, Any] = yaml.safe_load(text)["metadata"].get("annotations", {})
    view = EffectiveProfile(
        located.object,
        UID,
        delivery_allowed=told.get("test/delivery") == "allowed",
        shards={0: pack_bundle([])},
        keda_available=told.get("test/keda") == "available",
    )
    kafka = SECURED if told.get("test/kafka") == "secured" else PLAIN
    secrets = ("registry",) if told.get("test/registry") == "private" else ()
    allow = told.get("test/callbacks", "")
    return view, OperatorDefaults(
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


def everything(view: EffectiveProfile, fixed: OperatorDefaults) -> list[Manifest]:
    """What is applied for a profile and, where it uses them, for its namespace's sandbox and intake."""
    namespace = view.profile.metadata.namespace
    owners = [(view.profile, view.uid)] if view.mode == "Sandbox" else []
    bouncing = [(view.profile, view.uid)] if view.profile.spec.bounces else []
    shared = sandbox.sandbox_manifests(namespace, owners, fixed) + bounces.bounces_manifests(
        namespace, bouncing, fixed
    )
    return profile_manifests(view, fixed) + shared


def golden() -> Iterator[Manifest]:
    """Every golden manifest."""
    for case in CASES:
        yield from everything(*view_of((case / "profile.yaml").read_text()))


def applied(manifest: Manifest) -> Manifest:
    """The manifest as an API server gives it back: with its metadata, and some of its defaults."""
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
