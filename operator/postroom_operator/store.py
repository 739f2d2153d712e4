"""What was seen of the cluster: objects in, the newest of each kept, and which keys a change concerns.

Fed by watches, by listings, and by the answers to our own writes; the resourceVersion tells which of two is
newer, so that an echo of a write wakes nobody. `under` finds the objects that belong to a key without a
search. Nothing here asks the cluster.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from postroom.letter.problems import Code
from postroom_operator.models import API_VERSION, Listing, Manifest, Ref, ResourceKind, ref_of, version_of
from postroom_operator.names import COMPONENT, DELIVERY, MANAGED_BY, OPERATOR, PROFILE, label_value

MADE = (
    "ConfigMap",
    "Deployment",
    "NetworkPolicy",
    "Pod",
    "PodDisruptionBudget",
    "ScaledObject",
    "Service",
    "TriggerAuthentication",
)
"""What the operator makes, and what comes of it."""


@dataclass(frozen=True, slots=True, order=True)
class ReconcileKey:
    """What is reconciled as one: a profile with its templates, a layout, what is a namespace's own."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def profile_key(namespace: str, name: str) -> ReconcileKey:
    """A profile and the templates that refer to it, whether it is there or not."""
    return ReconcileKey("SmtpProfile", namespace, name)


def layout_key(namespace: str, name: str) -> ReconcileKey:
    """A layout by itself."""
    return ReconcileKey("EmailLayout", namespace, name)


def sandbox_key(namespace: str) -> ReconcileKey:
    """A namespace's sandbox and bounce intake, which its profiles share."""
    return ReconcileKey("Sandbox", namespace, "")


