"""One operator for all namespaces, with the chart's default roles."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.cluster.manifests import layout, profile, template
from tests.cluster.operator_process import Object, OperatedNamespace

pytestmark = pytest.mark.apiserver
RELAY: Object = {"mode": "SMTP", "smtp": {"host": "relay.larkfield.example"}}


@pytest.fixture
def elsewhere(wide_world: OperatedNamespace) -> Iterator[OperatedNamespace]:
    """A namespace that is created while the operator runs."""
    wide_world.until(lambda: "acquired the Lease; listing" in wide_world.operator.words)
    name = f"late-{uuid4().hex[:10]}"
    wide_world.cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield replace(wide_world, namespace=name)
    wide_world.cluster.api.delete(f"/api/v1/namespaces/{name}")


def live(world: OperatedNamespace, *names: str) -> bool:
    ready = {world.condition("EmailTemplate", name).get("status") for name in names}
    return ready == {"True"} and sorted(world.served()) == sorted(names)


def mode(world: OperatedNamespace) -> str:
    found: str = world.get("SmtpProfile", "shop").get("status", {}).get("mode", "")
    return found


def owned(world: OperatedNamespace) -> bool:
    """Whether the workers belong to the profile of their own namespace."""
    [owner] = world.get("Deployment", "postroom-shop")["metadata"]["ownerReferences"]
    return bool(owner["uid"] == world.get("SmtpProfile", "shop")["metadata"]["uid"])


def test_namespaces_of_any_age_are_managed_separately(
    wide_world: OperatedNamespace, elsewhere: OperatedNamespace
) -> None:
    """Two profiles of the same name in two namespaces have their own workers, NetworkPolicies and
    sandboxes."""
    for world, word in ((wide_world, "one"), (elsewhere, "two")):
        page = template("same", f"<p>{word} {{{{ name }}}}</p>", layoutRef={"name": "larkfield"})
        world.apply(profile(), layout(), page, template(word))
    for world, word in ((wide_world, "one"), (elsewhere, "two")):
        world.until(lambda world=world, word=word: live(world, "same", word))  # type: ignore[misc]
        assert f"{word} " in str(world.served()["same"].variants)
        assert owned(world)
        assert world.get("Service", "postroom-sandbox")
        assert world.get("NetworkPolicy", "postroom-shop")

    elsewhere.delete("EmailTemplate", "two")
    elsewhere.until(lambda: sorted(elsewhere.served()) == ["same"])
    assert live(wide_world, "same", "one")


def test_the_label_of_a_namespace_allows_no_other(
    wide_world: OperatedNamespace, elsewhere: OperatedNamespace
) -> None:
    """Where all namespaces are watched the guard reacts to a label at once."""
    elsewhere.label("allowed")
    for world in (wide_world, elsewhere):
        world.apply(profile(**RELAY))
    elsewhere.until(lambda: mode(elsewhere) == "SMTP")
    found = wide_world.until(lambda: wide_world.condition("SmtpProfile", "shop", "DeliveryAllowed"))
    assert (found["status"], found["reason"]) == ("False", "NamespaceNotLabelled")
    elsewhere.label(None)
    elsewhere.until(lambda: mode(elsewhere) == "Sandbox")


def test_a_namespace_that_goes_takes_its_own_along_and_no_other_is_touched(
    wide_world: OperatedNamespace, elsewhere: OperatedNamespace
) -> None:
    for world in (wide_world, elsewhere):
        world.apply(profile(), template())
        world.until(lambda world=world: live(world, "welcome"))  # type: ignore[misc]
    uid = wide_world.get("Deployment", "postroom-shop")["metadata"]["uid"]
    path = f"/api/v1/namespaces/{elsewhere.namespace}"
    wide_world.cluster.api.delete(path)
    wide_world.until(lambda: wide_world.cluster.api.get(path).status_code == 404)
    wide_world.apply(template("other"))
    wide_world.until(lambda: live(wide_world, "welcome", "other"))
    assert wide_world.get("Deployment", "postroom-shop")["metadata"]["uid"] == uid
    assert "internal error" not in wide_world.operator.words


def test_the_rights_of_the_chart_are_enough(
    wide_world: OperatedNamespace, elsewhere: OperatedNamespace
) -> None:
    for world in (wide_world, elsewhere):
        world.apply(profile(), layout(), template())
        world.until(lambda world=world: live(world, "welcome"))  # type: ignore[misc]
    asked = wide_world.cluster.requests(wide_world.account.user)
    refused = [each for each in asked if each.get("responseStatus", {}).get("code") == 403]
    assert refused == []
