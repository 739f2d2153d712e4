"""The delivery guard: workers that may deliver end with the label, whatever a tenant declares or edits."""

import asyncio
import copy
from typing import Any

import pytest

from postroom_operator.desired.deployment import may_deliver
from postroom_operator.guard import enforce, guard_key
from postroom_operator.models import API_VERSION, Invalid, Manifest, Ref
from postroom_operator.reconcile import reconcile
from postroom_operator.store import profile_key
from tests.operator.operator_harness import NAMESPACE, OperatorHarness, namespace, profile, template
from tests.operator.test_reconcile import ALLOWED, FAULTY, RELAY, Test, run

DEPLOYMENT = Ref("apps/v1", "Deployment", NAMESPACE, "postroom-orders")
PROFILE = Ref(API_VERSION, "SmtpProfile", NAMESPACE, "orders")
KEY = profile_key(NAMESPACE, "orders")
DELIVERY_ALLOWED = {"name": "POSTROOM_DELIVERY_ALLOWED", "value": "true"}


def delivering(test: Test) -> None:
    """Run a test on workers that may deliver."""

    async def begun(harness: OperatorHarness) -> None:
        harness.apply(namespace(**ALLOWED), profile(**RELAY))
        await harness.settle()
        assert may_deliver(workers(harness))
        await test(harness)

    run(begun)


def workers(harness: OperatorHarness) -> Manifest:
    found: Manifest = harness.cluster.objects[DEPLOYMENT]["spec"]["template"]
    return found


def changed(manifest: Manifest, **metadata: Any) -> Manifest:
    return {**copy.deepcopy(manifest), "metadata": {**manifest["metadata"], **metadata}}


def pod(harness: OperatorHarness, **annotations: str) -> Manifest:
    labels = harness.cluster.objects[DEPLOYMENT]["metadata"]["labels"]
    metadata = {"namespace": NAMESPACE, "name": "postroom-orders-x", "labels": labels}
    metadata |= {"annotations": {"postroom.dev/bundle": "x", **annotations}}
    spec, status = copy.deepcopy(workers(harness)["spec"]), {"phase": "Running"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def test_workers_that_cannot_be_changed_end() -> None:
    async def test(harness: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if verb == "apply" and ref.kind == "Deployment":
                raise Invalid("is not valid", 422)

        harness.cluster.before = refuse
        harness.apply(
            profile(**RELAY, workers={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})
        )
        await harness.settle()
        assert DEPLOYMENT in harness.cluster.objects, "they stay as they were"
        harness.apply(namespace())
        await harness.settle()
        assert DEPLOYMENT not in harness.cluster.objects
        assert harness.condition("SmtpProfile", "orders")[1] == "NotApplied"

    delivering(test)


def test_workers_of_a_profile_whose_deletion_is_blocked_end() -> None:
    async def test(harness: OperatorHarness) -> None:
        ending = {"deletionTimestamp": "2026-01-05T09:30:00Z", "finalizers": ["larkfield.example/hold"]}
        harness.apply(changed(harness.cluster.objects[PROFILE], **ending))
        await harness.settle()
        harness.apply(namespace())
        await harness.settle()
        assert DEPLOYMENT not in harness.cluster.objects

    delivering(test)


@pytest.mark.parametrize("restarted", [False, True], ids=["by the same operator", "by the next one"])
def test_workers_that_outlive_their_profile_end(restarted: bool) -> None:
    """Orphaned workers, as `kubectl delete --cascade=orphan` leaves them."""

    async def test(harness: OperatorHarness) -> None:
        harness.cluster.remove(PROFILE)
        harness.apply(changed(harness.cluster.objects[DEPLOYMENT], ownerReferences=[]))
        await harness.settle()
        assert DEPLOYMENT in harness.cluster.objects, "they stay as they were"
        harness.apply(namespace())
        if restarted:
            await harness.restart()
        await harness.settle()
        assert DEPLOYMENT not in harness.cluster.objects

    delivering(test)


@pytest.mark.parametrize("how", ["otherwise", "elsewhere", "twice", "nothing", "unlabelled"])
def test_workers_of_an_invalid_profile_that_may_deliver_end(how: str) -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(profile(**RELAY, **FAULTY))
        await harness.settle()
        found = copy.deepcopy(harness.cluster.objects[DEPLOYMENT])
        (container,) = found["spec"]["template"]["spec"]["containers"]
        others = [each for each in container["env"] if each["name"] != DELIVERY_ALLOWED["name"]]
        source = {"configMapKeyRef": {"name": "mine", "key": "yes"}}
        variables: dict[str, list[Any]] = {
            "otherwise": [{**DELIVERY_ALLOWED, "value": "1"}],
            "elsewhere": [{"name": DELIVERY_ALLOWED["name"], "valueFrom": source}],
            "twice": [{**DELIVERY_ALLOWED, "value": "false"}, DELIVERY_ALLOWED],
            "nothing": [],  # set by `envFrom`
            "unlabelled": [DELIVERY_ALLOWED],
        }
        container["env"] = [*others, *variables[how]]
        if how == "unlabelled":
            found["metadata"]["labels"] = {}
        harness.apply(found)
        await harness.settle()
        harness.apply(namespace())
        await harness.settle()
        assert DEPLOYMENT not in harness.cluster.objects

    delivering(test)


def test_a_pod_that_may_deliver_ends_whatever_its_annotations_say() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(pod(harness, **{"postroom.dev/effect": "Sandbox"}))
        harness.apply(namespace())
        await harness.settle()
        assert not may_deliver(workers(harness))
        assert harness.cluster.objects[DEPLOYMENT]["spec"]["strategy"]["type"] == "Recreate"
        assert harness.condition("SmtpProfile", "orders")[1] == "Replacing"

    delivering(test)


def test_a_rollout_that_a_user_pauses_continues() -> None:
    async def test(harness: OperatorHarness) -> None:
        found = copy.deepcopy(harness.cluster.objects[DEPLOYMENT])
        harness.apply({**found, "spec": {**found["spec"], "paused": True}})
        await harness.settle()
        assert harness.cluster.objects[DEPLOYMENT]["spec"]["paused"] is False

    delivering(test)


def test_the_guard_does_not_wait_for_validation() -> None:
    async def test(harness: OperatorHarness) -> None:
        validating, validated = asyncio.Event(), asyncio.Event()
        prove = harness.validator.validate

        async def slowly(*asked: Any, urgent: bool = False) -> Any:
            validating.set()
            await validated.wait()
            return await prove(*asked, urgent=urgent)

        harness.validator.validate = slowly  # type: ignore[method-assign,assignment]
        harness.apply(template("paid"))
        running = asyncio.create_task(reconcile(KEY, harness.context))
        await validating.wait()
        harness.apply(namespace())
        await enforce(guard_key(KEY), harness.context)
        assert not may_deliver(workers(harness)), "the guard"
        validated.set()
        await running
        assert not may_deliver(workers(harness)), "the reconcile that began while the label was there"

    delivering(test)


def test_the_guard_writes_nothing_without_a_violation() -> None:
    async def test(harness: OperatorHarness) -> None:
        harness.apply(namespace())
        await harness.settle()
        before = len(harness.cluster.writes)
        await enforce(guard_key(KEY), harness.context)
        assert len(harness.cluster.writes) == before
        assert await harness.settle() == []

    delivering(test)
