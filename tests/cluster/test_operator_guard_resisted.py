"""The delivery guard against bypasses: without the label no worker that may deliver is left."""

import json

import pytest

from tests.cluster.manifests import profile
from tests.cluster.operator_process import Object, OperatedNamespace
from tests.cluster.test_operator_guard import RELAY, allowed, mode, workers

pytestmark = pytest.mark.apiserver
TOO_MUCH: Object = {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}


@pytest.fixture
def delivering(world: OperatedNamespace) -> OperatedNamespace:
    """A namespace with a worker that may deliver."""
    world.label("allowed")
    world.apply(profile(**RELAY))
    world.until(lambda: allowed(world) == "true" and workers(world) == {"SMTP"})
    return world


def kubectl(world: OperatedNamespace, *words: str) -> None:
    world.cluster.kubectl(*words, f"--namespace={world.namespace}")


def delivery_settings(world: OperatedNamespace) -> set[str]:
    """The delivery settings of the profile's pods, as they were created."""
    found = world.cluster.api.get(
        f"/api/v1/namespaces/{world.namespace}/pods", params={"labelSelector": "postroom.dev/profile=shop"}
    ).json()["items"]
    env = (each for pod in found for each in pod["spec"]["containers"][0]["env"])
    return {each["value"] for each in env if each["name"] == "POSTROOM_DELIVERY_ALLOWED"}


def test_workers_that_cannot_be_changed_are_deleted(delivering: OperatedNamespace) -> None:
    world = delivering
    world.apply(profile(**RELAY, workers=TOO_MUCH))
    assert world.ready_condition("SmtpProfile", "shop", "False")["reason"] == "NotApplied"
    assert allowed(world) == "true"
    world.label(None)
    world.until(lambda: not world.get("Deployment", "postroom-shop"))


def test_workers_of_a_profile_that_a_finalizer_keeps_end(delivering: OperatedNamespace) -> None:
    world = delivering
    hold = json.dumps({"metadata": {"finalizers": ["larkfield.example/hold"]}})
    kubectl(world, "patch", "smtp", "shop", "--type=merge", "--patch", hold)
    kubectl(world, "delete", "smtp", "shop", "--wait=false")
    world.label(None)
    world.until(lambda: not world.get("Deployment", "postroom-shop"))
    kubectl(world, "patch", "smtp", "shop", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def test_workers_that_outlive_their_profile_end(delivering: OperatedNamespace) -> None:
    world = delivering
    kubectl(world, "delete", "smtp", "shop", "--cascade=orphan")
    world.label(None)
    world.until(lambda: not world.get("Deployment", "postroom-shop"))


def test_a_paused_roll_out_keeps_no_worker(delivering: OperatedNamespace) -> None:
    world = delivering
    kubectl(world, "rollout", "pause", "deployment/postroom-shop")
    world.label(None)
    world.until(lambda: workers(world) == {"Sandbox"})


def test_an_annotation_of_a_pod_does_not_keep_it(delivering: OperatedNamespace) -> None:
    """Without a kubelet no new pod becomes ready: a rolling update would never end."""
    world = delivering
    annotation = "postroom.dev/effect=Sandbox"
    kubectl(world, "annotate", "pods", "--selector=postroom.dev/profile=shop", "--overwrite", annotation)
    world.label(None)
    world.until(lambda: delivery_settings(world) == {"false"})


def test_workers_that_a_user_allowed_to_deliver_end(world: OperatedNamespace) -> None:
    world.apply(profile(**RELAY))
    world.until(lambda: mode(world) == "Sandbox" and delivery_settings(world) == {"false"})
    kubectl(world, "set", "env", "deployment/postroom-shop", "POSTROOM_DELIVERY_ALLOWED=true")
    world.until(lambda: allowed(world) == "false" and delivery_settings(world) == {"false"})


def test_the_sandbox_service_cannot_name_a_relay_outside(world: OperatedNamespace) -> None:
    world.apply(profile(**RELAY))
    world.until(lambda: world.get("Service", "postroom-sandbox"))
    elsewhere = json.dumps({"spec": {"type": "ExternalName", "externalName": "relay.larkfield.example"}})
    kubectl(world, "patch", "service", "postroom-sandbox", "--type=merge", "--patch", elsewhere)
    spec = world.until(
        lambda: (
            found
            if (found := world.get("Service", "postroom-sandbox")["spec"])["type"] == "ClusterIP"
            else None
        )
    )
    assert spec["clusterIP"]
