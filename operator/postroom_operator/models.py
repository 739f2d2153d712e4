"""What the operator asks of a cluster, in plain objects.

A `Manifest` is a Kubernetes object as a dictionary. What we send holds exactly the fields that we own; what
comes back holds everything. A `Ref` says which object, without its content. Every call either does what
it says or raises a `ClusterError`; each of its kinds says what follows from it.

What the operator finds out beside the cluster's objects: proofs, topics, workers' own reports.

Plain values. Adapters make them, `status` reads them; nothing here decides anything.

One object for templates that are equal: the compiled template of a proof, and the one read from its shard.

Each of thousands of templates would be in memory twice otherwise. Nothing is kept that nobody else keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

from postroom.letter.bundle import CompiledTemplate
from postroom.letter.problems import Problem

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
class ResourceKind:
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


class NotFound(ClusterError):
    """The object, its namespace or its kind is not there (404, 410)."""


class Conflict(ClusterError):
    """Somebody else was quicker, or a precondition does not hold (409): look again."""


class Invalid(ClusterError):
    """The object is not valid or not allowed (400, 403, 422): the same again will be refused again."""


class NamespaceTerminating(Invalid):
    """The namespace is being deleted: nothing can be made in it, and nothing needs to be."""


class Unavailable(ClusterError):
    """No answer, or one that says later (429, 5xx): the same again may do."""


class Cluster(Protocol):
    """The API server, for one who applies, never merges."""

    async def read(self, ref: Ref) -> Manifest | None:
        """The object, or None."""
        ...

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        """The objects that a label selector selects; namespace `""` means all, labels `""` too."""
        ...

    async def serves(self, kind: ResourceKind) -> bool:
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


@dataclass(frozen=True, slots=True)
class SampleSizes:
    """A sample's letter, by its sizes in UTF-8."""

    name: str
    locale: str
    html_bytes: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What came of the proof of one template or layout. With problems there is no compiled template."""

    compiled: CompiledTemplate | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    samples: tuple[SampleSizes, ...] = ()

    @property
    def in_progress(self) -> bool:
        """Whether nothing has come of a template's proof yet."""
        return self.compiled is None and not self.problems


@dataclass(frozen=True, slots=True)
class TemplateState:
    """Where one template of a profile stands, once its neighbours were looked at."""

    manifest: Mapping[str, Any]
    """The EmailTemplate as the cluster has it."""
    validation: ValidationResult
    """The proof of the template alone, with its layout."""
    problems: tuple[Problem, ...] = ()
    """All that keeps the newest revision from going live: the proof's, a reference's, a neighbour's."""
    serving: CompiledTemplate | None = None
    """What workers get: the newest, or the last good one where the newest has problems."""

    @property
    def is_held_back(self) -> bool:
        """Whether an older revision serves because the newest does not pass."""
        return self.serving is not None and bool(self.problems)


@dataclass(frozen=True, slots=True)
class ObjectReadiness:
    """Whether an EmailTemplate, EmailLayout or SmtpProfile is ready, and the condition's reason."""

    kind: str
    namespace: str
    name: str
    reason: str
    ready: bool


@dataclass(frozen=True, slots=True)
class RequiredTopic:
    """A topic as a profile needs it. One with more partitions is as good; `config` in Kafka's own words."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it."""

    name: str
    partitions: int = 0
    """0: it is not there, or nobody could tell."""
    created: bool = False
    """Whether it was made just now."""
    differences: tuple[str, ...] = ()
    """What is otherwise than the profile asks, in words: `partitions: 6, the profile asks for 3`."""
    problem: str = ""
    """Why nothing is known, or why it could not be made."""
    reason: str = ""
    """A CamelCase word for the problem."""


@dataclass(frozen=True, slots=True)
class WorkerCondition:
    """What a worker says of one thing it needs; `ok` None: it does not know yet."""

    ok: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's /statusz."""

    pod: str
    mode: str = ""
    guarded: bool = False
    profile_hash: str = ""
    problems: tuple[str, ...] = ()
    conditions: Mapping[str, WorkerCondition] = field(default_factory=dict)
    """By what was asked: secrets, ledger, kafka, relay, templates."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Revision by template."""
    lag: int | None = None
    """Events that wait for it; a suspended one tells all that wait, as its neighbours do. None: unknown."""
    suspended: bool = False
    has_partitions: bool = False
    """Whether partitions are assigned to it."""


_interned: WeakValueDictionary[tuple[str, str, str], CompiledTemplate] = WeakValueDictionary()


def intern(template: CompiledTemplate) -> CompiledTemplate:
    """The template, or the equal one that was seen before."""
    key = (template.namespace, template.name, template.revision)
    before = _interned.get(key)
    if before == template:  # a shard may have been edited by hand, and a revision says nothing of `suspend`
        return before
    _interned[key] = template
    return template
