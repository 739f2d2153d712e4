"""The manifests of workers, claim by claim: their rights, their network, and where letters can go."""

import json
from typing import Any

import pytest

from postroom.letter.problems import Code
from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT
from postroom.sandbox.settings import SandboxSettings
from postroom.startup import ProgramSettings
from postroom.worker.resources import REVOKE_MARGIN_SECONDS
from postroom.worker.settings import BounceSettings, WorkerSettings
from postroom_operator import names
from postroom_operator.desired import bounces, sandbox
from postroom_operator.desired.deployment import GRACE_SECONDS, TERMINATION_SECONDS, profile_hash
from postroom_operator.desired.inputs import EffectiveProfile, KafkaAccess, OperatorDefaults
from postroom_operator.desired.network import MAIL_PORTS
from postroom_operator.desired.profile import profile_manifests, required_topics
from postroom_operator.models import Manifest
from tests.operator.golden_profiles import UID, golden, profile

FIXED = OperatorDefaults("postroom:1", kafka=KafkaAccess("kafka:9092"))
SMTP: dict[str, Any] = {"mode": "SMTP", "smtp": {"host": "smtp.example.org", "port": 2526}}
ANYWHERE = {"peers": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}


def made(
    kind: str, *, defaults: OperatorDefaults = FIXED, allowed: bool = False, keda: bool = True, **spec: Any
) -> Any:
    """The object of a kind that a profile with this spec gets, or None."""
    effective = EffectiveProfile(profile(**spec), UID, delivery_allowed=allowed, keda_available=keda)
    return next((each for each in profile_manifests(effective, defaults) if each["kind"] == kind), None)


def open_ports(policy: Manifest) -> set[int]:
    """Every port that a policy opens for connections out, at any address."""
    found: set[int] = set()
    for rule in policy["spec"]["egress"]:
        for port in rule.get("ports", [{"port": 1, "endPort": 65535}]):
            found |= set(range(port["port"], port.get("endPort", port["port"]) + 1))
    return found


def test_every_pod_passes_the_restricted_standard_and_holds_no_token() -> None:
    pods = [each["spec"]["template"]["spec"] for each in golden() if each["kind"] == "Deployment"]
    assert len(pods) > 6
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]


def test_every_object_has_the_operators_label_and_its_profile_as_owner() -> None:
    for each in golden():
        assert each["metadata"]["labels"][names.MANAGED_BY] == names.OPERATOR
        assert [owner["uid"] for owner in each["metadata"]["ownerReferences"]] == [UID]
        assert len(each["metadata"]["name"]) <= names.LABEL_LENGTH
        assert all(len(value) <= names.LABEL_LENGTH for value in each["metadata"]["labels"].values())


def test_a_pod_is_given_more_time_than_its_drain_takes() -> None:
    assert TERMINATION_SECONDS > GRACE_SECONDS + REVOKE_MARGIN_SECONDS


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("worker", WorkerSettings), ("sandbox", SandboxSettings), ("bounces", BounceSettings)],
)
def test_every_setting_of_a_pod_exists_in_its_program(kind: str, settings: type[ProgramSettings]) -> None:
    for each in golden():
        if each["kind"] == "Deployment" and each["metadata"]["labels"][names.COMPONENT] == kind:
            [container] = each["spec"]["template"]["spec"]["containers"]
            given = {variable["name"].removeprefix("POSTROOM_").lower() for variable in container["env"]}
            assert given <= set(settings.model_fields)


def test_replicas_are_omitted_under_an_autoscaler_and_given_otherwise() -> None:
    scaling = {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}}
    assert "replicas" not in made("Deployment", workers=scaling)["spec"]
    assert made("Deployment", workers=scaling, keda=False)["spec"]["replicas"] == 2
    assert made("Deployment")["spec"]["replicas"] == 1
    assert made("Deployment", workers={"replicas": 0})["spec"]["replicas"] == 0


