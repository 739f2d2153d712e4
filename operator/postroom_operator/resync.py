"""Everything listed anew, now and then: whatever the watches missed is made good.

In: the API server. Out: the store as the cluster is, and every key on the queue. The first listing is what
the operator begins with; until it is whole nothing is reconciled, because a template that was not seen yet
looks like one that was deleted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from postroom_operator.models import API_VERSION, Cluster, ClusterError, Listing, NotFound, Ref, ResourceKind
from postroom_operator.names import MANAGED_SELECTOR
from postroom_operator.store import ObjectStore, ReconcileKey

OWN = tuple(ResourceKind(API_VERSION, kind) for kind in ("EmailTemplate", "EmailLayout", "SmtpProfile"))
MADE = (
    ResourceKind("v1", "ConfigMap"),
    ResourceKind("v1", "Service"),
    ResourceKind("v1", "Pod"),
    ResourceKind("apps/v1", "Deployment"),
    ResourceKind("networking.k8s.io/v1", "NetworkPolicy"),
    ResourceKind("policy/v1", "PodDisruptionBudget"),
)
KEDA = tuple(ResourceKind("keda.sh/v1alpha1", kind) for kind in ("ScaledObject", "TriggerAuthentication"))
NAMESPACE = ResourceKind("v1", "Namespace")
FIRST_RETRY_SECONDS = 3.0
GUARD_SECONDS = 15.0
"""How often the labels of its namespaces are read by an operator that may not watch them."""

Wake = Callable[[set[ReconcileKey], set[ReconcileKey]], None]
"""Which keys want work, and which of them first."""

log = structlog.get_logger("postroom.operator")


@dataclass(slots=True)
class Addons:
    """What the cluster offers beside Kubernetes itself."""

    keda: bool = False


class Resync:
    """Lists the cluster."""

    def __init__(self, cluster: Cluster, store: ObjectStore, namespaces: Sequence[str], wake: Wake) -> None:
        """`namespaces`: those to look after; none means all."""
        self._cluster = cluster
        self._store = store
        self._namespaces = namespaces
        self._wake = wake
        self.addons = Addons()

    async def initial(self) -> None:
        """List until it succeeds; the CRDs may not be there yet."""
        told = ""
        while True:
            try:
                await self.once()
            except ClusterError as error:
                hint = "; are Postroom's CRDs installed?" if isinstance(error, NotFound) else ""
                if (said := f"{error.message}{hint}") != told:
                    log.warning("the cluster cannot be listed yet; trying again", problem=said)
                    told = said
                await asyncio.sleep(FIRST_RETRY_SECONDS)
            else:
                return

    async def once(self) -> None:
        """List everything, and put every key on the queue."""
        woken: set[ReconcileKey] = set()
        self.addons.keda = await self._cluster.serves(KEDA[0])
        for place in self._namespaces or ("",):
            for kind in OWN:
                woken |= self._store.replace(kind, place, await self._cluster.read_all(kind, place))
            for kind in (*MADE, *(KEDA if self.addons.keda else ())):
                listing = await self._cluster.read_all(kind, place, MANAGED_SELECTOR)
                woken |= self._store.replace(kind, place, listing)
        woken |= await self._look_at_namespaces()
        self._store.forget_deletions()
        self._wake(woken | self._store.keys(), self._store.urgent_keys())

    async def run(self, every: float, synced: Callable[[], None]) -> None:
        """Do so every so many seconds; `synced` is told of each success."""
        await _for_ever(every, self._again, synced)

    async def poll_namespaces(self) -> None:
        """Where namespaces may not be watched, read the labels of our own now and then."""
        if self._namespaces:
            await _for_ever(GUARD_SECONDS, self._guard, lambda: None)
        await asyncio.Event().wait()

    async def _again(self) -> None:
        try:
            await self.once()
        except ClusterError as error:
            log.warning("the cluster could not be listed", problem=error.message)
            raise

    async def _guard(self) -> None:
        found = await self._look_at_namespaces()
        self._wake(found, found)

    async def _look_at_namespaces(self) -> set[ReconcileKey]:
        if not self._namespaces:
            return self._store.replace(NAMESPACE, "", await self._cluster.read_all(NAMESPACE))
        found = [await self._cluster.read(Ref("v1", "Namespace", "", name)) for name in self._namespaces]
        there = tuple(namespace for namespace in found if namespace)
        version = max((int(each["metadata"]["resourceVersion"]) for each in there), default=0)
        return self._store.replace(NAMESPACE, "", Listing(there, version))


async def _for_ever(every: float, work: Callable[[], Awaitable[None]], done: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(every)
        try:
            await work()
        except ClusterError:
            continue
        done()