class ObjectStore:
    """The newest of every object seen."""

    def __init__(self) -> None:
        self._objects: dict[Ref, Manifest] = {}
        self._under: defaultdict[ReconcileKey, set[Ref]] = defaultdict(set)
        self._gone: dict[Ref, int] = {}
        """At which version an object was deleted; a listing begun before may still hold it."""
        self._listed: dict[tuple[ResourceKind, str], int] = {}
        """At which version each kind was listed last."""

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, ref: Ref) -> Manifest | None:
        """An object, or None."""
        return self._objects.get(ref)

    def objects_of(self, key: ReconcileKey, *kinds: str) -> Iterator[Manifest]:
        """The objects that belong to a key, of some kinds."""
        for ref in sorted(self._under.get(key, ())):
            if ref.kind in kinds:
                yield self._objects[ref]

    def put(self, manifest: Manifest) -> set[ReconcileKey]:
        """Take an object in; which keys it concerns, none when it is not newer."""
        ref, version = ref_of(manifest), version_of(manifest)
        before = self._objects.get(ref)
        if version <= self._gone.get(ref, -1) or (before and version <= version_of(before)):
            return set()
        self._gone.pop(ref, None)
        self._forget(ref)
        self._objects[ref] = _on(before, manifest) if before else manifest
        for key in _places(manifest):
            self._under[key].add(ref)
        return self._woken(before, manifest)

    def drop(self, ref: Ref, version: int) -> set[ReconcileKey]:
        """Take an object out that is gone since `version`; which keys that concerns."""
        before = self._objects.get(ref)
        if before and version_of(before) > version:
            return set()
        self._gone[ref] = version
        self._forget(ref)
        return self._woken(before, None) if before else set()

    def replace(self, kind: ResourceKind, namespace: str, listing: Listing) -> set[ReconcileKey]:
        """Take in a whole listing: what is not in it and is not newer is gone. Which keys that concerns.

        Versions grow, but for one case: the cluster's store was restored from a backup. What is known of the
        kind is of a time that never was then, and nothing of it counts.
        """
        woken: set[ReconcileKey] = set()
        there = {ref_of(manifest) for manifest in listing.items}
        rewound = listing.version < self._listed.get((kind, namespace), 0)
        self._listed[kind, namespace] = listing.version
        for ref in [*self._objects]:
            mine = (ref.api_version, ref.kind) == (kind.api_version, kind.kind)
            if mine and namespace in ("", ref.namespace) and (rewound or ref not in there):
                woken |= self.drop(ref, version_of(self._objects[ref]) if rewound else listing.version)
        if rewound:
            self._gone.clear()
        for manifest in listing.items:
            woken |= self.put(manifest)
        return woken

    def forget_deletions(self) -> None:
        """Forget deletions that every listing in use knows of."""
        self._gone.clear()

    def keys(self) -> set[ReconcileKey]:
        """Every key there is anything to do for."""
        return {key for place in self._under if place.kind != "Users" for key in self._served(place)}

    def urgent_keys(self) -> set[ReconcileKey]:
        """The keys that an object concerns which is news."""
        return {key for each in self.custom_resources() if is_urgent(each) for key in self._woken(None, each)}

    def profiles(self, namespace: str) -> list[Manifest]:
        """A namespace's profiles, oldest first."""
        return sorted(self.objects_of(sandbox_key(namespace), "SmtpProfile"), key=age_order)

    def keys_of(self, ref: Ref) -> set[ReconcileKey]:
        """The keys that an object concerns."""
        manifest = self._objects.get(ref)
        return {key for place in _places(manifest) for key in self._served(place)} if manifest else set()

    def keys_of_workers(self, namespace: str, label: str) -> set[ReconcileKey]:
        """The keys of the profile whose workers have this label."""
        return {*self._served(ReconcileKey("Workers", namespace, label))}

    def templates_using(self, layout: Manifest) -> list[Manifest]:
        """The templates that refer to a layout."""
        return [*self.objects_of(_users_of(layout), "EmailTemplate")]

    def profiles_and_layouts(self, namespace: str) -> Iterator[Manifest]:
        """The profiles and layouts of a namespace."""
        return self.objects_of(_named(namespace), "SmtpProfile", "EmailLayout")

    def worker_objects(self, namespace: str, profile: str) -> list[Manifest]:
        """What is there for a profile's workers, pods too."""
        return [*self.objects_of(ReconcileKey("Workers", namespace, label_value(profile)), *MADE)]

    def custom_resources(self) -> Iterator[Manifest]:
        """Every template, layout and profile."""
        return (each for ref, each in self._objects.items() if ref.api_version == API_VERSION)

    def pods(self) -> Iterator[Manifest]:
        """Every pod of ours."""
        return (each for ref, each in self._objects.items() if ref.kind == "Pod")

    def _forget(self, ref: Ref) -> None:
        before = self._objects.pop(ref, None)
        for key in _places(before) if before else ():
            self._under[key].discard(ref)
            if not self._under[key]:
                del self._under[key]

    def _woken(self, before: Manifest | None, after: Manifest | None) -> set[ReconcileKey]:
        either = after or before
        assert either is not None
        if either["kind"] == "Namespace":
            changed = before is None or after is None or _standing(before) != _standing(after)
            return self._in_namespace(either["metadata"]["name"]) if changed else set()
        if either["kind"] == "Pod" and after is not None:
            return set()  # its Deployment says as much; but nothing else says that it has ended at last
        places = {*(_places(before) if before else ()), *(_places(after) if after else ())}
        woken = {key for place in places for key in self._served(place)}
        if either["kind"] == "EmailLayout":
            woken.update(key for template in self.templates_using(either) for key in _profile_of(template))
        if either["kind"] == "SmtpProfile":
            home, name = either["metadata"]["namespace"], either["metadata"]["name"]
            others = [*self.objects_of(_fallback_of(home, name), "SmtpProfile")]
            others += [each for each in self.profiles(home) if _waits_for_a_topic(each)]
            woken.update(profile_key(home, each["metadata"]["name"]) for each in others)
        return woken

    def _served(self, place: ReconcileKey) -> Iterator[ReconcileKey]:
        """The keys to reconcile when something under a place changes; of workers that outlived theirs too."""
        if place.kind == "Workers":
            found = [each["metadata"]["name"] for each in self.objects_of(place, "SmtpProfile")]
            yield from (profile_key(place.namespace, name) for name in found or [place.name])
        elif place.kind == "Users":
            yield layout_key(place.namespace, place.name)
        elif place.kind not in ("Named", "Fallback"):
            yield place

    def _in_namespace(self, namespace: str) -> set[ReconcileKey]:
        mine = (each for each in self._under if (each.kind, each.namespace) == ("Workers", namespace))
        return {sandbox_key(namespace), *(key for each in mine for key in self._served(each))}