def test_no_more_workers_than_partitions_are_requested() -> None:
    workers = {"autoscaling": {"minReplicas": 5, "maxReplicas": 50}}
    spec = made("ScaledObject", kafka={"partitions": 4}, workers=workers)["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (4, 4)


def test_a_trigger_holds_strings_only() -> None:
    [trigger] = made("ScaledObject", workers={"autoscaling": {}})["spec"]["triggers"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert "authenticationRef" not in trigger


def test_a_suspended_profile_keeps_its_workers_and_their_number() -> None:
    assert made("Deployment", suspend=True)["spec"]["replicas"] == 1
    scaled = made("ScaledObject", suspend=True, workers={"autoscaling": {"minReplicas": 2}})
    assert scaled["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-replicas": "2"}


def test_a_disruption_budget_exists_only_where_several_workers_can_run() -> None:
    assert made("PodDisruptionBudget") is None
    assert made("PodDisruptionBudget", workers={"replicas": 2}) is not None
    assert made("PodDisruptionBudget", workers={"autoscaling": {}}) is not None
    assert made("PodDisruptionBudget", workers={"autoscaling": {}}, keda=False) is None


@pytest.mark.parametrize("spec", [{}, {"mode": "Log"}, SMTP], ids=["Sandbox", "Log", "SMTP, guarded"])
@pytest.mark.parametrize("network", [{}, ANYWHERE], ids=["alone", "with peers"])
def test_where_delivery_is_not_allowed_no_port_of_a_relay_is_open(
    spec: dict[str, Any], network: dict[str, Any]
) -> None:
    ports = open_ports(made("NetworkPolicy", networkPolicy=network, **spec))
    assert ports & {*MAIL_PORTS} == set()
    if "smtp" in spec:
        assert 2526 not in ports
    assert {53, 5432, 9092} <= ports


def test_mode_smtp_opens_the_port_of_its_relay_once_delivery_is_allowed() -> None:
    assert open_ports(made("NetworkPolicy", allowed=True, **SMTP)) & {25, 465, 587, 2526} == {2526}


CRM = {"name": "crm", "url": "https://hooks.example.org:8443/", "secretRef": {"name": "crm"}}
AUDIT = {"name": "audit", "url": "http://audit.shop.svc:8080/", "secretRef": {"name": "audit"}}


def test_callbacks_open_their_ports_to_the_internet_and_to_allowed_addresses() -> None:
    assert open_ports(made("NetworkPolicy")) & {443, 8080, 8443} == set()
    egress = made("NetworkPolicy", callbacks=[CRM])["spec"]["egress"]
    [rule] = [each for each in egress if {"protocol": "TCP", "port": 8443} in each["ports"]]
    assert [each["ipBlock"]["cidr"] for each in rule["to"]] == ["0.0.0.0/0", "::/0"]
    assert "10.0.0.0/8" in rule["to"][0]["ipBlock"]["except"]
    allowing = OperatorDefaults("i", callback_allow="http://audit.shop.svc,10.96.0.0/12")
    egress = made("NetworkPolicy", defaults=allowing, callbacks=[CRM, AUDIT])["spec"]["egress"]
    assert {"ports": [{"protocol": "TCP", "port": 8080}]} in egress
    [rule] = [each for each in egress if {"protocol": "TCP", "port": 8443} in each["ports"]]
    assert {"ipBlock": {"cidr": "10.96.0.0/12"}} in rule["to"]


def test_a_callback_opens_no_port_of_a_relay_where_delivery_is_not_allowed() -> None:
    sly = CRM | {"url": "https://smtp.example.org:2526/"}
    assert 2526 not in open_ports(made("NetworkPolicy", callbacks=[sly], **SMTP))


def test_workers_get_the_administrators_allowlist_and_none_from_their_profile() -> None:
    defaults = OperatorDefaults("i", callback_allow="*.corp.example")

    def environment(**spec: Any) -> dict[str, str]:
        [container] = made("Deployment", defaults=defaults, **spec)["spec"]["template"]["spec"]["containers"]
        return {each["name"]: each.get("value", "") for each in container["env"]}

    assert environment(callbacks=[CRM])["POSTROOM_CALLBACK_ALLOW"] == "*.corp.example"
    assert "POSTROOM_CALLBACK_ALLOW" not in environment()


def test_kafka_is_reached_at_the_ports_of_the_bootstrap_servers() -> None:
    defaults = OperatorDefaults("i", kafka=KafkaAccess("a.example:31090,b.example:31091,[2001:db8::1]:31092"))
    assert {31090, 31091, 31092} <= open_ports(made("NetworkPolicy", defaults=defaults))


def test_workers_reach_the_inbox_for_an_erasure_only_in_mode_sandbox() -> None:
    [admits, *_] = sandbox.sandbox_manifests("shop", [(profile(), UID)], FIXED)
    egress = made("NetworkPolicy")["spec"]["egress"]
    [rule] = [each for each in egress if {"protocol": "TCP", "port": 8025} in each["ports"]]
    assert rule["to"] == [{"podSelector": admits["spec"]["podSelector"]}]
    [own] = [each for each in admits["spec"]["ingress"] if {"protocol": "TCP", "port": 8025} in each["ports"]]
    assert own["from"] == [{"podSelector": {}}]
    assert 8025 not in open_ports(made("NetworkPolicy", mode="Log"))
    assert 8025 not in open_ports(made("NetworkPolicy", allowed=True, **SMTP))


def test_the_sandbox_can_use_dns_and_nothing_else() -> None:
    found = sandbox.sandbox_manifests("shop", [(profile(), UID)], FIXED)
    [policy] = [each for each in found if each["kind"] == "NetworkPolicy"]
    assert open_ports(policy) == {53, 5353}


def test_the_sandbox_belongs_to_every_profile_that_uses_it_and_goes_with_the_last() -> None:
    [policy, *_] = sandbox.sandbox_manifests("shop", [(profile("b"), "2"), (profile("a"), "1")], FIXED)
    assert [(each["uid"], "controller" in each) for each in policy["metadata"]["ownerReferences"]] == [
        ("1", False),
        ("2", False),
    ]
    assert sandbox.sandbox_manifests("shop", [], FIXED) == []


RETURN_PATHS = {"domain": "b.larkfield.example", "secretRef": {"name": "return-paths"}}
BOUNCING: dict[str, Any] = {"bounces": RETURN_PATHS}


def test_the_bounce_server_reaches_the_ledger_and_sends_no_mail() -> None:
    found = bounces.bounces_manifests("shop", [(profile(**BOUNCING), UID)], FIXED)
    [policy] = [each for each in found if each["kind"] == "NetworkPolicy"]
    assert open_ports(policy) == {53, 5353, 5432}


def test_the_bounce_server_mounts_every_profile_with_bounces_and_is_deleted_with_the_last() -> None:
    other = profile("a", connectionsSecretRef={"name": "own"}, **BOUNCING)
    found = bounces.bounces_manifests("shop", [(profile("b", **BOUNCING), "2"), (other, "1")], FIXED)
    [deployment] = [each for each in found if each["kind"] == "Deployment"]
    assert [each["uid"] for each in deployment["metadata"]["ownerReferences"]] == ["1", "2"]
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    sources = [each["configMap"]["items"][0]["path"] for each in volumes["profiles"]["projected"]["sources"]]
    assert sources == ["a.yaml", "b.yaml"]
    secrets = [volumes[f"secret-{number}"]["secret"]["secretName"] for number in range(3)]
    assert secrets == ["own", "postroom-connections", "return-paths"]
    assert bounces.bounces_manifests("shop", [], FIXED) == []


def test_the_bounce_server_rolls_for_what_it_reads_at_start_and_for_nothing_else() -> None:
    def hash_of(**spec: Any) -> str:
        [_, deployment, _] = bounces.bounces_manifests("shop", [(profile(**BOUNCING | spec), UID)], FIXED)
        return str(deployment["spec"]["template"]["metadata"]["annotations"][names.PROFILE_HASH])

    assert hash_of(retry={"maxAttempts": 6}) == hash_of(mode="Log") == hash_of()
    for spec in ({"kafka": {"statusEvents": ["Bounced"]}}, {"suppression": {"hardBounces": "Ignore"}}):
        assert hash_of(**spec) != hash_of()


def test_workers_roll_for_what_they_read_at_start_and_for_nothing_else() -> None:
    assert profile_hash(profile()) != profile_hash(profile(retry={"maxAttempts": 6}))
    assert profile_hash(profile()) != profile_hash(profile(suspend=True))
    assert profile_hash(profile()) != profile_hash(profile(kafka={"topic": "postroom.shop.x"}))
    for same in (
        {"workers": {"replicas": 4}},
        {"networkPolicy": ANYWHERE},
        {"kafka": {"partitions": 12}},
        {"retry": {"maxAttempts": 5}},
        {"mode": "Sandbox"},
    ):
        assert profile_hash(profile()) == profile_hash(profile(**same)), same


def test_a_change_of_the_delivery_setting_rolls_the_workers() -> None:
    assert made("Deployment", **SMTP) != made("Deployment", allowed=True, **SMTP)


def test_a_profile_has_a_topic_and_one_for_its_dead_letters() -> None:
    letters, dead = required_topics(profile(kafka={"partitions": 6, "retention": "24h"}))
    assert (letters.name, letters.partitions) == ("postroom.shop.orders", 6)
    assert letters.config == {"cleanup.policy": "delete", "retention.ms": "86400000"}
    assert (dead.name, dead.partitions) == ("postroom.shop.orders.dlq", 1)
    assert dead.config["retention.ms"] == str(192 * 3600 * 1000)


def test_a_profile_with_status_events_has_a_topic_for_them() -> None:
    letters, _, status = required_topics(profile(kafka={"partitions": 6, "statusEvents": ["Failed"]}))
    assert (status.name, status.partitions) == ("postroom.shop.orders.status", 6)
    assert status.config == letters.config


@pytest.mark.parametrize("name", ["bounces", "sandbox", "operator", "gateway", "a.b", "x" * 100])
def test_no_profile_has_the_name_of_a_part_of_postroom_or_of_another_profile(name: str) -> None:
    found = names.worker_object(name)
    assert found not in {
        "postroom-sandbox",
        "postroom-operator",
        "postroom-gateway",
        names.worker_object("a-b"),
    }
    assert "." not in found
    assert len(names.bundle_config_map(name, 15)) <= names.LABEL_LENGTH
    assert names.worker_object(f"{name}x") != found


@pytest.mark.parametrize("name", ["a.b", "sandbox", "x" * 100])
def test_no_profile_has_the_name_of_another_profiles_objects(name: str) -> None:
    """A user could choose a name that equals a shortened one: both profiles would write the same objects."""
    cut = names.worker_object(name)
    assert names.worker_object(cut.removeprefix("postroom-")) != cut


# --- a fallback ---

OWN: dict[str, Any] = {"host": "smtp.larkfield.example", "auth": {"secretRef": {"name": "own"}}}
SPARE: dict[str, Any] = {
    "mode": "SMTP",
    "smtp": {"host": "spare.example", "port": 2525, "auth": {"secretRef": {"name": "other"}}},
    "limits": {"rate": {"count": 5}},
}
LEANS: dict[str, Any] = {"mode": "SMTP", "smtp": OWN, "fallbackRef": {"name": "spare"}}


def leaning(spare: dict[str, Any] | None, *, allowed: bool = True, **spec: Any) -> EffectiveProfile:
    """A profile with its fallback."""
    other = profile("spare", **spare) if spare is not None else None
    return EffectiveProfile(profile(**(LEANS | spec)), UID, delivery_allowed=allowed, fallback=other)


def of(effective: EffectiveProfile, kind: str) -> Manifest:
    return next(each for each in profile_manifests(effective, FIXED) if each["kind"] == kind)


def test_workers_get_the_fallback_its_secrets_and_access_to_its_relay() -> None:
    effective = leaning(SPARE)
    pod = of(effective, "Deployment")["spec"]["template"]["spec"]
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert env["POSTROOM_FALLBACK"] == "/etc/postroom/profile/fallback.yaml"
    secrets = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
    assert secrets == ["postroom-connections", "other", "own"]
    written = next(
        each for each in profile_manifests(effective, FIXED) if "profile.yaml" in each.get("data", {})
    )["data"]
    assert "spare.example" in written["fallback.yaml"]
    for text in written.values():  # for workers of other releases
        assert json.loads(text)["metadata"]["annotations"][FORMAT_ANNOTATION] == PROFILE_FORMAT
    assert open_ports(of(effective, "NetworkPolicy")) >= {587, 2525}


@pytest.mark.parametrize(
    ("effective", "code"),
    [
        (leaning(None), Code.FALLBACK_MISSING),
        (leaning({"mode": "Sandbox"}), Code.FALLBACK_UNUSABLE),
        (leaning(SPARE, mode="Sandbox"), Code.FALLBACK_UNUSABLE),
        (leaning(SPARE, allowed=False), None),
    ],
    ids=["missing", "to a sandbox", "from a sandbox", "guarded"],
)
def test_a_sandbox_cannot_reach_a_relay_and_an_unusable_fallback_is_omitted(
    effective: EffectiveProfile, code: Code | None
) -> None:
    assert (effective.fallback_problem.code if effective.fallback_problem else None) == code
    assert effective.usable_fallback is None
    text = str(profile_manifests(effective, FIXED))
    assert "POSTROOM_FALLBACK" not in text
    assert "spare.example" not in text
    assert 2525 not in open_ports(of(effective, "NetworkPolicy"))


def test_workers_roll_when_the_fallbacks_relay_changes_and_not_when_its_topic_does() -> None:
    own = profile(**LEANS)
    before = profile_hash(own, profile("spare", **SPARE))
    assert profile_hash(own, profile("spare", **(SPARE | {"limits": {"rate": {"count": 6}}}))) != before
    assert profile_hash(own, profile("spare", **(SPARE | {"kafka": {"partitions": 9}}))) == before
    assert profile_hash(own, None) != before
