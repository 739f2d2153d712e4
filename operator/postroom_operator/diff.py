"""What must change in the cluster: (desired, observed) → Plan. It says, and does nothing.

An object is applied when it is not there, when what we want of it has changed since we applied it last (the
hash in its annotation: fields that we stopped wanting have to go), or when a field of ours is no longer as
we want it (somebody's edit). Everything else about it is the server's or somebody else's. What carries our
label and belongs to the same owner, and is not wanted any more, is deleted. At rest a plan is empty.

Whether an object of the cluster holds all that we want of it: (wanted, found) → bool.

What the server or others added is overlooked: keys of a map, and elements of a list whose elements have an
identity (containers, volumes, …; the server merges those by key). Any other list is one value, as it is for
server-side apply, and so is a selector: both have to be equal. `500m` and `0.5` are the same quantity.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from postroom_operator import names
from postroom_operator.models import API_VERSION, FIELD_MANAGER, Manifest, Ref, has_ended, ref_of


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order; every step may be done again."""

    scale: tuple[tuple[Ref, int], ...] = ()
    """Deployments whose number of workers we are about to leave to an autoscaler, and their number now.

    It has to be written through `/scale` first: to drop a field of which we are the only owner resets it.
    """
    apply: tuple[Manifest, ...] = ()
    new: frozenset[Ref] = frozenset()
    """What of it is not there at all yet."""
    delete: tuple[tuple[Ref, str], ...] = ()
    """With the uid of the object that was seen: another of that name is left alone."""
    foreign: tuple[Ref, ...] = ()
    """What we want and somebody else has made under that name: never taken over, never deleted."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.scale or self.apply or self.delete)


def diff(desired: Iterable[Manifest], observed: Iterable[Manifest], owner: str | None = None) -> Plan:
    """Compare what should be there with what is.

    `owner` is the profile's uid; None: the objects belong to several profiles (sandbox, bounce intake).
    """
    found = {ref_of(each): each for each in observed}
    wanted = {ref_of(each): each for each in desired}
    foreign = tuple(ref for ref in wanted if ref in found and not is_managed(found[ref]))
    changed = [
        (ref, stamped)
        for ref, each in wanted.items()
        if ref not in foreign and needs_apply(stamped := with_hash(each), found.get(ref))
    ]
    gone = ((ref, each) for ref, each in found.items() if ref not in wanted and _may_delete(each, owner))
    return Plan(
        scale=tuple(
            (ref, found[ref]["spec"]["replicas"])
            for ref, stamped in changed
            if ref in found and _releases_replicas(stamped, found[ref])
        ),
        apply=tuple(stamped for _, stamped in changed),
        new=frozenset(ref for ref, _ in changed if ref not in found),
        delete=tuple((ref, each["metadata"]["uid"]) for ref, each in gone),
        foreign=foreign,
    )


def with_hash(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as an annotation."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.DESIRED_HASH: names.digest(text, 16)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def needs_apply(stamped: Manifest, found: Manifest | None) -> bool:
    """Whether a stamped manifest has to be applied. True right after an apply: the server dropped a field."""
    return found is None or not matches(stamped, found)


def stale_pods(pods: Iterable[Manifest], bundle: str) -> tuple[Ref, ...]:
    """The living pods that were not told yet that their bundle has the hash `bundle`."""
    return tuple(
        ref_of(pod)
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and not has_ended(pod)
        and pod["metadata"].get("annotations", {}).get(names.BUNDLE_HASH) != bundle
    )


def other_effect_runs(pods: Iterable[Manifest], effect: str) -> bool:
    """Whether some pod does something else with events; one that is ending as well.

    One that does not say what it does is of a release before this was said; it is replaced as ever.
    """
    return any(
        pod["metadata"].get("annotations", {}).get(names.EFFECT, effect) != effect
        for pod in pods
        if not has_ended(pod)
    )


def is_managed(found: Manifest) -> bool:
    """Whether we made it: its label, its hash or its owner says so; any one can be lost to an edit."""
    metadata = found["metadata"]
    return (
        metadata.get("labels", {}).get(names.MANAGED_BY) == names.OPERATOR
        or names.DESIRED_HASH in metadata.get("annotations", {})
        or any(True for _ in _profiles(metadata))
    )


def _may_delete(found: Manifest, owner: str | None) -> bool:
    metadata = found["metadata"]
    if metadata.get("labels", {}).get(names.MANAGED_BY) != names.OPERATOR or "deletionTimestamp" in metadata:
        return False
    owners = metadata.get("ownerReferences", [])
    if owner is None:
        return len(list(_profiles(metadata))) == len(owners)
    return any(each.get("controller") and each["uid"] == owner for each in owners)


def _profiles(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in metadata.get("ownerReferences", []):
        if (each.get("apiVersion"), each.get("kind")) == (API_VERSION, "SmtpProfile"):
            yield each


def _releases_replicas(stamped: Manifest, found: Manifest) -> bool:
    if stamped["kind"] != "Deployment" or "replicas" in stamped["spec"]:
        return False
    if found["spec"].get("replicas") is None:
        return False
    managers = found["metadata"].get("managedFields")
    if managers is None:  # whoever keeps objects in memory may have cut this off
        return True
    return any(
        each.get("manager") == FIELD_MANAGER
        and each.get("operation") == "Apply"
        and "f:replicas" in each.get("fieldsV1", {}).get("f:spec", {})
        for each in managers
    )


_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""`x-kubernetes-list-map-keys` of the lists that we write, by the field's name."""
_PORT_KEYS = (("containerPort", "protocol"), ("targetPort", "port", "protocol"))
"""Ports are keyed in containers and Services; in NetworkPolicies they are part of one value."""
_ATOMIC = frozenset({"labelSelector", "matchLabels", "nodeSelector", "podSelector", "selector"})
"""Maps that are one value (`mapType: atomic`): one label more, and a Service selects nothing."""
_LEFT_OUT = frozenset({"paused"})
"""Fields that the server leaves out when they are false."""
_QUANTITIES = frozenset({"limits", "requests"})
_SUFFIXES = {suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)} | {
    "": Decimal(1),
    **{sign: Decimal(10) ** (3 * n) for n, sign in enumerate("kMGTPE", 1)},
    **{f"{sign}i": Decimal(1024) ** n for n, sign in enumerate("KMGTPE", 1)},
}


