"""The delivery guard: mode SMTP takes effect only where an administrator labelled the namespace."""

import pytest

from tests.cluster.controlplane import Account, KubectlError
from tests.cluster.manifests import profile, template
from tests.cluster.operator_process import Object, OperatedNamespace

pytestmark = pytest.mark.apiserver
RELAY: Object = {"mode": "SMTP", "smtp": {"host": "relay.larkfield.example"}}


def allowed(world: OperatedNamespace) -> str:
    """The delivery setting of the workers."""
    deployment = world.get("Deployment", "postroom-shop")
    if not deployment:
        return ""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    found: str = environment["POSTROOM_DELIVERY_ALLOWED"]
    return found


def mode(world: OperatedNamespace) -> str:
    found: str = world.get("SmtpProfile", "shop").get("status", {}).get("mode", "")
    return found


@pytest.fixture
def tenant(world: OperatedNamespace) -> Account:
    """A user with the built-in role `admin` in the namespace, and the chart's additions to it."""
    account = world.cluster.account(world.namespace, "tenant")
    place, subject = f"--namespace={world.namespace}", f"--serviceaccount={world.namespace}:tenant"
    kubectl = world.cluster.kubectl
    kubectl("create", "rolebinding", "tenant", place, "--clusterrole=admin", subject)
    verbs = "--verb=create,delete,deletecollection,get,list,patch,update,watch"
    kinds = "--resource=emailtemplates.postroom.dev,emaillayouts.postroom.dev,smtpprofiles.postroom.dev"
    kubectl("create", "role", "letters", place, verbs, kinds)
    kubectl("create", "rolebinding", "letters", place, "--role=letters", subject)
    return account


def test_without_the_label_smtp_is_treated_as_sandbox_and_reported(world: OperatedNamespace) -> None:
    world.apply(profile(**RELAY))
    world.until(lambda: mode(world) == "Sandbox")
    assert allowed(world) == "false"
    found = world.until(lambda: world.condition("SmtpProfile", "shop", "DeliveryAllowed"))
    assert (found["status"], found["reason"]) == ("False", "NamespaceNotLabelled")
    assert "postroom.dev/delivery=allowed" in found["message"]
    world.until(lambda: world.get("Service", "postroom-sandbox"))


def test_with_the_label_smtp_takes_effect_and_without_it_ends(world: OperatedNamespace) -> None:
    world.label("yes")
    world.apply(profile(**RELAY))
    world.until(lambda: mode(world) == "Sandbox" and allowed(world) == "false")
    world.label("allowed")
    world.until(lambda: mode(world) == "SMTP" and allowed(world) == "true")
    world.until(lambda: not world.get("Service", "postroom-sandbox"))
    world.label(None)
    world.until(lambda: mode(world) == "Sandbox" and allowed(world) == "false")
    world.until(lambda: world.get("Service", "postroom-sandbox"))


