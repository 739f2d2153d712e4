"""The newest version of every object that was seen, and the keys that a change concerns.

Input: objects from watches, from listings, and from the answers to the operator's own writes. The
resourceVersion decides which of two versions is newer, so that the echo of a write wakes no key. Output: the
`ReconcileKey`s to put on the queue. `objects_of` finds the objects of a key without a search. This module
never calls the cluster.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from postroom.letter.problems import Code
from postroom_operator.models import (
    API_VERSION,
    CREATED_KINDS,
    KEDA_KINDS,
    Listing,
    Manifest,
    Ref,
    ResourceKind,
    ref_of,
    version_of,
)
from postroom_operator.names import COMPONENT, DELIVERY, MANAGED_BY, OPERATOR, PROFILE, label_value

CREATED = tuple(kind.kind for kind in (*CREATED_KINDS, *KEDA_KINDS))
"""The kinds of objects that the operator creates, and their pods."""


@dataclass(frozen=True, slots=True, order=True)
class ReconcileKey:
    """The unit of a reconcile: a profile with its templates, a layout, or what a namespace's profiles
    share.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def profile_key(namespace: str, name: str) -> ReconcileKey:
    """The key of a profile, existing or not, and of the templates that refer to it."""
    return ReconcileKey("SmtpProfile", namespace, name)


def layout_key(namespace: str, name: str) -> ReconcileKey:
    """The key of a layout."""
    return ReconcileKey("EmailLayout", namespace, name)


def sandbox_key(namespace: str) -> ReconcileKey:
    """The key of a namespace's sandbox and bounce server, which its profiles share."""
    return ReconcileKey("Sandbox", namespace, "")