def matches(wanted: Any, found: Any, field: str = "") -> bool:
    """Whether `found` has every leaf of `wanted`; `field` is the name of the field that both stand in."""
    if isinstance(wanted, dict) and field in _ATOMIC:
        return bool(without_empty(wanted) == without_empty(found))
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            _same_quantity(value, found.get(key))
            if field in _QUANTITIES or key == "sizeLimit"
            else matches(value, found.get(key), key)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return False
        keys = _keys(field, wanted)
        return _elements_match(wanted, found, keys) if keys else without_empty(wanted) == without_empty(found)
    if field in _LEFT_OUT and found is None:
        return wanted is False
    return type(wanted) is type(found) and bool(wanted == found)


def without_empty(value: Any) -> Any:
    """The value without what the server leaves out when it is empty."""
    if isinstance(value, dict):
        return {
            key: without_empty(each)
            for key, each in value.items()
            if each not in (None, "", []) and not (key == "matchLabels" and each == {})
        }
    return [without_empty(each) for each in value] if isinstance(value, list) else value


def quantity(value: Any) -> Decimal | None:
    """A quantity of Kubernetes as a number (`1Gi` is 1073741824), or None."""
    text = str(value).strip()
    digits = text.rstrip("numkKMGTPEi")
    try:
        return Decimal(digits) * _SUFFIXES[text[len(digits) :]]
    except (KeyError, InvalidOperation):
        pass
    try:
        return Decimal(text)  # with an exponent: 1E3
    except InvalidOperation:
        return None


def _same_quantity(wanted: Any, found: Any) -> bool:
    number = quantity(wanted)
    return matches(wanted, found) if number is None else number == quantity(found)


def _keys(field: str, wanted: list[Any]) -> tuple[str, ...] | None:
    if field != "ports":
        return _KEYS.get(field)
    return next((keys for keys in _PORT_KEYS if all(keys[0] in each for each in wanted)), None)


def _elements_match(wanted: list[Any], found: list[Any], keys: tuple[str, ...]) -> bool:
    there = {tuple(each.get(key) for key in keys): each for each in found}
    return all(matches(each, there.get(tuple(each.get(key) for key in keys))) for each in wanted)
