"""A CRD that is removed while the operator runs, and a profile that is created again under its name."""

import pytest

from tests.cluster.controlplane import CRDS
from tests.cluster.manifests import layout, profile, template
from tests.cluster.operator_process import OperatedNamespace

pytestmark = pytest.mark.apiserver
HTML = "{% block content %}<p>Hello {{ name }}</p>{% endblock %}"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/emaillayouts.postroom.dev"
CHILDREN = (
    ("Deployment", "postroom-shop"),
    ("ConfigMap", "postroom-shop-profile"),
    ("ConfigMap", "postroom-shop-bundle-00"),
    ("NetworkPolicy", "postroom-shop"),
)


def planted(world: OperatedNamespace) -> None:
    world.apply(profile(), layout(), template(html=HTML, layoutRef={"name": "larkfield"}))
    world.ready_condition("EmailTemplate", "welcome", "True")


@pytest.mark.parametrize("whose", ["world", "wide_world"])
def test_a_kind_that_is_removed_and_installed_again_is_reconciled_again(
    whose: str, request: pytest.FixtureRequest
) -> None:
    world: OperatedNamespace = request.getfixturevalue(whose)
    planted(world)
    world.cluster.api.delete(DEFINITION).raise_for_status()
    world.until(lambda: world.cluster.api.get(DEFINITION).status_code == 404)
    assert world.ready_condition("EmailTemplate", "welcome", "False")["reason"] == "LayoutNotFound"
    world.apply(profile(workers={"replicas": 2}))
    world.until(lambda: world.get("PodDisruptionBudget", "postroom-shop"))
    world.cluster.kubectl("apply", "--server-side", "-f", str(CRDS))
    world.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
    world.apply(layout())
    world.ready_condition("EmailTemplate", "welcome", "True")
    world.ready_condition("EmailLayout", "larkfield", "True")
    assert world.operator.running
    assert "internal error" not in world.operator.words


@pytest.mark.parametrize("looking", [True, False], ids=["while it looks", "while it is down"])
def test_a_profile_that_is_created_again_under_its_name_owns_its_workers_alone(
    world: OperatedNamespace, looking: bool
) -> None:
    planted(world)
    old = world.get("SmtpProfile", "shop")["metadata"]["uid"]
    if not looking:
        world.operator.kill()
    world.delete("SmtpProfile", "shop")
    world.apply(profile())
    new = world.get("SmtpProfile", "shop")["metadata"]["uid"]
    assert new != old
    if not looking:
        world.operator.start()
    world.until(lambda: [owners(world, *child) for child in CHILDREN] == [[new]] * len(CHILDREN))
    world.until(lambda: "welcome" in world.served())
    world.ready_condition("EmailTemplate", "welcome", "True")


def owners(world: OperatedNamespace, kind: str, name: str) -> list[str]:
    """The uids of the owners of an object that is not being deleted."""
    metadata = world.get(kind, name).get("metadata", {})
    if "deletionTimestamp" in metadata:
        return []
    return [each["uid"] for each in metadata.get("ownerReferences", [])]