class ObjectStore:
    """The newest version of every object, indexed by the keys that it belongs to.

    Besides keys to reconcile the index has places that only `objects_of` uses: `Workers` (what exists for a
    profile's workers), `Users` (the templates of a layout), `Named` (a namespace's profiles and layouts) and
    `Fallback` (the profiles that name a profile as their fallback).
    """

    def __init__(self) -> None:
        self._objects: dict[Ref, Manifest] = {}
        self._index: defaultdict[ReconcileKey, set[Ref]] = defaultdict(set)
        self._gone: dict[Ref, int] = {}
        """The version at which an object was deleted; a listing that began before may still contain it."""
        self._listed: dict[tuple[ResourceKind, str], int] = {}
        """The version at which each kind was listed last."""

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, ref: Ref) -> Manifest | None:
        """An object, or None where it was not seen."""
        return self._objects.get(ref)

    def objects_of(self, key: ReconcileKey, *kinds: str) -> Iterator[Manifest]:
        """The objects of these kinds that belong to a key."""
        for ref in sorted(self._index.get(key, ())):
            if ref.kind in kinds:
                yield self._objects[ref]

    def put(self, manifest: Manifest) -> set[ReconcileKey]:
        """Store an object and return the keys that it concerns; none where a newer version is known."""
        ref, version = ref_of(manifest), version_of(manifest)
        before = self._objects.get(ref)
        if version <= self._gone.get(ref, -1) or (before and version <= version_of(before)):
            return set()
        self._gone.pop(ref, None)
        self._forget(ref)
        self._objects[ref] = _sharing_spec(before, manifest) if before else manifest
        for key in _places(manifest):
            self._index[key].add(ref)
        return self._concerned(before, manifest)

    def drop(self, ref: Ref, version: int) -> set[ReconcileKey]:
        """Remove an object that was deleted at `version` and return the keys that this concerns."""
        before = self._objects.get(ref)
        if before and version_of(before) > version:
            return set()
        self._gone[ref] = version
        self._forget(ref)
        return self._concerned(before, None) if before else set()

    def replace(self, kind: ResourceKind, namespace: str, listing: Listing) -> set[ReconcileKey]:
        """Store a complete listing and return the keys that it concerns.

        An object that is not in the listing and is not newer was deleted. Versions grow, except where etcd
        was restored from a backup: everything known of the kind is then dropped first.
        """
        keys: set[ReconcileKey] = set()
        listed = {ref_of(manifest) for manifest in listing.items}
        rewound = listing.version < self._listed.get((kind, namespace), 0)
        self._listed[kind, namespace] = listing.version
        for ref in [*self._objects]:
            same_kind = (ref.api_version, ref.kind) == (kind.api_version, kind.kind)
            if same_kind and namespace in ("", ref.namespace) and (rewound or ref not in listed):
                keys |= self.drop(ref, version_of(self._objects[ref]) if rewound else listing.version)
        if rewound:
            self._gone.clear()
        for manifest in listing.items:
            keys |= self.put(manifest)
        return keys

    def forget_deletions(self) -> None:
        """Forget the recorded deletions, once every kind was listed after them."""
        self._gone.clear()

    def keys(self) -> set[ReconcileKey]:
        """Every key that has objects."""
        return {key for place in self._index if place.kind != "Users" for key in self._keys_at(place)}

    def urgent_keys(self) -> set[ReconcileKey]:
        """The keys of all objects that are urgent."""
        return {
            key
            for manifest in self.custom_resources()
            if is_urgent(manifest)
            for key in self._concerned(None, manifest)
        }

    def profiles(self, namespace: str) -> list[Manifest]:
        """A namespace's profiles, oldest first."""
        return sorted(self.objects_of(sandbox_key(namespace), "SmtpProfile"), key=age_order)

    def keys_of(self, ref: Ref) -> set[ReconcileKey]:
        """The keys that an object concerns."""
        manifest = self._objects.get(ref)
        return {key for place in _places(manifest) for key in self._keys_at(place)} if manifest else set()

    def keys_of_workers(self, namespace: str, label: str) -> set[ReconcileKey]:
        """The keys of the profiles whose workers have this label."""
        return {*self._keys_at(ReconcileKey("Workers", namespace, label))}

    def templates_using(self, layout: Manifest) -> list[Manifest]:
        """The templates that refer to a layout."""
        return [*self.objects_of(_users_of(layout), "EmailTemplate")]

    def profiles_and_layouts(self, namespace: str) -> Iterator[Manifest]:
        """The profiles and layouts of a namespace."""
        return self.objects_of(_named(namespace), "SmtpProfile", "EmailLayout")

    def worker_objects(self, namespace: str, profile: str) -> list[Manifest]:
        """The objects that exist for a profile's workers, including pods."""
        return [*self.objects_of(ReconcileKey("Workers", namespace, label_value(profile)), *CREATED)]

    def custom_resources(self) -> Iterator[Manifest]:
        """Every template, layout and profile."""
        return (manifest for ref, manifest in self._objects.items() if ref.api_version == API_VERSION)

    def pods(self) -> Iterator[Manifest]:
        """Every pod that the operator's workloads created."""
        return (manifest for ref, manifest in self._objects.items() if ref.kind == "Pod")

    def _forget(self, ref: Ref) -> None:
        before = self._objects.pop(ref, None)
        for key in _places(before) if before else ():
            self._index[key].discard(ref)
            if not self._index[key]:
                del self._index[key]

    def _concerned(self, before: Manifest | None, after: Manifest | None) -> set[ReconcileKey]:
        present = after or before
        assert present is not None
        if present["kind"] == "Namespace":
            changed = before is None or after is None or _relevant_part(before) != _relevant_part(after)
            return self._in_namespace(present["metadata"]["name"]) if changed else set()
        if present["kind"] == "Pod" and after is not None:
            return (
                set()
            )  # the Deployment's status changes as well; only the end of a pod is reported by itself
        places = {*(_places(before) if before else ()), *(_places(after) if after else ())}
        keys = {key for place in places for key in self._keys_at(place)}
        if present["kind"] == "EmailLayout":
            keys.update(key for template in self.templates_using(present) for key in _profile_of(template))
        if present["kind"] == "SmtpProfile":
            namespace, name = present["metadata"]["namespace"], present["metadata"]["name"]
            others = [*self.objects_of(_fallback_of(namespace, name), "SmtpProfile")]
            others += [profile for profile in self.profiles(namespace) if _has_topic_conflict(profile)]
            keys.update(profile_key(namespace, other["metadata"]["name"]) for other in others)
        return keys

    def _keys_at(self, place: ReconcileKey) -> Iterator[ReconcileKey]:
        """The keys to reconcile when an object at a place changes.

        Workers whose profile is gone are at `Workers` alone: the key is made from their label.
        """
        if place.kind == "Workers":
            names = [profile["metadata"]["name"] for profile in self.objects_of(place, "SmtpProfile")]
            yield from (profile_key(place.namespace, name) for name in names or [place.name])
        elif place.kind == "Users":
            yield layout_key(place.namespace, place.name)
        elif place.kind not in ("Named", "Fallback"):
            yield place

    def _in_namespace(self, namespace: str) -> set[ReconcileKey]:
        places = (place for place in self._index if (place.kind, place.namespace) == ("Workers", namespace))
        return {sandbox_key(namespace), *(key for place in places for key in self._keys_at(place))}


