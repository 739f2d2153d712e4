"""The API server over HTTP: `KubernetesCluster` implements `models.Cluster`.

Credentials come from a pod's service account or the developer's kubeconfig; the Kubernetes client library
reads both, including service account tokens, which expire after an hour, and the plugins of cloud providers.

Server-side apply is forced with the operator's field manager. An answer that asks to come back later (429,
5xx) and a dropped connection are retried a few times, with the delay of `Retry-After`; after that the error
is raised and the caller's queue retries. Objects come back without managedFields, which would be half of
their size. A response other than 2xx becomes one of the errors of `models` with the server's own message.
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
    FIELD_MANAGER,
    PLURALS,
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
    """The address of the API server, its certificate authority, and the operator's credentials."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self.server: str = configuration.host.rstrip("/")
        self.verify: bool = configuration.verify_ssl
        self.authority = _existing_file(configuration.ssl_ca_cert)
        self.certificate = _existing_file(configuration.cert_file)
        self.key = _existing_file(configuration.key_file)

    def token(self) -> str | None:
        """The current bearer token, read again every minute; the last one while the file cannot be read."""
        known = self._configuration
        header: str | None
        try:
            header = known.get_api_key_with_prefix("BearerToken", "authorization")
        except (OSError, config.ConfigException):  # the kubelet is replacing the file
            header = known.api_key.get("BearerToken", known.api_key.get("authorization"))
        return header.partition(" ")[2] if header else None

    def tls(self) -> ssl.SSLContext:
        """The TLS context of connections to the API server."""
        context = ssl.create_default_context(cafile=self.authority)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


def find_credentials() -> ApiCredentials:
    """The service account in a pod, else the kubeconfig; raises Rejected where neither exists."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            message = (
                f"names no usable cluster ({error}), and this is no pod with a service account; set it to "
                "a kubeconfig that kubectl can use"
            )
            raise Rejected(Problem(Code.SETTING_MISSING, "KUBECONFIG", message)) from None
    return ApiCredentials(configuration)


def _existing_file(name: str | None) -> str | None:
    return name if name and Path(name).is_file() else None


def api_root(api_version: str) -> str:
    """The path of a group and version: `/apis/apps/v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def collection_path(kind: ResourceKind, namespace: str) -> str:
    """The path of a kind's objects in a namespace, or in all with `""`."""
    namespaced = f"/namespaces/{namespace}" if namespace else ""
    return f"{api_root(kind.api_version)}{namespaced}/{PLURALS[kind]}"


def object_path(ref: Ref) -> str:
    """The path of one object."""
    return f"{collection_path(ResourceKind(ref.api_version, ref.kind), ref.namespace)}/{ref.name}"


MAX_MESSAGE_CHARACTERS = 1_000


def error_of_response(request: str, status: int, body: Any, headers: Mapping[str, str]) -> ClusterError:
    """The error for a response other than 2xx; `request` is for a message where the response has none."""
    answer = body if isinstance(body, dict) else {}
    message = str(answer.get("message") or f"the API server answered {status} to {request}")
    message = message[:MAX_MESSAGE_CHARACTERS]
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
"""More connections gain nothing, and each takes a quarter of a megabyte for TLS alone."""
TRIES = 4
MAX_WAIT_SECONDS = 10.0
"""The longest delay between two tries. A longer `Retry-After` is left to the caller's queue."""
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
OURS = {"fieldManager": FIELD_MANAGER}
Count = Callable[[str, str, str], None]
"""Called for each request with verb, kind and outcome (`ok`, the status, or `unreachable`)."""


class KubernetesCluster:
    """Implements models.Cluster; use it as an async context manager."""

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
        try:
            return await self._request(ApiRequest("GET", object_path(ref), ref.kind))
        except NotFound:
            return None

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        """A list that expires between two pages (410) is read again from the beginning."""
        for _ in range(TRIES):
            try:
                return await self._read_pages(kind, namespace, labels)
            except NotFound as error:
                if error.status != 410:
                    raise
        raise Unavailable(f"the list of {kind} expired {TRIES} times while it was read", 410)

    async def serves(self, kind: ResourceKind) -> bool:
        try:
            found = await self._request(ApiRequest("GET", api_root(kind.api_version), "APIResourceList"))
        except NotFound:
            return False
        return any(served["kind"] == kind.kind for served in found.get("resources", ()))

    async def apply(self, manifest: Manifest) -> Manifest:
        return await self._apply(object_path(ref_of(manifest)), manifest)

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        """The precondition is the version, because the server ignores a uid in a status request."""
        ref, version = ref_of(seen), seen["metadata"]["resourceVersion"]
        metadata = {"name": ref.name, "namespace": ref.namespace, "resourceVersion": version}
        manifest = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "status": status}
        return await self._apply(f"{object_path(ref)}/status", manifest)

    async def delete(self, ref: Ref, uid: str) -> None:
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request(ApiRequest("DELETE", object_path(ref), ref.kind, body))
        except (NotFound, Conflict):
            return

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            await self._request(ApiRequest("PATCH", object_path(ref), ref.kind, body, MERGE, OURS))
        except NotFound:
            return

    async def scale(self, ref: Ref, replicas: int) -> None:
        # applied and not merged: merging the present number would change nothing, not even its owner
        manager = {"fieldManager": f"{FIELD_MANAGER}-handover", "force": "true"}
        body: Manifest = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": ref.name},
            "spec": {"replicas": replicas},
        }
        await self._request(ApiRequest("PATCH", f"{object_path(ref)}/scale", ref.kind, body, APPLY, manager))

    async def create(self, manifest: Manifest) -> Manifest:
        ref = ref_of(manifest)
        path = collection_path(ResourceKind(ref.api_version, ref.kind), ref.namespace)
        return await self._request(ApiRequest("POST", path, ref.kind, manifest, query=OURS))

    async def replace(self, manifest: Manifest) -> Manifest:
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
            items += [without_managed_fields(named | item) for item in page["items"]]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(tuple(items), int(metadata["resourceVersion"]))
            query["continue"] = metadata["continue"]

    async def _request(self, request: "ApiRequest") -> Manifest:
        """Send a request, and retry it while that may help."""
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
        raise AssertionError("unreachable: the last try returns or raises")

    async def _send(self, request: "ApiRequest") -> Manifest:
        data, headers = None, {}
        if request.body is not None:
            data = json.dumps(request.body, ensure_ascii=False).encode()
            headers["Content-Type"] = request.content_type
        if token := self._credentials.token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._session.request(
                request.verb, request.path, data=data, headers=headers, params=request.query
            ) as answer:
                text = await answer.read()
                if answer.status >= 300:
                    raise error_of_response(
                        f"{request.verb} {request.path}", answer.status, _json_or_none(text), answer.headers
                    )
                # equal short texts become one object in memory
                found: Manifest = from_json(text, cache_strings="all")
                return found
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the API server does not answer: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request; `kind` is the label of its metric."""

    verb: str
    path: str
    kind: str
    body: Any = None
    content_type: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)


def without_managed_fields(manifest: Manifest) -> Manifest:
    """Remove managedFields, which would be half of a template's size.

    A Deployment keeps the operator's own entry, which tells whether the operator owns the number of workers.
    """
    metadata = manifest.get("metadata") or {}
    managed = metadata.pop("managedFields", None)
    if managed and manifest.get("kind") == "Deployment":
        metadata["managedFields"] = [entry for entry in managed if entry.get("manager") == FIELD_MANAGER]
    return manifest


def _json_or_none(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
