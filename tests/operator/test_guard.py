"""No way past the guard: workers that may deliver end with the label, whatever a tenant declares or edits."""

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
TOLD = {"name": "POSTROOM_DELIVERY_ALLOWED", "value": "true"}


def delivering(test: Test) -> None:
    """Run a test on workers that may deliver."""

    async def begun(world: OperatorHarness) -> None:
        world.apply(namespace(**ALLOWED), profile(**RELAY))
        await world.settle()
        assert may_deliver(workers(world))
        await test(world)

    run(begun)


def workers(world: OperatorHarness) -> Manifest:
    found: Manifest = world.cluster.objects[DEPLOYMENT]["spec"]["template"]
    return found


def changed(manifest: Manifest, **metadata: Any) -> Manifest:
    return {**copy.deepcopy(manifest), "metadata": {**manifest["metadata"], **metadata}}


def pod(world: OperatorHarness, **annotations: str) -> Manifest:
    labels = world.cluster.objects[DEPLOYMENT]["metadata"]["labels"]
    metadata = {"namespace": NAMESPACE, "name": "postroom-orders-x", "labels": labels}
    metadata |= {"annotations": {"postroom.dev/bundle": "x", **annotations}}
    spec, status = copy.deepcopy(workers(world)["spec"]), {"phase": "Running"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def test_workers_that_cannot_be_changed_end() -> None:
    async def test(world: OperatorHarness) -> None:
        def refuse(verb: str, ref: Ref) -> None:
            if verb == "apply" and ref.kind == "Deployment":
                raise Invalid("is not valid", 422)

        world.cluster.before = refuse
        world.apply(
            profile(**RELAY, workers={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})
        )
        await world.settle()
        assert DEPLOYMENT in world.cluster.objects, "they stay as they were"
        world.apply(namespace())
        await world.settle()
        assert DEPLOYMENT not in world.cluster.objects
        assert world.condition("SmtpProfile", "orders")[1] == "NotApplied"

    delivering(test)


def test_workers_of_a_profile_whose_deletion_is_blocked_end() -> None:
    async def test(world: OperatorHarness) -> None:
        ending = {"deletionTimestamp": "2026-01-05T09:30:00Z", "finalizers": ["larkfield.example/hold"]}
        world.apply(changed(world.cluster.objects[PROFILE], **ending))
        await world.settle()
        world.apply(namespace())
        await world.settle()
        assert DEPLOYMENT not in world.cluster.objects

    delivering(test)


@pytest.mark.parametrize("anew", [False, True], ids=["by the same operator", "by the next one"])
def test_workers_that_outlive_their_profile_end(anew: bool) -> None:
    """As `kubectl delete --cascade=orphan` leaves them."""

    async def test(world: OperatorHarness) -> None:
        world.cluster.remove(PROFILE)
        world.apply(changed(world.cluster.objects[DEPLOYMENT], ownerReferences=[]))
        await world.settle()
        assert DEPLOYMENT in world.cluster.objects, "they stay as they were"
        world.apply(namespace())
        if anew:
            await world.restart()
        await world.settle()
        assert DEPLOYMENT not in world.cluster.objects

    delivering(test)


@pytest.mark.parametrize("how", ["otherwise", "elsewhere", "twice", "nothing", "unlabelled"])
def test_workers_of_an_invalid_profile_that_may_deliver_end(how: str) -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(profile(**RELAY, **FAULTY))
        await world.settle()
        found = copy.deepcopy(world.cluster.objects[DEPLOYMENT])
        (container,) = found["spec"]["template"]["spec"]["containers"]
        others = [each for each in container["env"] if each["name"] != TOLD["name"]]
        source = {"configMapKeyRef": {"name": "mine", "key": "yes"}}
        told: dict[str, list[Any]] = {
            "otherwise": [{**TOLD, "value": "1"}],
            "elsewhere": [{"name": TOLD["name"], "valueFrom": source}],
            "twice": [{**TOLD, "value": "false"}, TOLD],
            "nothing": [],  # and by `envFrom`
            "unlabelled": [TOLD],
        }
        container["env"] = [*others, *told[how]]
        if how == "unlabelled":
            found["metadata"]["labels"] = {}
        world.apply(found)
        await world.settle()
        world.apply(namespace())
        await world.settle()
        assert DEPLOYMENT not in world.cluster.objects

    delivering(test)


def test_a_pod_that_may_deliver_ends_whatever_its_annotations_say() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(pod(world, **{"postroom.dev/effect": "Sandbox"}))
        world.apply(namespace())
        await world.settle()
        assert not may_deliver(workers(world))
        assert world.cluster.objects[DEPLOYMENT]["spec"]["strategy"]["type"] == "Recreate"
        assert world.condition("SmtpProfile", "orders")[1] == "Replacing"

    delivering(test)


def test_a_rollout_that_a_user_pauses_continues() -> None:
    async def test(world: OperatorHarness) -> None:
        found = copy.deepcopy(world.cluster.objects[DEPLOYMENT])
        world.apply({**found, "spec": {**found["spec"], "paused": True}})
        await world.settle()
        assert world.cluster.objects[DEPLOYMENT]["spec"]["paused"] is False

    delivering(test)


def test_the_guard_does_not_wait_for_validation() -> None:
    async def test(world: OperatorHarness) -> None:
        proving, proved = asyncio.Event(), asyncio.Event()
        prove = world.validator.validate

        async def slowly(*asked: Any, urgent: bool = False) -> Any:
            proving.set()
            await proved.wait()
            return await prove(*asked, urgent=urgent)

        world.validator.validate = slowly  # type: ignore[method-assign,assignment]
        world.apply(template("paid"))
        under_way = asyncio.create_task(reconcile(KEY, world.context))
        await proving.wait()
        world.apply(namespace())
        await enforce(guard_key(KEY), world.context)
        assert not may_deliver(workers(world)), "the guard"
        proved.set()
        await under_way
        assert not may_deliver(workers(world)), "the reconcile that began while the label was there"

    delivering(test)


def test_the_guard_writes_nothing_without_a_violation() -> None:
    async def test(world: OperatorHarness) -> None:
        world.apply(namespace())
        await world.settle()
        before = len(world.cluster.writes)
        await enforce(guard_key(KEY), world.context)
        assert len(world.cluster.writes) == before
        assert await world.settle() == []

    delivering(test)
