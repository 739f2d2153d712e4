"""The operator's objects are restored after any edit or deletion, also of a time when it was down."""

import copy

import pytest

from tests.cluster.manifests import profile, template
from tests.cluster.operator_process import Object, OperatedNamespace

pytestmark = pytest.mark.apiserver
CHILDREN = (
    ("Deployment", "postroom-shop"),
    ("ConfigMap", "postroom-shop-profile"),
    ("ConfigMap", "postroom-shop-bundle-00"),
    ("NetworkPolicy", "postroom-shop"),
    ("Deployment", "postroom-sandbox"),
    ("Service", "postroom-sandbox"),
    ("NetworkPolicy", "postroom-sandbox"),
)


def settled(world: OperatedNamespace) -> None:
    """A profile and a template, and all objects that are created for them."""
    world.apply(profile(), template())
    world.until(lambda: world.condition("EmailTemplate", "welcome").get("status") == "True")
    for kind, name in CHILDREN:
        world.until(lambda kind=kind, name=name: world.get(kind, name))  # type: ignore[misc]


EVIL = "evil.test/x:1"
EDITS: dict[str, Object] = {
    "Deployment": {"spec": {"template": {"spec": {"containers": [{"name": "", "image": EVIL}]}}}},
    "NetworkPolicy": {"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]}},
    "Service": {"spec": {"selector": {"app": "evil"}}},
}


def spoil(world: OperatedNamespace) -> None:
    """Edit every object of the operator, as a user with kubectl might."""
    for kind, name in CHILDREN:
        child = world.get(kind, name)
        change = copy.deepcopy(EDITS.get(kind, {}))
        if kind == "Deployment":
            (change["spec"]["template"]["spec"]["containers"][0]["name"],) = containers(child)
        if kind == "ConfigMap":
            change = {"data": dict.fromkeys(child["data"], "{}")}
        world.patch(kind, name, change)


def containers(deployment: Object) -> dict[str, str]:
    """The images by container."""
    return {each["name"]: each["image"] for each in deployment["spec"]["template"]["spec"]["containers"]}


def spoilt(world: OperatedNamespace) -> list[str]:
    """The objects that differ from the operator's."""
    found = []
    for kind, name in CHILDREN:
        child = world.get(kind, name)
        wrong = {
            "Deployment": lambda child: EVIL in containers(child).values(),
            "ConfigMap": lambda child: "{}" in child["data"].values(),
            "NetworkPolicy": lambda child: "192.0.2.0" in str(child["spec"]),
            "Service": lambda child: "app" in child["spec"]["selector"],
        }[kind](child)
        if wrong:
            found.append(f"{kind} {name}")
    return found


def test_a_profile_and_a_template_become_workers_with_templates(world: OperatedNamespace) -> None:
    settled(world)
    assert list(world.served()) == ["welcome"]
    status = world.get("EmailTemplate", "welcome")["status"]
    assert status["revision"] == world.served()["welcome"].revision
    assert status["samples"][0]["result"] == "Rendered"
    assert status["sizes"]["htmlBytes"] > 0
    (container,) = world.get("Deployment", "postroom-shop")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "postroom.test/postroom:1"
    ready = world.until(lambda: world.condition("SmtpProfile", "shop"))
    assert ready["status"] != "True", "no worker runs here"
    assert world.get("SmtpProfile", "shop")["status"]["mode"] == "Sandbox"


@pytest.mark.parametrize("looking", [True, False], ids=["while it looks", "while it is down"])
def test_deleted_objects_are_created_again(world: OperatedNamespace, looking: bool) -> None:
    settled(world)
    if not looking:
        world.operator.kill()
    before = {child: world.get(*child)["metadata"]["uid"] for child in CHILDREN}
    for child in CHILDREN:
        world.delete(*child)
    if not looking:
        world.operator.start()
    for child in CHILDREN:
        world.until(
            lambda child=child: (
                (found := world.get(*child))  # type: ignore[misc]
                and found["metadata"]["uid"] != before[child]
            )
        )
    world.until(lambda: "welcome" in world.served())


@pytest.mark.parametrize("looking", [True, False], ids=["while it looks", "while it is down"])
def test_edited_objects_are_restored(world: OperatedNamespace, looking: bool) -> None:
    settled(world)
    if not looking:
        world.operator.kill()
    spoil(world)
    if not looking:
        assert len(spoilt(world)) == len(CHILDREN)
        world.operator.start()
    world.until(lambda: not spoilt(world))
    world.until(lambda: "welcome" in world.served())


def test_a_template_that_is_deleted_while_the_operator_is_down_is_no_longer_served(
    world: OperatedNamespace,
) -> None:
    settled(world)
    world.apply(template("other"))
    world.until(lambda: len(world.served()) == 2)
    world.operator.kill()
    world.delete("EmailTemplate", "welcome")
    world.operator.start()
    world.until(lambda: list(world.served()) == ["other"])


def test_a_profile_that_is_deleted_while_the_operator_is_down_loses_its_workers(
    world: OperatedNamespace,
) -> None:
    settled(world)
    world.operator.kill()
    world.delete("SmtpProfile", "shop")
    world.until(lambda: not world.made("Deployment") and not world.made("ConfigMap"))
    world.operator.start()
    found = world.ready_condition("EmailTemplate", "welcome", "False")
    assert found["reason"] == "ProfileNotFound"


def test_a_namespace_that_is_deleted_goes_and_the_operator_stays(world: OperatedNamespace) -> None:
    settled(world)
    world.cluster.kubectl("delete", "namespace", world.namespace, "--wait=false")
    path = f"/api/v1/namespaces/{world.namespace}"
    world.until(lambda: world.cluster.api.get(path).status_code == 404)
    assert world.operator.running
    assert "internal error" not in world.operator.words