def is_urgent(manifest: Manifest) -> bool:
    """Whether somebody waits for us: an object of ours was made or edited since its status was written.

    Of a namespace only what changes where letters may go wakes anybody, and an administrator waits for it.
    """
    if manifest["apiVersion"] != API_VERSION:
        return bool(manifest["kind"] == "Namespace")
    observed = (manifest.get("status") or {}).get("observedGeneration")
    return bool(observed != manifest["metadata"].get("generation"))


def age_order(manifest: Manifest) -> tuple[str, str]:
    """What sorts objects from old to young: the one that came first counts."""
    metadata = manifest["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]


def _waits_for_a_topic(profile: Manifest) -> bool:
    """Whether another profile had its topic when it was looked at last."""
    problems = (profile.get("status") or {}).get("problems") or ()
    return any(each.get("code") == Code.TOPIC_CONFLICT for each in problems)


def _on(before: Manifest, manifest: Manifest) -> Manifest:
    """The newer of two, with the older one's spec where that is the same: it is most of what they weigh.

    The parts of one listing share their keys; the answers to thousands of status writes would share nothing.
    """
    new, old = (
        (each["metadata"].get("uid"), each["metadata"].get("generation")) for each in (manifest, before)
    )
    return {**manifest, "spec": before["spec"]} if new == old and old[1] and "spec" in before else manifest


def _places(manifest: Manifest) -> list[ReconcileKey]:
    """Where an object is found: the keys it belongs to, `Workers` of a profile, `Users` of a layout."""
    metadata = manifest["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    if manifest["apiVersion"] != API_VERSION:
        return _places_of_made(namespace, metadata.get("labels") or {})
    match manifest["kind"]:
        case "SmtpProfile":
            workers = ReconcileKey("Workers", namespace, label_value(name))
            other = _text(manifest, "fallbackRef")
            leans = [_fallback_of(namespace, other)] if other else []
            return [profile_key(namespace, name), sandbox_key(namespace), workers, _named(namespace), *leans]
        case "EmailLayout":
            return [layout_key(namespace, name), _named(namespace)]
        case _:
            page = _text(manifest, "layoutRef")
            return [*_profile_of(manifest), *([ReconcileKey("Users", namespace, page)] if page else ())]


def _named(namespace: str) -> ReconcileKey:
    """The profiles and layouts of a namespace, which templates refer to by name."""
    return ReconcileKey("Named", namespace, "")


def _fallback_of(namespace: str, name: str) -> ReconcileKey:
    """The profiles that fall back to this one."""
    return ReconcileKey("Fallback", namespace, name)


def _users_of(layout: Manifest) -> ReconcileKey:
    return ReconcileKey("Users", layout["metadata"]["namespace"], layout["metadata"]["name"])


def _places_of_made(namespace: str, labels: dict[str, str]) -> list[ReconcileKey]:
    if labels.get(MANAGED_BY) != OPERATOR:
        return []
    if labels.get(COMPONENT) in ("sandbox", "bounces") and PROFILE not in labels:
        return [sandbox_key(namespace)]
    return [ReconcileKey("Workers", namespace, labels[PROFILE])] if PROFILE in labels else []


def _profile_of(template: Manifest) -> list[ReconcileKey]:
    name = _text(template, "smtpProfileRef")
    return [profile_key(template["metadata"]["namespace"], name)] if name else []


def _text(manifest: Manifest, reference: str) -> str:
    """The name in a reference of a spec; the object may be of any shape, valid or not."""
    spec: Any = manifest.get("spec")
    found = spec.get(reference) if isinstance(spec, dict) else None
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def _standing(namespace: Manifest) -> tuple[Any, bool]:
    """What about a namespace concerns us: whether letters may leave, and whether it is being deleted."""
    metadata = namespace["metadata"]
    return (metadata.get("labels") or {}).get(DELIVERY), "deletionTimestamp" in metadata
