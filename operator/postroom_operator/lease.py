"""The right to write: a Lease in the operator's namespace, and a fence before every write.

    holder: renews every RENEW_SECONDS       acquireTime, renewTime
            |                                    |
            | renewal fails                      | no renewal for leaseDurationSeconds
            v                                    v
            stops writing MARGIN_SECONDS    -->  another operator takes the Lease
            before the Lease can be taken

A second operator, started on purpose or by mistake, waits until the Lease was not renewed for its whole
duration, by its own clock, and then takes it. An operator that ends in order releases the Lease at once. A
holder that cannot renew raises LeaseLost, and its process ends. A write that is in progress at that moment is
not prevented; it does no harm, because every write is the whole desired state of one object.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from postroom_operator.models import Cluster, ClusterError, Listing, Manifest, Ref, ResourceKind

DURATION_SECONDS = 15
RENEW_SECONDS = 4.0
MARGIN_SECONDS = 3.0
"""The holder stops writing this long before another operator can take the Lease."""
POLL_SECONDS = 2.0


class LeaseClock(Protocol):
    """Time as the lease needs it."""

    def now(self) -> datetime:
        """The wall clock, for the times in the Lease that people read."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for every comparison."""
        ...


class LeaseLost(Exception):
    """Another operator holds the Lease, or the own Lease could not be renewed in time."""


class Lease:
    """The Lease as one operator sees it."""

    def __init__(self, cluster: Cluster, ref: Ref, holder: str, clock: LeaseClock) -> None:
        self._cluster = cluster
        self._ref = ref
        self._holder = holder
        self._clock = clock
        self._until = 0.0
        self._seen: tuple[Any, float] = (None, 0.0)
        """The Lease's version, and the time at which it was first seen."""

    @property
    def held(self) -> bool:
        """Whether this operator may write now."""
        return self._clock.monotonic() < self._until

    async def acquire(self, waiting: Callable[[str], None]) -> None:
        """Return once this operator holds the Lease; `waiting` is called once for each other holder."""
        reported = ""
        while True:
            try:
                other = await self._try()
            except ClusterError as error:
                other = f"unknown ({error.message})"
            if other is None:
                return
            if other != reported:
                waiting(other)
                reported = other
            await asyncio.sleep(POLL_SECONDS)

    async def keep(self) -> None:
        """Renew until cancelled; raises LeaseLost."""
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
        """Give the Lease up, so that the next operator does not wait."""
        if not self.held:
            return
        self._until = 0.0
        lease = await self._cluster.read(self._ref)
        if lease and lease["spec"].get("holderIdentity") == self._holder:
            await self._cluster.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})

    async def _try(self) -> str | None:
        """Take or renew the Lease; returns None when this operator holds it, else the holder.

        Conflict: another client wrote it meanwhile, perhaps only an annotation; the next attempt reads the
        holder.
        """
        began = self._clock.monotonic()
        lease = await self._cluster.read(self._ref)
        if lease is None:
            await self._cluster.create(self._renewed({}))
        else:
            holder = lease["spec"].get("holderIdentity") or ""
            if holder not in ("", self._holder) and not self._expired(lease, began):
                return holder
            await self._cluster.replace({**lease, **self._renewed(lease)})
        self._until = began + DURATION_SECONDS - MARGIN_SECONDS
        return None

    def _expired(self, lease: Manifest, now: float) -> bool:
        """Whether this operator saw the Lease unchanged for its whole duration."""
        version = lease["metadata"].get("resourceVersion")
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or DURATION_SECONDS)

    def _renewed(self, lease: Manifest) -> Manifest:
        """The Lease as this operator writes it."""
        spec = lease.get("spec") or {}
        now = self._clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        taken = spec.get("holderIdentity") != self._holder
        held = {
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
            "spec": {**spec, **held},
        }


class LeaseFencedCluster:
    """Implements Cluster; every write raises LeaseLost unless the Lease is held."""

    def __init__(self, cluster: Cluster, lease: Lease) -> None:
        self._cluster = cluster
        self._lease = lease

    async def read(self, ref: Ref) -> Manifest | None:
        return await self._cluster.read(ref)

    async def read_all(self, kind: ResourceKind, namespace: str = "", labels: str = "") -> Listing:
        return await self._cluster.read_all(kind, namespace, labels)

    async def serves(self, kind: ResourceKind) -> bool:
        return await self._cluster.serves(kind)

    async def apply(self, manifest: Manifest) -> Manifest:
        return await self._fenced().apply(manifest)

    async def delete(self, ref: Ref, uid: str) -> None:
        await self._fenced().delete(ref, uid)

    async def write_status(self, seen: Mapping[str, Any], status: Mapping[str, Any]) -> Manifest:
        return await self._fenced().write_status(seen, status)

    async def annotate(self, ref: Ref, annotations: Mapping[str, str | None]) -> None:
        await self._fenced().annotate(ref, annotations)

    async def scale(self, ref: Ref, replicas: int) -> None:
        await self._fenced().scale(ref, replicas)

    async def create(self, manifest: Manifest) -> Manifest:
        return await self._fenced().create(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        return await self._fenced().replace(manifest)

    def _fenced(self) -> Cluster:
        if not self._lease.held:
            raise LeaseLost("this operator no longer holds the Lease")
        return self._cluster
