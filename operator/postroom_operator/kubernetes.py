"""How to reach the API server: a pod's service account, or the developer's kubeconfig.

The client library reads both, including a token that is exchanged while we run (a pod's is good for an
hour) and the plugins of cloud providers. Raises Rejected when there is neither.

Where the API server keeps each kind of object that the operator touches.

An API server's `Status` as one of the errors of `cluster`: what follows from it, in its own words.

The API server over HTTP: implements `cluster.Cluster`.

Server-side apply with our field manager, forced: a field that we send is ours. An answer that says later
(429, 5xx) and a line that dropped are tried again a few times, with what `Retry-After` asks; then the
caller's queue takes over. Objects come back without the bookkeeping of field managers, which would be half of
their size.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes import config
from kubernetes.client import Configuration
from pydantic_core import from_json

from postroom.letter.problems import Code, Problem, Rejected
from postroom_operator.models import (
    API_VERSION,
    FIELD_MANAGER,
    ClusterError,
    Conflict,
    Invalid,
    Listing,
    Manifest,
    NamespaceTerminating,
    NotFound,
    Ref,
    ResourceKind,
    Unavailable,
    ref_of,
)


class ApiCredentials:
    """Where the API server is, whom we trust, and who we are."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self.server: str = configuration.host.rstrip("/")
        self.verify: bool = configuration.verify_ssl
        self.authority = _existing_file(configuration.ssl_ca_cert)
        self.certificate = _existing_file(configuration.cert_file)
        self.key = _existing_file(configuration.key_file)

    def token(self) -> str | None:
        """The bearer token as it is now, read anew every minute; while it cannot be read, the one before."""
        known = self._configuration
        header: str | None
        try:
            header = known.get_api_key_with_prefix("BearerToken", "authorization")
        except (OSError, config.ConfigException):  # it is being written
            header = known.api_key.get("BearerToken", known.api_key.get("authorization"))
        return header.partition(" ")[2] if header else None

    def tls(self) -> ssl.SSLContext:
        """The context to connect with."""
        context = ssl.create_default_context(cafile=self.authority)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


