"""The periodic listing: whatever the watches missed is corrected.

Input: the API server. Output: the store as the cluster is, and every key on the queue. The operator begins
with the first listing and reconciles nothing before it is complete, because a template that was not listed
yet looks like a deleted one. A failed listing is logged and repeated at the next interval.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from postroom_operator.models import (
    CREATED_KINDS,
    CUSTOM_RESOURCES,
    KEDA_KINDS,
    NAMESPACE,
    Cluster,
    ClusterError,
    Listing,
    NotFound,
    Ref,
    version_of,
)
from postroom_operator.names import MANAGED_SELECTOR
from postroom_operator.store import ObjectStore, ReconcileKey

FIRST_RETRY_SECONDS = 3.0
POLL_SECONDS = 15.0
"""The interval at which the labels of its namespaces are read by an operator that may not watch them."""

Wake = Callable[[set[ReconcileKey], set[ReconcileKey]], None]
"""Takes the keys to reconcile, and those of them that are urgent."""

log = structlog.get_logger("postroom.operator")


@dataclass(slots=True)
class Addons:
    """What is installed in the cluster beside Kubernetes itself."""

    keda: bool = False


class Resync:
    """Lists the cluster, once at the start and then periodically."""

    def __init__(self, cluster: Cluster, store: ObjectStore, namespaces: Sequence[str], wake: Wake) -> None:
        """`namespaces` are those to list; none means all."""
        self._cluster = cluster
        self._store = store
        self._namespaces = namespaces
        self._wake = wake
        self.addons = Addons()

    async def initial(self) -> None:
        """List until it succeeds; the CRDs may not be installed yet."""
        logged = ""
        while True:
            try:
                await self.once()
            except ClusterError as error:
                hint = "; are Postroom's CRDs installed?" if isinstance(error, NotFound) else ""
                if (problem := f"{error.message}{hint}") != logged:
                    log.warning("cannot list the cluster yet; will retry", problem=problem)
                    logged = problem
                await asyncio.sleep(FIRST_RETRY_SECONDS)
            else:
                return

    async def once(self) -> None:
        """List everything and put every key on the queue."""
        keys: set[ReconcileKey] = set()
        self.addons.keda = await self._cluster.serves(KEDA_KINDS[0])
        for namespace in self._namespaces or ("",):
            for kind in CUSTOM_RESOURCES:
                keys |= self._store.replace(kind, namespace, await self._cluster.read_all(kind, namespace))
            for kind in (*CREATED_KINDS, *(KEDA_KINDS if self.addons.keda else ())):
                listing = await self._cluster.read_all(kind, namespace, MANAGED_SELECTOR)
                keys |= self._store.replace(kind, namespace, listing)
        keys |= await self._list_namespaces()
        self._store.forget_deletions()
        self._wake(keys | self._store.keys(), self._store.urgent_keys())

    async def run(self, interval: float, synced: Callable[[], None]) -> None:
        """List at an interval in seconds; `synced` is called after each success."""
        await _repeat(interval, self._list_again, synced)

    async def poll_namespaces(self) -> None:
        """Where namespaces cannot be watched, read the labels of the operator's own ones periodically."""
        if self._namespaces:
            await _repeat(POLL_SECONDS, self._poll_namespaces, lambda: None)
        await asyncio.Event().wait()

    async def _list_again(self) -> None:
        try:
            await self.once()
        except ClusterError as error:
            log.warning("listing the cluster failed; will retry", problem=error.message)
            raise

    async def _poll_namespaces(self) -> None:
        keys = await self._list_namespaces()
        self._wake(keys, keys)

    async def _list_namespaces(self) -> set[ReconcileKey]:
        if not self._namespaces:
            return self._store.replace(NAMESPACE, "", await self._cluster.read_all(NAMESPACE))
        found = [await self._cluster.read(Ref("v1", "Namespace", "", name)) for name in self._namespaces]
        existing = tuple(namespace for namespace in found if namespace)
        version = max((version_of(namespace) for namespace in existing), default=0)
        return self._store.replace(NAMESPACE, "", Listing(existing, version))


async def _repeat(interval: float, work: Callable[[], Awaitable[None]], done: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except ClusterError:
            continue
        done()
