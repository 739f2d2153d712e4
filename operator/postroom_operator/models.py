"""The values that the operator's modules exchange, and the interface to the API server.

- Kubernetes: `Manifest`, `Ref`, `ResourceKind`, `Listing`, the errors of the API server, and `Cluster`, the
  interface that `kubernetes.KubernetesCluster` implements and the tests' fake cluster under the same
  contract.
- What the operator learns beside the cluster's objects: validation results, the state of topics, the reports
  of workers. Adapters create these values and `status` reads them.

Nothing here decides anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

from postroom.letter.bundle import CompiledTemplate
from postroom.letter.problems import Problem

Manifest = dict[str, Any]
"""A Kubernetes object. Treated as frozen: a change is made to a copy.

A manifest that is applied holds exactly the fields that the operator owns; a manifest that was read holds all
fields."""

FIELD_MANAGER = "postroom-operator"
"""The owner of the applied fields (server-side apply)."""
API_VERSION = "postroom.dev/v1alpha1"
"""Of EmailTemplate, EmailLayout and SmtpProfile."""


# --- Kubernetes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The identity of an object: `Ref("apps/v1", "Deployment", "shop", "postroom-orders")`.

    `namespace` is empty for a cluster-scoped object.
    """

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        prefix = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {prefix}{self.name}"


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """A kind of object: `ResourceKind("apps/v1", "Deployment")`."""

    api_version: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} of {self.api_version}"


