"""The difference between the desired and the observed objects: (desired, observed) → `Plan`. Pure.

An object is applied when it does not exist, when its desired state has changed since the last apply (the hash
in its annotation notices fields that are no longer desired), or when a field that the operator owns has
another value than desired (an edit). All other fields belong to the API server or to other clients. An object
with the operator's label and the same owner that is no longer desired is deleted. At rest a plan is empty.

`matches` decides whether an object has every desired field. Ignored is what the server or other clients
added: keys of a map, and elements of a list whose elements have a key (containers, volumes, …; the server
merges those by key). Any other list is one value, as it is for server-side apply, and so is a selector: both
have to be equal. `500m` and `0.5` are the same quantity.
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
    """The steps, in this order; each can be repeated."""

    scale: tuple[tuple[Ref, int], ...] = ()
    """Deployments whose number of workers an autoscaler takes over, and their number now.

    The number is written through `/scale` first, because dropping a field with a single owner resets it.
    """
    apply: tuple[Manifest, ...] = ()
    new: frozenset[Ref] = frozenset()
    """The objects of `apply` that do not exist yet."""
    delete: tuple[tuple[Ref, str], ...] = ()
    """With the uid of the observed object: a later object of the same name is left alone."""
    foreign: tuple[Ref, ...] = ()
    """Desired objects whose name belongs to an object of another owner: never taken over, never deleted."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.scale or self.apply or self.delete)


def diff(desired: Iterable[Manifest], observed: Iterable[Manifest], owner: str | None = None) -> Plan:
    """Compare the desired objects with the observed ones.

    `owner` is the profile's uid; None: the objects belong to several profiles (sandbox, bounce server).
    """
    found = {ref_of(manifest): manifest for manifest in observed}
    wanted = {ref_of(manifest): manifest for manifest in desired}
    foreign = tuple(ref for ref in wanted if ref in found and not is_managed(found[ref]))
    changed = [
        (ref, stamped)
        for ref, manifest in wanted.items()
        if ref not in foreign and needs_apply(stamped := with_hash(manifest), found.get(ref))
    ]
    unwanted = (
        (ref, manifest)
        for ref, manifest in found.items()
        if ref not in wanted and _may_delete(manifest, owner)
    )
    return Plan(
        scale=tuple(
            (ref, found[ref]["spec"]["replicas"])
            for ref, stamped in changed
            if ref in found and _releases_replicas(stamped, found[ref])
        ),
        apply=tuple(stamped for _, stamped in changed),
        new=frozenset(ref for ref, _ in changed if ref not in found),
        delete=tuple((ref, manifest["metadata"]["uid"]) for ref, manifest in unwanted),
        foreign=foreign,
    )


def with_hash(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as an annotation."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.DESIRED_HASH: names.digest(text, 16)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def needs_apply(stamped: Manifest, found: Manifest | None) -> bool:
    """Whether a manifest with its hash has to be applied.

    When this is true right after an apply, the server dropped a field.
    """
    return found is None or not matches(stamped, found)


def stale_pods(pods: Iterable[Manifest], bundle: str) -> tuple[Ref, ...]:
    """The running pods whose annotation does not have the hash `bundle` yet."""
    return tuple(
        ref_of(pod)
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and not has_ended(pod)
        and pod["metadata"].get("annotations", {}).get(names.BUNDLE_HASH) != bundle
    )


def other_effect_runs(pods: Iterable[Manifest], effect: str) -> bool:
    """Whether a pod, possibly a terminating one, treats events differently (see `names.EFFECT`)."""
    return any(
        pod["metadata"].get("annotations", {}).get(names.EFFECT, effect) != effect
        for pod in pods
        if not has_ended(pod)
    )


def is_managed(found: Manifest) -> bool:
    """Whether the operator created the object: by its label, hash or owner, of which an edit may remove
    any.
    """
    metadata = found["metadata"]
    return (
        metadata.get("labels", {}).get(names.MANAGED_BY) == names.OPERATOR
        or names.DESIRED_HASH in metadata.get("annotations", {})
        or any(True for _ in _profile_references(metadata))
    )


def _may_delete(found: Manifest, owner: str | None) -> bool:
    metadata = found["metadata"]
    if metadata.get("labels", {}).get(names.MANAGED_BY) != names.OPERATOR or "deletionTimestamp" in metadata:
        return False
    owners = metadata.get("ownerReferences", [])
    if owner is None:
        return len(list(_profile_references(metadata))) == len(owners)
    return any(reference.get("controller") and reference["uid"] == owner for reference in owners)


def _profile_references(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for reference in metadata.get("ownerReferences", []):
        if (reference.get("apiVersion"), reference.get("kind")) == (API_VERSION, "SmtpProfile"):
            yield reference


def _releases_replicas(stamped: Manifest, found: Manifest) -> bool:
    if stamped["kind"] != "Deployment" or "replicas" in stamped["spec"]:
        return False
    if found["spec"].get("replicas") is None:
        return False
    managers = found["metadata"].get("managedFields")
    if managers is None:  # a store may drop this list to save memory
        return True
    return any(
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in managers
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
"""`x-kubernetes-list-map-keys` of the lists that the operator writes, by the field's name."""
_PORT_KEYS = (("containerPort", "protocol"), ("targetPort", "port", "protocol"))
"""Ports are keyed in containers and Services; in NetworkPolicies they are part of one value."""
_ATOMIC = frozenset({"labelSelector", "matchLabels", "nodeSelector", "podSelector", "selector"})
"""Maps that are one value (`mapType: atomic`): with a label more a Service selects nothing."""
_OMITTED_IF_FALSE = frozenset({"paused"})
"""Fields that the server omits when they are false."""
_QUANTITIES = frozenset({"limits", "requests"})
_SUFFIXES = {suffix: Decimal(10) ** power for suffix, power in zip("num", (-9, -6, -3), strict=True)} | {
    "": Decimal(1),
    **{sign: Decimal(10) ** (3 * n) for n, sign in enumerate("kMGTPE", 1)},
    **{f"{sign}i": Decimal(1024) ** n for n, sign in enumerate("KMGTPE", 1)},
}


def matches(wanted: Any, found: Any, field: str = "") -> bool:
    """Whether `found` has every leaf of `wanted`; `field` is the name of the field that holds both."""
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
    if field in _OMITTED_IF_FALSE and found is None:
        return wanted is False
    return type(wanted) is type(found) and bool(wanted == found)


def without_empty(value: Any) -> Any:
    """The value without the members that the server omits when they are empty."""
    if isinstance(value, dict):
        return {
            key: without_empty(member)
            for key, member in value.items()
            if member not in (None, "", []) and not (key == "matchLabels" and member == {})
        }
    return [without_empty(element) for element in value] if isinstance(value, list) else value


def quantity(value: Any) -> Decimal | None:
    """A Kubernetes quantity as a number (`1Gi` is 1073741824), or None."""
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
    return next((keys for keys in _PORT_KEYS if all(keys[0] in element for element in wanted)), None)


def _elements_match(wanted: list[Any], found: list[Any], keys: tuple[str, ...]) -> bool:
    by_key = {tuple(element.get(key) for key in keys): element for element in found}
    return all(matches(element, by_key.get(tuple(element.get(key) for key in keys))) for element in wanted)
