"""The API server over HTTP: implements `cluster.Cluster`.

Server-side apply with our field manager, forced: a field that we send is ours. An answer that says later
(429, 5xx) and a line that dropped are tried again a few times, with what `Retry-After` asks; then the
caller's queue takes over. Objects come back without the bookkeeping of field managers, which would be half of
their size.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from pydantic_core import from_json

from postroom_operator.adapters.access import Access
from postroom_operator.adapters.kinds import collection, item, root
from postroom_operator.adapters.refusals import refusal
from postroom_operator.cluster import (
    FIELD_MANAGER,
    Absent,
    ClusterError,
    Conflict,
    Kind,
    Listing,
    Manifest,
    Ref,
    Unavailable,
    ref_of,
)

PAGE = 500
CONNECTIONS = 12
"""More bring nothing, and each takes a quarter of a megabyte for its TLS alone."""
TRIES = 4
PATIENCE = 10.0
"""Longest wait between two tries; what the server asks beyond it is the queue's to wait."""
TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
OURS = {"fieldManager": FIELD_MANAGER}
Count = Callable[[str, str, str], None]
"""Told of each request: verb, kind, outcome (`ok` or the status)."""


class KubernetesCluster:
    """Implements cluster.Cluster; use as an async context manager."""

    def __init__(self, access: Access, count: Count, chance: Callable[[], float]) -> None:
        self._access = access
        self._count = count
        self._chance = chance
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._access.tls(), keepalive_timeout=60)
        self._session = aiohttp.ClientSession(self._access.server, connector=connector, timeout=TIMEOUT)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def read(self, ref: Ref) -> Manifest | None:
        """See the port."""
        try:
            return await self._ask(Request("GET", item(ref), ref.kind))
        except Absent:
            return None

    async def read_all(self, kind: Kind, namespace: str = "", labels: str = "") -> Listing:
        """See the port. A list that grew too old between two pages begins anew."""
        for _ in range(TRIES):
            try:
                return await self._read_pages(kind, namespace, labels)
            except Absent as error:
                if error.status != 410:
                    raise
        raise Unavailable(f"the list of {kind} was too old again and again", 410)

    async def serves(self, kind: Kind) -> bool:
        """See the port."""
        try:
            found = await self._ask(Request("GET", root(kind.api_version), "APIResourceList"))
        except Absent:
            return False
        return any(each["kind"] == kind.kind for each in found.get("resources", ()))

    async def apply(self, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._apply(item(ref_of(manifest)), manifest)

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        """See the port. The precondition is the version: a uid is ignored where only a status goes."""
        ref, version = ref_of(seen), seen["metadata"]["resourceVersion"]
        metadata = {"name": ref.name, "namespace": ref.namespace, "resourceVersion": version}
        manifest = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "status": status}
        return await self._apply(f"{item(ref)}/status", manifest)

    async def delete(self, ref: Ref, uid: str) -> None:
        """See the port."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._ask(Request("DELETE", item(ref), ref.kind, body))
        except (Absent, Conflict):
            return

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        """See the port."""
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            await self._ask(Request("PATCH", item(ref), ref.kind, body, MERGE, OURS))
        except Absent:
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
        await self._ask(Request("PATCH", f"{item(ref)}/scale", ref.kind, body, APPLY, manager))

    async def create(self, manifest: Manifest) -> Manifest:
        """See the port."""
        ref = ref_of(manifest)
        path = collection(Kind(ref.api_version, ref.kind), ref.namespace)
        return await self._ask(Request("POST", path, ref.kind, manifest, query=OURS))

    async def replace(self, manifest: Manifest) -> Manifest:
        """See the port."""
        ref = ref_of(manifest)
        return await self._ask(Request("PUT", item(ref), ref.kind, manifest, query=OURS))

    async def _apply(self, path: str, manifest: Manifest) -> Manifest:
        query = {**OURS, "force": "true"}
        return await self._ask(Request("PATCH", path, manifest["kind"], manifest, APPLY, query))

    async def _read_pages(self, kind: Kind, namespace: str, labels: str) -> Listing:
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        items: list[Manifest] = []
        while True:
            page = await self._ask(Request("GET", collection(kind, namespace), kind.kind, query=query))
            named = {"apiVersion": kind.api_version, "kind": kind.kind}
            items += [stripped(named | each) for each in page["items"]]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(tuple(items), int(metadata["resourceVersion"]))
            query["continue"] = metadata["continue"]

    async def _ask(self, request: "Request") -> Manifest:
        """One request, tried again while that may help."""
        tries = TRIES if request.verb in ("GET", "PATCH", "DELETE") else 1
        for attempt in range(1, tries + 1):
            try:
                answer = await self._send(request)
            except ClusterError as error:
                self._count(request.verb, request.kind, str(error.status or "unreachable"))
                wait = max(error.retry_after or 0.0, 0.2 * 2**attempt * (0.5 + self._chance()))
                if not isinstance(error, Unavailable) or attempt == tries or wait > PATIENCE:
                    raise
                await asyncio.sleep(wait)
            else:
                self._count(request.verb, request.kind, "ok")
                return stripped(answer)
        raise AssertionError("the last try returns or raises")

    async def _send(self, request: "Request") -> Manifest:
        data, headers = None, {}
        if request.body is not None:
            data = json.dumps(request.body, ensure_ascii=False).encode()
            headers["Content-Type"] = request.form
        if token := self._access.token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._session.request(
                request.verb, request.path, data=data, headers=headers, params=request.query
            ) as answer:
                text = await answer.read()
                if answer.status >= 300:
                    asked = f"{request.verb} {request.path}"
                    raise refusal(asked, answer.status, _json(text), answer.headers)
                # the same short text is one object in memory, however many objects have it
                found: Manifest = from_json(text, cache_strings="all")
                return found
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"no answer of the API server: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `kind` is what it is counted under."""

    verb: str
    path: str
    kind: str
    body: Any = None
    form: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)


def stripped(manifest: Manifest) -> Manifest:
    """Without the bookkeeping of who owns which field, which would be half of what a template weighs.

    A Deployment keeps ours: it tells whether the number of workers is still our own.
    """
    metadata = manifest.get("metadata") or {}
    managed = metadata.pop("managedFields", None)
    if managed and manifest.get("kind") == "Deployment":
        metadata["managedFields"] = [each for each in managed if each.get("manager") == FIELD_MANAGER]
    return manifest


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
