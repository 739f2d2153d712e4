"""One operator writes: a Lease in its namespace, and a fence before every write.

The holder renews its Lease every few seconds. Another operator that is started, on purpose or by mistake,
waits until the Lease was not renewed for its whole duration, by its own clock, and takes it then; one that
ends in order hands it back at once. A holder that cannot renew stops writing before anybody may take over,
and its program ends. Nothing of this guards against a write that is under way at that moment; it does no
harm, because every write is the whole desired state of one object.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from postroom_operator.models import Cluster, ClusterError, Listing, Manifest, Ref, ResourceKind

DURATION_SECONDS = 15
RENEW_SECONDS = 4.0
MARGIN_SECONDS = 3.0
"""The holder stops writing so long before the Lease may be taken."""
LOOK_SECONDS = 2.0


class LeaseClock(Protocol):
    """Time as the lease needs it."""

    def now(self) -> datetime:
        """The wall clock, for people who read the Lease."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for every decision."""
        ...


class LeaseLost(Exception):
    """Another operator holds the Lease, or ours could not be renewed in time."""


class Lease:
    """The right to write."""

    def __init__(self, cluster: Cluster, ref: Ref, holder: str, clock: LeaseClock) -> None:
        self._cluster = cluster
        self._ref = ref
        self._holder = holder
        self._clock = clock
        self._until = 0.0
        self._seen: tuple[Any, float] = (None, 0.0)
        """The Lease's version, and since when it is that."""

    @property
    def held(self) -> bool:
        """Whether we may write now."""
        return self._clock.monotonic() < self._until

    async def acquire(self, waiting: Callable[[str], None]) -> None:
        """Return once the Lease is ours; `waiting` is told once for each other holder."""
        told = ""
        while True:
            try:
                other = await self._try()
            except ClusterError as error:
                other = f"nobody known ({error.message})"
            if other is None:
                return
            if other != told:
                waiting(other)
                told = other
            await asyncio.sleep(LOOK_SECONDS)

    async def keep(self) -> None:
        """Renew for ever; raises LeaseLost."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                other = await asyncio.wait_for(self._try(), max(0.1, self._until - self._clock.monotonic()))
            except (ClusterError, TimeoutError) as error:
                if not self.held:
                    raise LeaseLost(f"the Lease could not be renewed: {error}") from error
                continue
            if other is not None:
                self._until = 0.0
                raise LeaseLost(f"{other} holds the Lease")

    async def release(self) -> None:
        """Hand the Lease back, so that the next one need not wait."""
        if not self.held:
            return
        self._until = 0.0
        lease = await self._cluster.read(self._ref)
        if lease and lease["spec"].get("holderIdentity") == self._holder:
            await self._cluster.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})

    async def _try(self) -> str | None:
        """Take or renew the Lease; None when it is ours, else its holder.

        Conflict: somebody wrote it meanwhile, perhaps only a note on it; the next look says whose it is.
        """
        began = self._clock.monotonic()
        lease = await self._cluster.read(self._ref)
        if lease is None:
            await self._cluster.create(self._ours({}))
        else:
            holder = lease["spec"].get("holderIdentity") or ""
            if holder not in ("", self._holder) and not self._expired(lease, began):
                return holder
            await self._cluster.replace({**lease, **self._ours(lease)})
        self._until = began + DURATION_SECONDS - MARGIN_SECONDS
        return None

    def _expired(self, lease: Manifest, now: float) -> bool:
        """Whether the Lease stayed the same for its whole duration while we looked."""
        version = lease["metadata"].get("resourceVersion")
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or DURATION_SECONDS)

    def _ours(self, lease: Manifest) -> Manifest:
        spec = lease.get("spec") or {}
        now = self._clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        taken = spec.get("holderIdentity") != self._holder
        mine = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": now if taken else spec.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (1 if taken and spec else 0),
        }
        metadata = lease.get("metadata") or {"namespace": self._ref.namespace, "name": self._ref.name}
        return {
            "apiVersion": self._ref.api_version,
            "kind": self._ref.kind,
            "metadata": metadata,
            "spec": {**spec, **mine},
        }


class LeaseFencedCluster:
    """A cluster that can be written to only while the Lease is held; implements cluster.Cluster."""

    def __init__(self, cluster: Cluster, lease: Lease) -> None:
        self._cluster = cluster
        self._lease = lease

    async def read(self, ref: Ref) -> Manifest | None:
        """See the port."""
        return await self._cluster.read(ref)

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        """See the port."""
        return await self._cluster.read_all(kind, namespace, labels)

    async def serves(self, kind: ResourceKind) -> bool:
        """See the port."""
        return await self._cluster.serves(kind)

    async def apply(self, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._fenced().apply(manifest)

    async def delete(self, ref: Ref, uid: str) -> None:
        """See the port."""
        await self._fenced().delete(ref, uid)

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        """See the port."""
        return await self._fenced().write_status(seen, status)

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        """See the port."""
        await self._fenced().annotate(ref, annotations)

    async def scale(self, ref: Ref, replicas: int) -> None:
        """See the port."""
        await self._fenced().scale(ref, replicas)

    async def create(self, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._fenced().create(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._fenced().replace(manifest)

    def _fenced(self) -> Cluster:
        if not self._lease.held:
            raise LeaseLost("the Lease is not held any more")
        return self._cluster
