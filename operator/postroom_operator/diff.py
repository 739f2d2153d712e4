"""What must change in the cluster: (desired, observed) → Plan. It says, and does nothing.

An object is applied when it is not there, when what we want of it has changed since we applied it last (the
hash in its annotation: fields that we stopped wanting have to go), or when a field of ours is no longer as
we want it (somebody's edit). Everything else about it is the server's or somebody else's. What carries our
label and belongs to the same owner, and is not wanted any more, is deleted. At rest a plan is empty.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from postroom_operator import names
from postroom_operator.cluster import API_VERSION, FIELD_MANAGER, Manifest, Ref, has_ended, ref_of
from postroom_operator.matching import holds


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
    foreign = tuple(ref for ref in wanted if ref in found and not is_ours(found[ref]))
    changed = [
        (ref, stamped)
        for ref, each in wanted.items()
        if ref not in foreign and differs(stamped := stamp(each), found.get(ref))
    ]
    gone = ((ref, each) for ref, each in found.items() if ref not in wanted and _may_go(each, owner))
    return Plan(
        scale=tuple(
            (ref, found[ref]["spec"]["replicas"])
            for ref, stamped in changed
            if ref in found and _lets_go_of_replicas(stamped, found[ref])
        ),
        apply=tuple(stamped for _, stamped in changed),
        new=frozenset(ref for ref, _ in changed if ref not in found),
        delete=tuple((ref, each["metadata"]["uid"]) for ref, each in gone),
        foreign=foreign,
    )


def stamp(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as an annotation."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.DESIRED_HASH: names.digest(text, 16)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def differs(stamped: Manifest, found: Manifest | None) -> bool:
    """Whether a stamped manifest has to be applied. True right after an apply: the server dropped a field."""
    return found is None or not holds(stamped, found)


def stale_pods(pods: Iterable[Manifest], bundle: str) -> tuple[Ref, ...]:
    """The living pods that were not told yet that their bundle has the hash `bundle`."""
    return tuple(
        ref_of(pod)
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and not has_ended(pod)
        and pod["metadata"].get("annotations", {}).get(names.BUNDLE_HASH) != bundle
    )


def any_other(pods: Iterable[Manifest], effect: str) -> bool:
    """Whether some pod does something else with events; one that is ending as well.

    One that does not say what it does is of a release before this was said; it is replaced as ever.
    """
    return any(
        pod["metadata"].get("annotations", {}).get(names.EFFECT, effect) != effect
        for pod in pods
        if not has_ended(pod)
    )


def is_ours(found: Manifest) -> bool:
    """Whether we made it: its label, its hash or its owner says so; any one can be lost to an edit."""
    metadata = found["metadata"]
    return (
        metadata.get("labels", {}).get(names.MANAGED_BY) == names.OPERATOR
        or names.DESIRED_HASH in metadata.get("annotations", {})
        or any(True for _ in _profiles(metadata))
    )


def _may_go(found: Manifest, owner: str | None) -> bool:
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


def _lets_go_of_replicas(stamped: Manifest, found: Manifest) -> bool:
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