FAULTS: dict[str, Object] = {
    "ManifestInvalid": {"kafka": {"topic": "postroom.elsewhere.orders"}},
    "NotApplied": {"workers": {"tolerations": [{"operator": "Sometimes"}]}},
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_fault_in_the_profile_keeps_no_workers_that_may_deliver(
    world: OperatedNamespace, reason: str
) -> None:
    world.label("allowed")
    world.apply(profile(**RELAY))
    world.until(lambda: allowed(world) == "true")
    world.apply(profile(**RELAY, **FAULTS[reason]))
    world.until(lambda: world.condition("SmtpProfile", "shop").get("reason") == reason)
    assert allowed(world) == "true"
    world.label(None)
    world.until(lambda: not world.get("Deployment", "postroom-shop"))
    world.apply(profile(**RELAY))
    world.until(lambda: mode(world) == "Sandbox" and world.get("Deployment", "postroom-shop"))
    assert allowed(world) == "false"


def workers(world: OperatedNamespace) -> set[str]:
    """The effects of the profile's pods, as they were created."""
    found = world.cluster.api.get(
        f"/api/v1/namespaces/{world.namespace}/pods",
        params={"labelSelector": "postroom.dev/profile=shop,app.kubernetes.io/component=worker"},
    ).json()["items"]
    return {each["metadata"]["annotations"]["postroom.dev/effect"] for each in found}


def strategy(world: OperatedNamespace) -> Object:
    found: Object = world.get("Deployment", "postroom-shop")["spec"]["strategy"]
    return found


def test_workers_of_two_modes_never_run_together(world: OperatedNamespace) -> None:
    """Without a kubelet no pod becomes ready, as with a missing Secret: a rollout would keep old pods."""
    world.apply(profile(**RELAY))
    world.until(lambda: workers(world) == {"Sandbox"})
    rolling = world.until(lambda: strategy(world))
    assert rolling["type"] == "RollingUpdate"
    world.label("allowed")
    world.until(lambda: workers(world) == {"SMTP"})
    world.until(lambda: strategy(world) == rolling)
    world.label(None)
    world.until(lambda: workers(world) == {"Sandbox"})
    world.apply(profile(**RELAY, suspend=True))
    world.until(lambda: workers(world) == {"Suspended"})
    world.until(lambda: world.condition("SmtpProfile", "shop").get("reason") == "Suspended")
    world.until(lambda: strategy(world) == rolling)


def test_a_tenant_cannot_label_the_namespace(world: OperatedNamespace, tenant: Account) -> None:
    with pytest.raises(KubectlError, match="forbidden"):
        world.cluster.kubectl(
            "label", "namespace", world.namespace, "postroom.dev/delivery=allowed", account=tenant
        )


def test_a_tenant_cannot_write_a_status(world: OperatedNamespace, tenant: Account) -> None:
    world.apply(profile(**RELAY))
    world.until(lambda: mode(world) == "Sandbox")
    place = f"--namespace={world.namespace}"
    patch = ("patch", "smtp", "shop", place, "--type=merge", "--patch", '{"status": {"mode": "SMTP"}}')
    with pytest.raises(KubectlError, match="forbidden"):
        world.cluster.kubectl(*patch, "--subresource=status", account=tenant)
    world.cluster.kubectl(*patch, account=tenant)  # accepted, and its status ignored
    assert mode(world) == "Sandbox"


def test_a_tenant_cannot_refer_to_another_namespace(world: OperatedNamespace, tenant: Account) -> None:
    elsewhere = template(smtpProfileRef={"name": "shop", "namespace": "payments"})
    place = f"--namespace={world.namespace}"
    with pytest.raises(KubectlError, match="unknown field"):
        world.cluster.kubectl("apply", place, "-f", "-", stdin=elsewhere, account=tenant)


def test_what_a_tenant_edits_to_deliver_is_put_back(world: OperatedNamespace, tenant: Account) -> None:
    world.apply(profile(**RELAY), template())
    world.until(lambda: mode(world) == "Sandbox" and world.served())
    place = f"--namespace={world.namespace}"
    kubectl = world.cluster.kubectl
    patch = ("--type=merge", "--patch")
    kubectl("set", "env", "deployment/postroom-shop", place, "POSTROOM_DELIVERY_ALLOWED=true", account=tenant)
    kubectl(
        "patch", "networkpolicy", "postroom-shop", place, *patch, '{"spec": {"egress": [{}]}}', account=tenant
    )
    world.until(lambda: allowed(world) == "false")
    world.until(lambda: {} not in world.get("NetworkPolicy", "postroom-shop")["spec"]["egress"])

    manager = "app.kubernetes.io/managed-by-"
    kubectl("label", "deployment", "postroom-shop", place, manager, account=tenant)
    kubectl("set", "env", "deployment/postroom-shop", place, "POSTROOM_DELIVERY_ALLOWED=true", account=tenant)
    world.until(lambda: allowed(world) == "false")


def test_a_template_cannot_send_for_a_domain_that_the_profile_does_not_allow(
    world: OperatedNamespace,
) -> None:
    world.apply(profile(), template(from_={"address": "ceo@bank.example"}))
    assert world.ready_condition("EmailTemplate", "welcome", "False")["reason"] == "SenderNotAllowed"
    assert world.served() == {}
