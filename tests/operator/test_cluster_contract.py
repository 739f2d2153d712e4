"""The contract of models.Cluster: the fake and a real API server behave the same."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import Configuration

from postroom_operator.kubernetes import ApiCredentials, KubernetesCluster
from postroom_operator.lease import Lease
from postroom_operator.models import (
    Cluster,
    Conflict,
    Invalid,
    Manifest,
    NotFound,
    Ref,
    ResourceKind,
    ref_of,
    version_of,
)
from tests.operator.fake_cluster import FakeCluster
from tests.operator.operator_harness import template

Opened = AbstractAsyncContextManager[Cluster]
Test = Callable[[Cluster, str], Awaitable[None]]
Run = Callable[[Test], None]


def connect(kubeconfig: str) -> KubernetesCluster:
    configuration = Configuration()
    config.load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    return KubernetesCluster(ApiCredentials(configuration), lambda *_: None, lambda: 0.5)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.apiserver)])
def run(request: pytest.FixtureRequest) -> Run:
    if request.param == "real":
        place = request.getfixturevalue("namespace")
        kubeconfig = str(request.getfixturevalue("cluster").kubeconfig)
    else:
        place, kubeconfig = "shop", ""

    async def begin(test: Test) -> None:
        opened: Opened = connect(kubeconfig) if kubeconfig else nullcontext(FakeCluster())
        async with opened as cluster:
            await test(cluster, place)

    return lambda test: asyncio.run(begin(test))


def config_map(namespace: str, name: str = "made", **data: str) -> Manifest:
    labels = {"app.kubernetes.io/managed-by": "postroom-operator"}
    metadata = {"namespace": namespace, "name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def own(namespace: str) -> Manifest:
    made = template()
    return {**made, "metadata": {**made["metadata"], "namespace": namespace}}


def test_an_applied_object_exists_and_applying_it_again_changes_nothing(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        assert await cluster.read(ref_of(config_map(namespace))) is None
        first = await cluster.apply(config_map(namespace, a="1"))
        again = await cluster.apply(config_map(namespace, a="1"))
        assert version_of(again) == version_of(first) > 0
        found = await cluster.read(ref_of(first))
        assert found is not None
        assert found["data"] == {"a": "1"}
        assert found["metadata"]["uid"] == first["metadata"]["uid"]

    run(test)


def test_a_field_that_is_no_longer_applied_is_removed_and_another_owners_field_stays(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        await cluster.apply(config_map(namespace, a="1", b="2"))
        found = await cluster.read(ref_of(config_map(namespace)))
        assert found is not None
        theirs = copy.deepcopy(found)
        theirs["data"]["theirs"] = "3"
        await cluster.replace(theirs)
        now = await cluster.apply(config_map(namespace, a="1"))
        assert now["data"] == {"a": "1", "theirs": "3"}

    run(test)


def test_a_listing_has_what_the_labels_select_and_its_moment(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        await cluster.apply(config_map(namespace, "one"))
        other = config_map(namespace, "other")
        del other["metadata"]["labels"]
        last = await cluster.apply(other)
        kind = ResourceKind("v1", "ConfigMap")
        ours = await cluster.read_all(kind, namespace, "app.kubernetes.io/managed-by=postroom-operator")
        assert [ref_of(each) for each in ours.items] == [Ref("v1", "ConfigMap", namespace, "one")]
        every = {each["metadata"]["name"] for each in (await cluster.read_all(kind, namespace)).items}
        assert {"one", "other"} <= every
        assert ours.version >= version_of(last)

    run(test)


def test_only_the_very_object_that_was_seen_is_deleted(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        made = await cluster.apply(config_map(namespace))
        ref = ref_of(made)
        await cluster.delete(ref, "00000000-0000-0000-0000-000000000000")
        assert await cluster.read(ref) is not None
        await cluster.delete(ref, made["metadata"]["uid"])
        assert await cluster.read(ref) is None
        await cluster.delete(ref, made["metadata"]["uid"])

    run(test)


def test_a_status_is_replaced_as_a_whole_and_keeps_the_generation(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        made = await cluster.apply(own(namespace))
        problem = {"code": "template_syntax", "field": "spec.html", "message": "no"}
        before = await cluster.write_status(made, {"observedGeneration": 1, "problems": [problem]})
        now = await cluster.write_status(before, {"observedGeneration": 1, "revision": "abc"})
        assert now["status"] == {"observedGeneration": 1, "revision": "abc"}
        assert now["metadata"]["generation"] == made["metadata"]["generation"] == 1
        again = await cluster.write_status(now, {"observedGeneration": 1, "revision": "abc"})
        assert version_of(again) == version_of(now)

    run(test)


def test_a_status_of_another_version_is_a_conflict_and_of_a_deleted_object_not_found(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        made = await cluster.apply(own(namespace))
        now = await cluster.write_status(made, {"revision": "abc"})
        with pytest.raises(Conflict):
            await cluster.write_status(made, {"revision": "abd"})
        await cluster.delete(ref_of(made), made["metadata"]["uid"])
        with pytest.raises(NotFound):
            await cluster.write_status(now, {"revision": "abd"})

    run(test)


def test_annotations_are_set_and_removed_and_a_deleted_object_is_ignored(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        made = await cluster.apply(config_map(namespace))
        await cluster.annotate(ref_of(made), {"a": "1", "b": "2"})
        await cluster.annotate(ref_of(made), {"b": None})
        found = await cluster.read(ref_of(made))
        assert found is not None
        assert found["metadata"]["annotations"] == {"a": "1"}
        await cluster.annotate(Ref("v1", "ConfigMap", namespace, "absent"), {"a": "1"})

    run(test)


def deployment(namespace: str, **spec: Any) -> Manifest:
    labels = {"app": "made"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "one", "image": "none"}]}}
    whole = {"selector": {"matchLabels": labels}, "template": pod, **spec}
    metadata = {"namespace": namespace, "name": "made"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole}


def test_replicas_that_are_handed_over_through_scale_stay_when_they_are_not_applied_any_more(
    run: Run,
) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        made = await cluster.apply(deployment(namespace, replicas=3))
        await cluster.scale(ref_of(made), 3)
        now = await cluster.apply(deployment(namespace))
        assert now["spec"]["replicas"] == 3

    run(test)


def test_creating_an_existing_object_and_a_stale_replace_are_conflicts(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        made = await cluster.create(config_map(namespace))
        with pytest.raises(Conflict):
            await cluster.create(config_map(namespace))
        await cluster.replace({**made, "data": {"a": "1"}})
        with pytest.raises(Conflict):
            await cluster.replace({**made, "data": {"a": "2"}})

    run(test)


def test_a_kind_that_is_not_installed_is_not_served(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        assert not await cluster.serves(ResourceKind("keda.sh/v1alpha1", "ScaledObject"))

    run(test)


class Now:
    def now(self) -> Any:
        from datetime import UTC, datetime

        return datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return 1000.0


def test_a_lease_is_acquired_renewed_and_released(run: Run) -> None:
    async def test(cluster: Cluster, namespace: str) -> None:
        ref = Ref("coordination.k8s.io/v1", "Lease", namespace, "postroom-operator")
        lease = Lease(cluster, ref, "one", Now())
        await lease.acquire(lambda _: None)
        await lease._try()
        found = await cluster.read(ref)
        assert found is not None
        assert found["spec"]["holderIdentity"] == "one"
        await lease.release()
        await Lease(cluster, ref, "two", Now()).acquire(lambda _: None)

    run(test)


@pytest.mark.apiserver
def test_an_invalid_or_forbidden_object_is_rejected_with_the_servers_message(
    cluster: Any, namespace: str
) -> None:
    async def test() -> None:
        async with connect(str(cluster.kubeconfig)) as real:
            with pytest.raises(Invalid, match=r"spec\.eventTypes"):
                await real.apply({**own(namespace), "spec": {**own(namespace)["spec"], "eventTypes": []}})
        account = cluster.account(namespace, "absent")
        async with connect(str(account.kubeconfig)) as real:
            with pytest.raises(Invalid, match="forbidden"):
                await real.apply(config_map(namespace))

    asyncio.run(test())