PLURALS = {
    ResourceKind(API_VERSION, "EmailTemplate"): "emailtemplates",
    ResourceKind(API_VERSION, "EmailLayout"): "emaillayouts",
    ResourceKind(API_VERSION, "SmtpProfile"): "smtpprofiles",
    ResourceKind("v1", "Namespace"): "namespaces",
    ResourceKind("v1", "ConfigMap"): "configmaps",
    ResourceKind("v1", "Service"): "services",
    ResourceKind("v1", "Pod"): "pods",
    ResourceKind("events.k8s.io/v1", "Event"): "events",
    ResourceKind("apps/v1", "Deployment"): "deployments",
    ResourceKind("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ResourceKind("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ResourceKind("coordination.k8s.io/v1", "Lease"): "leases",
    ResourceKind("keda.sh/v1alpha1", "ScaledObject"): "scaledobjects",
    ResourceKind("keda.sh/v1alpha1", "TriggerAuthentication"): "triggerauthentications",
}
"""Every kind that the operator reads or writes, with the name of its collection at the API server."""
CUSTOM_RESOURCES = tuple(
    ResourceKind(API_VERSION, kind) for kind in ("EmailTemplate", "EmailLayout", "SmtpProfile")
)
CREATED_KINDS = (
    ResourceKind("v1", "ConfigMap"),
    ResourceKind("v1", "Service"),
    ResourceKind("v1", "Pod"),
    ResourceKind("apps/v1", "Deployment"),
    ResourceKind("networking.k8s.io/v1", "NetworkPolicy"),
    ResourceKind("policy/v1", "PodDisruptionBudget"),
)
"""The kinds that the operator creates, and their pods. They are listed and watched by their label."""
KEDA_KINDS = tuple(
    ResourceKind("keda.sh/v1alpha1", kind) for kind in ("ScaledObject", "TriggerAuthentication")
)
"""The same, where KEDA is installed."""
NAMESPACE = ResourceKind("v1", "Namespace")


@dataclass(frozen=True, slots=True)
class Listing:
    """The objects of one kind at one moment; `version` is the resourceVersion of that moment."""

    items: tuple[Manifest, ...]
    version: int


def version_of(manifest: Mapping[str, Any]) -> int:
    """The resourceVersion as a number, which grows (KEP-5504); 0 where the object has none."""
    text = manifest["metadata"].get("resourceVersion", "")
    return int(text) if text.isdigit() else 0


def ref_of(manifest: Mapping[str, Any]) -> Ref:
    """The identity of a manifest's object."""
    metadata = manifest["metadata"]
    return Ref(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has terminated and only its record is left, for example after an eviction.

    Another pod may have its IP address by then.
    """
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


class ClusterError(Exception):
    """The API server rejected a request or did not answer. `message` is the server's own text."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """The server's Retry-After, in seconds."""


class NotFound(ClusterError):
    """The object, its namespace or its kind does not exist (404, 410)."""


class Conflict(ClusterError):
    """Another client changed the object first, or a precondition does not hold (409): read it again."""


class Invalid(ClusterError):
    """The object is not valid or not allowed (400, 403, 422): the same request would be rejected again."""


class NamespaceTerminating(Invalid):
    """The namespace is being deleted: nothing can be created in it, and nothing needs to be."""


class Unavailable(ClusterError):
    """The API server did not answer, or asked to come back later (429, 5xx): the same request may succeed."""


class Cluster(Protocol):
    """The API server. Each call does what its docstring says or raises a ClusterError."""

    async def read(self, ref: Ref) -> Manifest | None:
        """The object, or None where it does not exist."""
        ...

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        """The objects of a kind that match a label selector; an empty namespace or selector matches all."""
        ...

    async def serves(self, kind: ResourceKind) -> bool:
        """Whether the API server serves this kind of object."""
        ...

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply, forced: the operator owns the given fields afterwards. Returns the whole
        object.
        """
        ...

    async def delete(self, ref: Ref, uid: str) -> None:
        """Delete the object with this uid; an object that is gone or was replaced is left alone."""
        ...

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        """Replace the status of a custom resource; Conflict when its version is not that of `seen`."""
        ...

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        """Set annotations (None removes one); an object that is gone is ignored."""
        ...

    async def scale(self, ref: Ref, replicas: int) -> None:
        """Write `/scale` under a field manager of its own, so that dropping `.spec.replicas` keeps the
        number.
        """
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object; Conflict when it exists."""
        ...

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object at the manifest's resourceVersion; Conflict when that is not the newest."""
        ...


# --- validation of templates -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SampleSizes:
    """The sizes of one sample's letter, in bytes of UTF-8."""

    name: str
    locale: str
    html_bytes: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The result of validating one template or layout. With problems there is no compiled template."""

    compiled: CompiledTemplate | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    samples: tuple[SampleSizes, ...] = ()

    @property
    def in_progress(self) -> bool:
        """Whether the validation of a template has not finished."""
        return self.compiled is None and not self.problems


@dataclass(frozen=True, slots=True)
class TemplateState:
    """One template of a profile, after it was compared with the profile and the other templates."""

    manifest: Mapping[str, Any]
    """The EmailTemplate as it is in the cluster."""
    validation: ValidationResult
    """The result for the template alone, with its layout."""
    problems: tuple[Problem, ...] = ()
    """All that keeps the newest revision from going live: its own problems, missing references, and event
    types that another template has."""
    serving: CompiledTemplate | None = None
    """The revision for the workers: the newest, or the last good one where the newest has problems."""


_interned: WeakValueDictionary[tuple[str, str, str], CompiledTemplate] = WeakValueDictionary()


def intern(template: CompiledTemplate) -> CompiledTemplate:
    """Return the equal template that is in memory already, or this one.

    A template comes from its validation and from the ConfigMap of its shard; without this each of thousands
    would be in memory twice. Only weak references are kept.
    """
    key = (template.namespace, template.name, template.revision)
    known = _interned.get(key)
    if known == template:  # a shard may have been edited by hand, and the revision does not cover `suspend`
        return known
    _interned[key] = template
    return template


# --- topics and workers ------------------------------------------------------------------------------


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
    """A topic as a profile needs it; more partitions do as well. `config` holds Kafka's topic settings."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it."""

    name: str
    partitions: int = 0
    """0: the topic does not exist, or its state is unknown."""
    created: bool = False
    """Whether the operator created it."""
    differences: tuple[str, ...] = ()
    """Where it differs from the profile, as text: `partitions is 6 instead of 3`."""
    problem: str = ""
    """Why its state is unknown, or why it could not be created."""
    reason: str = ""
    """The problem as one CamelCase word, for a condition."""


@dataclass(frozen=True, slots=True)
class WorkerCondition:
    """The state of one dependency as a worker reports it; `ok` None: not known yet."""

    ok: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The /statusz page of a worker."""

    pod: str
    mode: str = ""
    guarded: bool = False
    profile_hash: str = ""
    problems: tuple[str, ...] = ()
    conditions: Mapping[str, WorkerCondition] = field(default_factory=dict)
    """By dependency: secrets, ledger, kafka, relay, templates."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """The revision of each template."""
    lag: int | None = None
    """Events that wait for this worker; None: unknown. A suspended worker reports the events of all
    partitions, as the other workers of its profile do."""
    suspended: bool = False
    has_partitions: bool = False
    """Whether partitions are assigned to the worker."""
