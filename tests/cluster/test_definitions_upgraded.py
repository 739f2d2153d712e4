"""An upgrade and a downgrade of the CRDs while the operator runs: stored objects stay usable.

No earlier definitions were released. What stands for them is derived from today's: without rules in CEL and
without some optional fields, which is how definitions grow. So an object can be stored that today's refuse;
the API server then takes any change of it that leaves the refused field alone (ratcheting, KEP-4008).
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from postroom.local.errors import UserError
from tests.cluster.binaries import find
from tests.cluster.controlplane import CRDS, ControlPlane
from tests.cluster.manifests import Object, profile, template
from tests.cluster.operator_process import NAMESPACED, OperatedNamespace
from tests.fixtures.operating import operated
from tests.layers import unavailable

pytestmark = pytest.mark.apiserver
YOUNGER = {
    "SmtpProfile": ("spec.circuitBreaker", "spec.limits", "status.lag"),
    "EmailTemplate": ("spec.expiresAfter", "spec.preheader", "status.warnings"),
    "EmailLayout": ("status.templates",),
}
"""Optional fields that the earlier CRDs do not have."""
CLEAR: Object = {
    "mode": "SMTP",
    "smtp": {
        "host": "relay.larkfield.example",
        "tls": {"mode": "None"},
        "auth": {"method": "PLAIN", "secretRef": {"name": "relay"}},
    },
}
"""A password in clear: rejected today, and accepted before the rule existed."""


def today() -> list[Any]:
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


def earlier(definition: Any) -> Any:
    """A CRD as an earlier release might have had it."""
    old = _without_rules(definition)
    [version] = old["spec"]["versions"]
    for path in YOUNGER[old["spec"]["names"]["kind"]]:
        part, name = path.split(".")
        fields = version["schema"]["openAPIV3Schema"]["properties"][part]["properties"]
        assert fields.pop(name), "today's have it"
    return old


def _without_rules(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_rules(each) for key, each in value.items() if key != "x-kubernetes-validations"}
    return [_without_rules(each) for each in value] if isinstance(value, list) else value


def define(cluster: ControlPlane, definitions: list[Any]) -> None:
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=definitions)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")


@pytest.fixture
def before(tmp_path: Path) -> Iterator[OperatedNamespace]:
    """A separate control plane with the earlier CRDs, and a running operator."""
    try:
        binaries = find()
    except UserError as trouble:
        unavailable(trouble.problem, trouble.remedy)
    with tempfile.TemporaryDirectory(prefix="postroom-cluster-", ignore_cleanup_errors=True) as folder:
        cluster = ControlPlane(Path(folder), binaries)
        try:
            cluster.start()
            define(cluster, [earlier(each) for each in today()])
            cluster.create("/api/v1/namespaces", {"metadata": {"name": "tenant"}})
            with operated(cluster, "tenant", tmp_path, NAMESPACED) as world:
                yield world
        finally:
            cluster.stop()


def taken(world: OperatedNamespace, manifest: Object) -> bool:
    """Whether the API server accepts an object, as a dry run."""
    path = world._path(manifest["kind"], manifest["metadata"]["name"])
    how = {"fieldManager": "test", "force": "true", "dryRun": "All"}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    return world.cluster.api.patch(path, params=how, json=manifest, headers=headers).is_success


def live(world: OperatedNamespace, *names: str) -> bool:
    ready = {world.condition("EmailTemplate", name).get("status") for name in names}
    return ready == {"True"} and sorted(world.served()) == sorted(names)


def test_an_object_that_was_stored_before_the_rules_stays_usable_and_reports_its_problems(
    before: OperatedNamespace,
) -> None:
    world = before
    world.apply(profile(), template(), profile("old", **CLEAR))
    world.until(lambda: live(world, "welcome"))
    assert not taken(world, template("young", preheader="Hello")), "the earlier definitions do not know it"
    revision = world.served()["welcome"].revision
    uid = world.get("Deployment", "postroom-shop")["metadata"]["uid"]

    define(world.cluster, today())
    young = template("young", preheader="Hello", expiresAfter="15m")
    world.until(lambda: taken(world, young))
    assert not taken(world, profile("new", **CLEAR)), "today's rules hold for what is new"

    world.apply(young)
    world.until(lambda: live(world, "welcome", "young"))
    assert world.served()["welcome"].revision == revision
    assert world.get("Deployment", "postroom-shop")["metadata"]["uid"] == uid

    found = world.ready_condition("SmtpProfile", "old", "False")
    assert "spec.smtp.auth" in found["message"]
    assert "TLS" in found["message"]

    world.apply(profile("old", from_={"address": "news@larkfield.example"}, **CLEAR))  # ratcheting
    generation = world.get("SmtpProfile", "old")["metadata"]["generation"]
    assert generation == 2
    assert world.ready_condition("SmtpProfile", "old", "False")["observedGeneration"] == generation

    corrected = {**CLEAR, "smtp": {**CLEAR["smtp"], "tls": {"mode": "Required"}}}
    world.apply(profile("old", **corrected))
    world.until(lambda: world.get("Deployment", "postroom-old"))
    assert not taken(world, profile("old", **CLEAR)), "once it is corrected it cannot be reverted"
    assert world.operator.running
    assert "internal error" not in world.operator.words


def test_a_downgrade_removes_the_new_fields_and_keeps_the_objects(before: OperatedNamespace) -> None:
    """Apply the earlier CRDs, as `helm rollback` does."""
    world = before
    define(world.cluster, today())
    young = template(preheader="Hello")
    world.until(lambda: taken(world, young))
    world.apply(profile(), young)
    world.until(lambda: live(world, "welcome"))

    define(world.cluster, [earlier(each) for each in today()])
    world.until(lambda: "preheader" not in world.get("EmailTemplate", "welcome")["spec"])
    assert not taken(world, young), "a manifest of then is refused, not cut"
    assert taken(world, template())
    assert live(world, "welcome")
    assert world.operator.running