def find_credentials() -> ApiCredentials:
    """The service account where there is one, else the kubeconfig."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            message = (
                f"leads to no cluster ({error}), and this is no pod with a service account. Set it to a "
                "kubeconfig that kubectl can use"
            )
            raise Rejected(Problem(Code.SETTING_MISSING, "KUBECONFIG", message)) from None
    return ApiCredentials(configuration)


def _existing_file(name: str | None) -> str | None:
    return name if name and Path(name).is_file() else None


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


def api_root(api_version: str) -> str:
    """The path of a group and version: `/apis/apps/v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def collection_path(kind: ResourceKind, namespace: str) -> str:
    """The path of a kind's objects in a namespace, or in all with `""`."""
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{api_root(kind.api_version)}{place}/{PLURALS[kind]}"


def object_path(ref: Ref) -> str:
    """The path of one object."""
    return f"{collection_path(ResourceKind(ref.api_version, ref.kind), ref.namespace)}/{ref.name}"


MESSAGE_CHARACTERS = 1_000


def error_of_response(asked: str, status: int, body: Any, headers: Mapping[str, str]) -> ClusterError:
    """What an answer other than 2xx means; `asked` is what was asked, for one that says nothing itself."""
    answer = body if isinstance(body, dict) else {}
    message = str(answer.get("message") or f"the API server answered {status} to {asked}")
    message = message[:MESSAGE_CHARACTERS]
    if status in (404, 410):
        return NotFound(message, status)
    if status == 409:
        return Conflict(message, status)
    if status == 403 and _is_namespace_terminating(answer):
        return NamespaceTerminating(message, status)
    if status in (400, 403, 405, 413, 415, 422):
        return Invalid(message, status)
    return Unavailable(message, status, _retry_after(answer, headers))


def _is_namespace_terminating(answer: dict[str, Any]) -> bool:
    causes = (answer.get("details") or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _retry_after(answer: dict[str, Any], headers: Mapping[str, str]) -> float | None:
    asked = headers.get("Retry-After") or (answer.get("details") or {}).get("retryAfterSeconds")
    try:
        return float(asked) if asked else None
    except ValueError:
        return None


PAGE = 500
CONNECTIONS = 12
"""More bring nothing, and each takes a quarter of a megabyte for its TLS alone."""
TRIES = 4
MAX_WAIT_SECONDS = 10.0
"""Longest wait between two tries; what the server asks beyond it is the queue's to wait."""
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
OURS = {"fieldManager": FIELD_MANAGER}
Count = Callable[[str, str, str], None]
"""Told of each request: verb, kind, outcome (`ok` or the status)."""


class KubernetesCluster:
    """Implements cluster.Cluster; use as an async context manager."""

    def __init__(self, credentials: ApiCredentials, count: Count, chance: Callable[[], float]) -> None:
        self._credentials = credentials
        self._count = count
        self._chance = chance
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._credentials.tls(), keepalive_timeout=60)
        self._session = aiohttp.ClientSession(self._credentials.server, connector=connector, timeout=TIMEOUT)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def read(self, ref: Ref) -> Manifest | None:
        """See the port."""
        try:
            return await self._request(ApiRequest("GET", object_path(ref), ref.kind))
        except NotFound:
            return None

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        """See the port. A list that grew too old between two pages begins anew."""
        for _ in range(TRIES):
            try:
                return await self._read_pages(kind, namespace, labels)
            except NotFound as error:
                if error.status != 410:
                    raise
        raise Unavailable(f"the list of {kind} was too old again and again", 410)

    async def serves(self, kind: ResourceKind) -> bool:
        """See the port."""
        try:
            found = await self._request(ApiRequest("GET", api_root(kind.api_version), "APIResourceList"))
        except NotFound:
            return False
        return any(each["kind"] == kind.kind for each in found.get("resources", ()))

    async def apply(self, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._apply(object_path(ref_of(manifest)), manifest)

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        """See the port. The precondition is the version: a uid is ignored where only a status goes."""
        ref, version = ref_of(seen), seen["metadata"]["resourceVersion"]
        metadata = {"name": ref.name, "namespace": ref.namespace, "resourceVersion": version}
        manifest = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "status": status}
        return await self._apply(f"{object_path(ref)}/status", manifest)

    async def delete(self, ref: Ref, uid: str) -> None:
        """See the port."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request(ApiRequest("DELETE", object_path(ref), ref.kind, body))
        except (NotFound, Conflict):
            return

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        """See the port."""
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            await self._request(ApiRequest("PATCH", object_path(ref), ref.kind, body, MERGE, OURS))
        except NotFound:
            return

    async def scale(self, ref: Ref, replicas: int) -> None:
        """See the port."""
        # applied, because a merge of the number that is there already changes nothing, nor who owns it
        manager = {"fieldManager": f"{FIELD_MANAGER}-handover", "force": "true"}
        body: Manifest = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": ref.name},
            "spec": {"replicas": replicas},
        }
        await self._request(ApiRequest("PATCH", f"{object_path(ref)}/scale", ref.kind, body, APPLY, manager))

    async def create(self, manifest: Manifest) -> Manifest:
        """See the port."""
        ref = ref_of(manifest)
        path = collection_path(ResourceKind(ref.api_version, ref.kind), ref.namespace)
        return await self._request(ApiRequest("POST", path, ref.kind, manifest, query=OURS))

    async def replace(self, manifest: Manifest) -> Manifest:
        """See the port."""
        ref = ref_of(manifest)
        return await self._request(ApiRequest("PUT", object_path(ref), ref.kind, manifest, query=OURS))

    async def _apply(self, path: str, manifest: Manifest) -> Manifest:
        query = {**OURS, "force": "true"}
        return await self._request(ApiRequest("PATCH", path, manifest["kind"], manifest, APPLY, query))

    async def _read_pages(self, kind: ResourceKind, namespace: str, labels: str) -> Listing:
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        items: list[Manifest] = []
        while True:
            page = await self._request(
                ApiRequest("GET", collection_path(kind, namespace), kind.kind, query=query)
            )
            named = {"apiVersion": kind.api_version, "kind": kind.kind}
            items += [without_managed_fields(named | each) for each in page["items"]]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(tuple(items), int(metadata["resourceVersion"]))
            query["continue"] = metadata["continue"]

    async def _request(self, request: "ApiRequest") -> Manifest:
        """One request, tried again while that may help."""
        tries = TRIES if request.verb in ("GET", "PATCH", "DELETE") else 1
        for attempt in range(1, tries + 1):
            try:
                answer = await self._send(request)
            except ClusterError as error:
                self._count(request.verb, request.kind, str(error.status or "unreachable"))
                wait = max(error.retry_after or 0.0, 0.2 * 2**attempt * (0.5 + self._chance()))
                if not isinstance(error, Unavailable) or attempt == tries or wait > MAX_WAIT_SECONDS:
                    raise
                await asyncio.sleep(wait)
            else:
                self._count(request.verb, request.kind, "ok")
                return without_managed_fields(answer)
        raise AssertionError("the last try returns or raises")

    async def _send(self, request: "ApiRequest") -> Manifest:
        data, headers = None, {}
        if request.body is not None:
            data = json.dumps(request.body, ensure_ascii=False).encode()
            headers["Content-Type"] = request.form
        if token := self._credentials.token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._session.request(
                request.verb, request.path, data=data, headers=headers, params=request.query
            ) as answer:
                text = await answer.read()
                if answer.status >= 300:
                    asked = f"{request.verb} {request.path}"
                    raise error_of_response(asked, answer.status, _json_or_none(text), answer.headers)
                # the same short text is one object in memory, however many objects have it
                found: Manifest = from_json(text, cache_strings="all")
                return found
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"no answer of the API server: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request; `kind` is what it is counted under."""

    verb: str
    path: str
    kind: str
    body: Any = None
    form: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)


def without_managed_fields(manifest: Manifest) -> Manifest:
    """Without the bookkeeping of who owns which field, which would be half of what a template weighs.

    A Deployment keeps ours: it tells whether the number of workers is still our own.
    """
    metadata = manifest.get("metadata") or {}
    managed = metadata.pop("managedFields", None)
    if managed and manifest.get("kind") == "Deployment":
        metadata["managedFields"] = [each for each in managed if each.get("manager") == FIELD_MANAGER]
    return manifest


def _json_or_none(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
