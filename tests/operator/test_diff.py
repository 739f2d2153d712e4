"""The plan: at rest it is empty, every edit of an owned field is reverted, and only owned objects are
deleted."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom_operator import names
from postroom_operator.diff import Plan, diff, matches, needs_apply, quantity, stale_pods, with_hash
from postroom_operator.models import Manifest, ref_of
from tests.operator.golden_profiles import UID, applied, golden

ALL = [json.loads(json.dumps(each)) for each in golden()]
DISTINCT = list({json.dumps(each, sort_keys=True): each for each in ALL}.values())
Path = tuple[str | int, ...]


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name'][:30]}"


def only(kind: str) -> Manifest:
    return next(each for each in DISTINCT if each["kind"] == kind)


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    empty = True
    for key, each in inner:
        empty = False
        yield from leaves(each, (*path, key))
    if empty and path:
        yield path


def edited(manifest: Manifest, path: Path, *, remove: bool) -> Manifest:
    """A changed copy that shares the parts that are not on the path."""
    found = copy.copy(manifest)
    place: Any = found
    for step in path[:-1]:
        place[step] = copy.copy(place[step])
        place = place[step]
    if remove:
        del place[path[-1]]
    else:
        old = place[path[-1]]
        place[path[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}x"
    return found


@pytest.mark.parametrize("manifest", DISTINCT, ids=named)
def test_what_was_applied_is_not_applied_again(manifest: Manifest) -> None:
    assert diff([manifest], [applied(with_hash(manifest))], UID) == Plan()


@pytest.mark.parametrize("manifest", DISTINCT, ids=named)
@pytest.mark.parametrize("remove", [False, True], ids=["changed", "removed"])
def test_every_owned_field_is_restored_after_an_edit(manifest: Manifest, remove: bool) -> None:
    wanted = with_hash(manifest)
    found = applied(wanted)
    paths = [path for path in leaves(wanted) if path not in IDENTITY | (SAME_AS_FALSE if remove else set())]
    missed = [path for path in paths if not needs_apply(wanted, edited(found, path, remove=remove))]
    assert missed == []
    assert len(paths) > 10


SAME_AS_FALSE: set[Path] = {("spec", "paused")}
IDENTITY: set[Path] = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


@pytest.mark.parametrize("manifest", DISTINCT, ids=named)
def test_a_changed_desired_state_is_applied_even_if_it_only_drops_a_field(manifest: Manifest) -> None:
    more = copy.deepcopy(manifest)
    more["metadata"]["labels"]["postroom.dev/former"] = "x"
    assert diff([manifest], [applied(with_hash(more))], UID).apply == (with_hash(manifest),)


def with_additions(value: Any, chance: Random, within: str = "") -> Any:
    """Anything that a server or another manager may add: keys, and elements of keyed lists, in any order."""
    if "elector" in within:  # an atomic value: nothing may be added
        return value
    if isinstance(value, dict):
        whole = {key: with_additions(each, chance, key) for key, each in value.items()}
        return whole | ({"zAdded": chance.choice([0, "", "x", {}, []])} if chance.random() < 0.3 else {})
    if isinstance(value, list) and within in {"containers", "env", "volumes", "volumeMounts"}:
        key = "mountPath" if within == "volumeMounts" else "name"
        more = [with_additions(each, chance) for each in value] + [{key: "added-by-another"}]
        return chance.sample(more, len(more))
    return value


@given(manifest=st.sampled_from(DISTINCT), chance=st.randoms(use_true_random=False))
def test_fields_that_other_clients_add_are_left_alone(manifest: Manifest, chance: Random) -> None:
    assert not needs_apply(with_hash(manifest), with_additions(with_hash(manifest), chance))


def test_an_added_rule_of_a_network_policy_is_removed() -> None:
    stamped = with_hash(only("NetworkPolicy"))
    found = applied(stamped)
    found["spec"]["egress"].append({})
    assert needs_apply(stamped, found)
    widened = applied(stamped)
    widened["spec"]["egress"][0]["ports"][0]["endPort"] = 65535
    assert needs_apply(stamped, widened)


def test_a_label_that_a_user_adds_to_a_selector_is_removed() -> None:
    for kind, field in (("Service", "selector"), ("NetworkPolicy", "podSelector")):
        stamped = with_hash(only(kind))
        found = applied(stamped)
        found["spec"][field]["app"] = "evil"
        assert needs_apply(stamped, found)


def test_missing_objects_are_applied_and_unwanted_ones_deleted() -> None:
    deployment, policy = only("Deployment"), only("NetworkPolicy")
    budget = applied(only("PodDisruptionBudget"))
    plan = diff([deployment, policy], [applied(with_hash(policy)), budget], UID)
    assert plan.apply == (with_hash(deployment),)
    assert plan.delete == ((ref_of(budget), budget["metadata"]["uid"]),)


def without_label(found: Manifest) -> Manifest:
    del found["metadata"]["labels"][names.MANAGED_BY]
    return found


def of_another_profile(found: Manifest) -> Manifest:
    found["metadata"]["ownerReferences"][0]["uid"] = "another"
    return found


def uncontrolled(found: Manifest) -> Manifest:
    del found["metadata"]["ownerReferences"][0]["controller"]
    return found


def going(found: Manifest) -> Manifest:
    found["metadata"]["deletionTimestamp"] = "2026-11-25T16:00:00Z"
    return found


@pytest.mark.parametrize("changed", [without_label, of_another_profile, uncontrolled, going])
def test_only_objects_with_the_operators_label_and_owner_are_deleted(changed: Any) -> None:
    assert diff([], [changed(applied(only("PodDisruptionBudget")))], UID) == Plan()


def test_the_sandbox_is_deleted_with_its_last_profile() -> None:
    service = applied(only("Service"))
    assert diff([], [service], None).delete == ((ref_of(service), service["metadata"]["uid"]),)
    service["metadata"]["ownerReferences"].append({"apiVersion": "v1", "kind": "Node", "uid": "n"})
    assert diff([], [service], None).delete == ()


def test_an_object_of_another_owner_is_neither_taken_over_nor_deleted() -> None:
    deployment = only("Deployment")
    theirs = applied(deployment)
    theirs["metadata"] |= {"labels": {"app": "theirs"}, "ownerReferences": []}
    assert diff([deployment], [theirs], UID) == Plan(foreign=(ref_of(deployment),))


def test_a_child_whose_label_was_removed_gets_it_back() -> None:
    deployment = only("Deployment")
    found = without_label(applied(with_hash(deployment)))
    assert diff([deployment], [found], UID).apply == (with_hash(deployment),)


def autoscaled() -> Manifest:
    return next(e for e in DISTINCT if e["kind"] == "Deployment" and "replicas" not in e["spec"])


def owned(replicas: int) -> Manifest:
    before = copy.deepcopy(autoscaled())
    before["spec"]["replicas"] = replicas
    return applied(with_hash(before))


def test_replicas_are_written_through_scale_before_they_are_left_to_an_autoscaler() -> None:
    plan = diff([autoscaled()], [owned(3)], UID)
    assert plan.scale == ((ref_of(autoscaled()), 3),)
    assert plan.apply == (with_hash(autoscaled()),)


def test_replicas_of_another_owner_are_not_scaled_again() -> None:
    found = owned(3)
    found["metadata"]["managedFields"] = [
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
    ]
    assert diff([autoscaled()], [found], UID).scale == ()


def test_an_autoscalers_number_of_workers_is_left_alone() -> None:
    found = applied(with_hash(autoscaled()))
    found["spec"]["replicas"] = 7
    assert diff([autoscaled()], [found], UID) == Plan()


def pod(name: str, bundle: str | None = None, **more: Any) -> Manifest:
    annotations = {names.BUNDLE_HASH: bundle} if bundle else {}
    metadata = {"name": name, "namespace": "shop", "annotations": annotations, **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}}


def test_running_pods_are_annotated_once_for_a_new_bundle() -> None:
    done = pod("e") | {"status": {"phase": "Succeeded"}}
    pods = [pod("a", "new"), pod("b", "old"), pod("c"), pod("d", "old", deletionTimestamp="t"), done]
    assert [ref.name for ref in stale_pods(pods, "new")] == ["b", "c"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("500m", 0.5),
        ("1024Mi", "1Gi"),
        ("1", 1),
        ("1000m", "1"),
        ("1e3", "1k"),
        ("0.5Gi", "512Mi"),
        ("1E", "1e18"),
    ],
)
def test_a_quantity_may_be_written_in_many_ways(one: Any, other: Any) -> None:
    assert quantity(one) == quantity(other) is not None
    assert matches({"limits": {"x": one}}, {"limits": {"x": other}})
    assert not matches({"limits": {"x": one}}, {"limits": {"x": "7"}})


def test_a_text_that_is_no_quantity_equals_only_itself() -> None:
    assert quantity("lots") is None
    assert matches({"limits": {"x": "lots"}}, {"limits": {"x": "lots"}})
    assert not matches({"limits": {"x": "lots"}}, {"limits": {"x": "more"}})
