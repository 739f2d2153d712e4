"""A cluster in memory that implements `models.Cluster` and passes the same contract tests.

Fields that one applied and does not apply any more go; a no-op changes no version; a status is apart from the
rest; preconditions hold. It validates nothing and owns nothing: no CRDs, no controllers.
"""

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from postroom_operator.models import (
    Conflict,
    Listing,
    Manifest,
    NotFound,
    Ref,
    ResourceKind,
    ref_of,
    version_of,
)

Leaves = dict[str, Any]


class FakeCluster:
    """Implements models.Cluster. `writes` lists what changed something, in order."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Manifest] = {}
        self.writes: list[tuple[str, Ref]] = []
        self.kinds: set[ResourceKind] = set()
        """The kinds that `serves` knows without an object."""
        self.listeners: list[Callable[[str, Manifest], None]] = []
        self.before: Callable[[str, Ref], None] = _allow
        """Called before each write; raises what the API server should answer."""
        self._applied: dict[Ref, Manifest] = {}
        self._versions = itertools.count(100)

    async def read(self, ref: Ref) -> Manifest | None:
        return copy.deepcopy(self.objects.get(ref))

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        wanted = dict(pair.split("=") for pair in labels.split(",") if pair)
        found = [
            copy.deepcopy(each)
            for ref, each in sorted(self.objects.items())
            if (ref.api_version, ref.kind) == (kind.api_version, kind.kind)
            and namespace in ("", ref.namespace)
            and wanted.items() <= each["metadata"].get("labels", {}).items()
        ]
        return Listing(tuple(found), next(self._versions))

    async def serves(self, kind: ResourceKind) -> bool:
        return kind in self.kinds

    async def apply(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        self.before("apply", ref)
        merged = _without(self.objects.get(ref, {}), self._applied.get(ref, {}), manifest)
        merged = _merge(merged, manifest)
        self._applied[ref] = copy.deepcopy(manifest)
        return self._keep("apply", ref, merged)

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        ref = ref_of(seen)
        self.before("status", ref)
        if ref not in self.objects:
            raise NotFound(f"{ref} not found", 404)
        if version_of(self.objects[ref]) != version_of(seen):
            raise Conflict(f"{ref}: the object has been modified", 409)
        return self._keep("status", ref, {**self.objects[ref], "status": copy.deepcopy(dict(status))})

    async def delete(self, ref: Ref, uid: str) -> None:
        self.before("delete", ref)
        if ref in self.objects and self.objects[ref]["metadata"]["uid"] == uid:
            self.remove(ref)
            self.writes.append(("delete", ref))

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        self.before("annotate", ref)
        if ref not in self.objects:
            return
        found = copy.deepcopy(self.objects[ref])
        merged = {**found["metadata"].get("annotations", {}), **annotations}
        found["metadata"]["annotations"] = {key: value for key, value in merged.items() if value is not None}
        self._keep("annotate", ref, found)

    async def scale(self, ref: Ref, replicas: int) -> None:
        self.before("scale", ref)
        if ref not in self.objects:
            raise NotFound(f"{ref} not found", 404)
        found = copy.deepcopy(self.objects[ref])
        found["spec"]["replicas"] = replicas
        applied = self._applied.get(ref, {}).get("spec", {})
        applied.pop("replicas", None)  # the other field manager owns it now
        self._keep("scale", ref, found)

    async def create(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        self.before("create", ref)
        if ref in self.objects:
            raise Conflict(f"{ref} already exists", 409)
        return self._keep("create", ref, copy.deepcopy(manifest))

    async def replace(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        self.before("replace", ref)
        if ref not in self.objects:
            raise NotFound(f"{ref} not found", 404)
        if version_of(manifest) != version_of(self.objects[ref]):
            raise Conflict(f"{ref}: the object has been modified", 409)
        return self._keep("replace", ref, copy.deepcopy(manifest))

    def put(self, manifest: Manifest) -> Manifest:
        """Another client creates or changes an object."""
        ref = ref_of(manifest)
        status = self.objects.get(ref, {}).get("status")
        kept = {**copy.deepcopy(manifest), **({"status": status} if status else {})}
        return self._keep("", ref, kept)

    def remove(self, ref: Ref) -> None:
        """Another client deletes an object."""
        gone = self.objects.pop(ref)
        self._applied.pop(ref, None)
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell("DELETED", gone)

    def _keep(self, verb: str, ref: Ref, manifest: Manifest) -> Manifest:
        before = self.objects.get(ref)
        if before and _content(before) == _content(manifest):
            return copy.deepcopy(before)
        new: Any = {"uid": str(uuid4()), "creationTimestamp": "", "generation": 0}
        old = before["metadata"] if before else new
        grown = before is None or before.get("spec") != manifest.get("spec")
        metadata = {
            **manifest["metadata"],
            "uid": old["uid"],
            "creationTimestamp": manifest["metadata"].get("creationTimestamp", old["creationTimestamp"]),
            "generation": old["generation"] + grown,
            "resourceVersion": str(next(self._versions)),
        }
        self.objects[ref] = {**copy.deepcopy(manifest), "metadata": metadata}
        if verb:
            self.writes.append((verb, ref))
        self._tell("MODIFIED" if before else "ADDED", self.objects[ref])
        return copy.deepcopy(self.objects[ref])

    def _tell(self, event: str, manifest: Manifest) -> None:
        for listener in self.listeners:
            listener(event, copy.deepcopy(manifest))


def _allow(verb: str, ref: Ref) -> None:
    """Allow any write."""


def _content(manifest: Manifest) -> Manifest:
    server = {"resourceVersion", "generation", "uid", "creationTimestamp"}
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in server}
    return {**manifest, "metadata": metadata}


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
    return copy.deepcopy(new)


def _without(found: Any, before: Any, now: Any) -> Any:
    """The object without the fields that were applied before and are not applied now."""
    if not (isinstance(found, dict) and isinstance(before, dict)):
        return found
    now = now if isinstance(now, dict) else {}
    gone = {key for key in before if key not in now and not isinstance(before[key], dict)}
    return {
        key: _without(value, before.get(key), now.get(key)) for key, value in found.items() if key not in gone
    }
