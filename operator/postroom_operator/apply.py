"""Carry a plan out: server-side apply, delete, and what goes with it. Every step may be done again.

In the plan's order, because a worker must not start before its walls are up. What the API server refuses is
that object's: it is said, and the others are applied. What it cannot answer now is raised, and the whole is
tried again. What comes back is seen at once, so that the watch's echo is no news.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from postroom.failpoint import reach
from postroom_operator.cluster import (
    Absent,
    Cluster,
    ClusterError,
    Conflict,
    Ending,
    Ref,
    Refused,
    ref_of,
)
from postroom_operator.diff import Plan
from postroom_operator.status import Turn, event, turn
from postroom_operator.store import Store

log = structlog.get_logger("postroom.operator")


@dataclass(frozen=True, slots=True)
class Done:
    """What a reconcile came to."""

    written: int = 0
    """Objects and statuses that were written."""
    refused: tuple[str, ...] = ()
    """What the API server does not take, in its words."""

    def __add__(self, other: "Done") -> "Done":
        return Done(self.written + other.written, self.refused + other.refused)


@dataclass(frozen=True, slots=True)
class Status:
    """A status to write to one of our own objects."""

    of: Mapping[str, Any]
    status: Mapping[str, Any]


class Hand:
    """Writes to the cluster, and keeps what it answers."""

    def __init__(self, cluster: Cluster, store: Store, reporter: str, now: Callable[[], datetime]) -> None:
        """`reporter` is the operator's pod, in whose name Events are written."""
        self._cluster = cluster
        self._store = store
        self._reporter = reporter
        self._now = now

    async def apply(self, plan: Plan) -> Done:
        """Carry a plan out."""
        reach("planned")
        refused = [
            f"{ref} is there and is somebody else's; rename it, or the profile" for ref in plan.foreign
        ]
        for ref, replicas in plan.scale:
            await self._cluster.scale(ref, replicas)
            reach("scaled")
        for manifest in plan.apply:
            try:
                self._store.put(await self._cluster.apply(manifest))
            except Ending:
                raise
            except Refused as error:
                refused.append(f"{ref_of(manifest)}: {error.message}")
            reach("applied")
        for ref, uid in plan.delete:
            await self._cluster.delete(ref, uid)
            reach("deleted")
        written = len(plan.scale) + len(plan.apply) + len(plan.delete) + len(plan.foreign) - len(refused)
        return Done(written, tuple(refused))

    async def tell_pods(self, pods: Iterable[Ref], annotations: Mapping[str, str]) -> Done:
        """Annotate pods, so that their kubelets look at their volumes now."""
        refs = [*pods]
        await _all(self._cluster.annotate(ref, annotations) for ref in refs)
        reach("told")
        return Done(len(refs))

    async def write(self, statuses: Iterable[Status]) -> Done:
        """Write the statuses that say something else than the object's status does."""
        changed = [each for each in statuses if each.of.get("status") != each.status]
        await _all(self._write(each) for each in changed)
        return Done(len(changed))

    async def _write(self, each: Status) -> None:
        try:
            self._store.put(await self._cluster.write_status(each.of, each.status))
        except (Absent, Conflict):
            return  # it is gone, or has changed since: its news are on the way, and with them another status
        reach("status")
        if turned := turn(each.of.get("status"), each.status):
            await self._tell(each.of, turned)

    async def _tell(self, manifest: Mapping[str, Any], turned: Turn) -> None:
        """Log it here, not where reconciles are logged: a neighbour's write that fails must not hide it."""
        say = log.warning if turned.grave else log.info
        said = {"ready": turned.ready, "reason": turned.reason, "message": turned.message}
        say("Ready changed", object=str(ref_of(manifest)), **said)
        if turned.announcement:
            with contextlib.suppress(ClusterError):  # a word too few is no failure; Conflict: it was said
                await self._cluster.create(event(manifest, turned.announcement, self._reporter, self._now()))


async def _all(calls: Iterable[Any]) -> None:
    """All of them at once; the first failure is raised when each has had its turn."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
