"""What the operator asks of a cluster, in plain objects.

A `Manifest` is a Kubernetes object as a dictionary. What we send holds exactly the fields that we own; what
comes back holds everything. A `Ref` says which object, without its content. Every call either does what
it says or raises a `ClusterError`; each of its kinds says what follows from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Manifest = dict[str, Any]
"""A Kubernetes object. Treated as frozen: whoever changes one makes a copy."""

FIELD_MANAGER = "postroom-operator"
"""Who owns the fields that we apply (server-side apply)."""
API_VERSION = "postroom.dev/v1alpha1"
"""Of EmailTemplate, EmailLayout and SmtpProfile."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Which object: `Ref("apps/v1", "Deployment", "shop", "postroom-orders")`; a Namespace is in none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: `Kind("apps/v1", "Deployment")`."""

    api_version: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} of {self.api_version}"


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one kind as they were at one moment; `version` is that moment's resourceVersion."""

    items: tuple[Manifest, ...]
    version: int


def version_of(manifest: Mapping[str, Any]) -> int:
    """The resourceVersion, which grows (KEP-5504); 0 where there is none."""
    text = manifest["metadata"].get("resourceVersion", "")
    return int(text) if text.isdigit() else 0


def ref_of(manifest: Mapping[str, Any]) -> Ref:
    """Which object a manifest is of."""
    metadata = manifest["metadata"]
    return Ref(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether a pod runs no more and only tells of itself: evicted, say. Others may have its address."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


class ClusterError(Exception):
    """The API server's refusal, or none of its answers. `message` is its own words."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """Seconds that the server asks us to wait."""


class Absent(ClusterError):
    """The object, its namespace or its kind is not there (404, 410)."""


class Conflict(ClusterError):
    """Somebody else was quicker, or a precondition does not hold (409): look again."""


class Refused(ClusterError):
    """The object is not valid or not allowed (400, 403, 422): the same again will be refused again."""


class Ending(Refused):
    """The namespace is being deleted: nothing can be made in it, and nothing needs to be."""


class Unavailable(ClusterError):
    """No answer, or one that says later (429, 5xx): the same again may do."""


class Cluster(Protocol):
    """The API server, for one who applies, never merges."""

    async def read(self, ref: Ref) -> Manifest | None:
        """The object, or None."""
        ...

    async def read_all(self, kind: Kind, namespace: str = "", labels: str = "") -> Listing:
        """The objects that a label selector selects; namespace `""` means all, labels `""` too."""
        ...

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows this kind of object."""
        ...

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply, forced: the fields given are ours from now on. Returns the whole object."""
        ...

    async def delete(self, ref: Ref, uid: str) -> None:
        """Delete that very object; one that is gone or is another by now is left."""
        ...

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        """Replace the status of an object of ours; Conflict when it is another version by now than `seen`."""
        ...

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        """Set annotations (None removes one); an object that is gone is left."""
        ...

    async def scale(self, ref: Ref, replicas: int) -> None:
        """Write `/scale` under a field manager of its own, so that dropping `.spec.replicas` keeps it."""
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """Create, and raise Conflict when it is there."""
        ...

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace at the manifest's own resourceVersion, and raise Conflict when that is not the newest."""
        ...