def is_urgent(manifest: Manifest) -> bool:
    """Whether a person waits for the reconcile: a custom resource was edited since its status was written.

    A Namespace is always urgent: it wakes keys only where its delivery label changed or its deletion began.
    """
    if manifest["apiVersion"] != API_VERSION:
        return bool(manifest["kind"] == "Namespace")
    observed = (manifest.get("status") or {}).get("observedGeneration")
    return bool(observed != manifest["metadata"].get("generation"))


def age_order(manifest: Manifest) -> tuple[str, str]:
    """A sort key from old to young: the oldest object has precedence."""
    metadata = manifest["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def _has_topic_conflict(profile: Manifest) -> bool:
    """Whether another profile had its topic at the last reconcile."""
    problems = (profile.get("status") or {}).get("problems") or ()
    return any(problem.get("code") == Code.TOPIC_CONFLICT for problem in problems)


def _sharing_spec(before: Manifest, manifest: Manifest) -> Manifest:
    """The newer version, with the older version's spec where both are equal, to save memory.

    The objects of one listing share strings; the answers to thousands of status writes would share nothing.
    """
    new, old = (
        (version["metadata"].get("uid"), version["metadata"].get("generation"))
        for version in (manifest, before)
    )
    return {**manifest, "spec": before["spec"]} if new == old and old[1] and "spec" in before else manifest


def _places(manifest: Manifest) -> list[ReconcileKey]:
    """The places of an object in the index."""
    metadata = manifest["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    if manifest["apiVersion"] != API_VERSION:
        return _places_of_created(namespace, metadata.get("labels") or {})
    match manifest["kind"]:
        case "SmtpProfile":
            workers = ReconcileKey("Workers", namespace, label_value(name))
            fallback = _reference(manifest, "fallbackRef")
            fallbacks = [_fallback_of(namespace, fallback)] if fallback else []
            return [
                profile_key(namespace, name),
                sandbox_key(namespace),
                workers,
                _named(namespace),
                *fallbacks,
            ]
        case "EmailLayout":
            return [layout_key(namespace, name), _named(namespace)]
        case _:
            layout = _reference(manifest, "layoutRef")
            return [*_profile_of(manifest), *([ReconcileKey("Users", namespace, layout)] if layout else ())]


def _named(namespace: str) -> ReconcileKey:
    """The profiles and layouts of a namespace, which templates refer to by name."""
    return ReconcileKey("Named", namespace, "")


def _fallback_of(namespace: str, name: str) -> ReconcileKey:
    """The profiles whose fallback is this profile."""
    return ReconcileKey("Fallback", namespace, name)


def _users_of(layout: Manifest) -> ReconcileKey:
    return ReconcileKey("Users", layout["metadata"]["namespace"], layout["metadata"]["name"])


def _places_of_created(namespace: str, labels: dict[str, str]) -> list[ReconcileKey]:
    if labels.get(MANAGED_BY) != OPERATOR:
        return []
    if labels.get(COMPONENT) in ("sandbox", "bounces") and PROFILE not in labels:
        return [sandbox_key(namespace)]
    return [ReconcileKey("Workers", namespace, labels[PROFILE])] if PROFILE in labels else []


def _profile_of(template: Manifest) -> list[ReconcileKey]:
    name = _reference(template, "smtpProfileRef")
    return [profile_key(template["metadata"]["namespace"], name)] if name else []


def _reference(manifest: Manifest, reference: str) -> str:
    """The name in a reference of a spec, or an empty text; the object may have any shape, valid or not."""
    spec: Any = manifest.get("spec")
    target = spec.get(reference) if isinstance(spec, dict) else None
    name = target.get("name") if isinstance(target, dict) else None
    return name if isinstance(name, str) else ""


def _relevant_part(namespace: Manifest) -> tuple[Any, bool]:
    """What the operator reads of a namespace: its delivery label and whether it is being deleted."""
    metadata = namespace["metadata"]
    return (metadata.get("labels") or {}).get(DELIVERY), "deletionTimestamp" in metadata
