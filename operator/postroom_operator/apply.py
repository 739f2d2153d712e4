"""Carry a plan out: server-side apply, delete, and what goes with it. Every step may be done again.

In the plan's order, because a worker must not start before its walls are up: no Deployment is made while what
has to be there before it is refused, or somebody else's. Otherwise what the API server refuses is that
object's: it is said, and the others are seen to. What it cannot answer now is raised, and the whole is tried
again. What comes back is seen at once, so that the watch's echo is no news.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import structlog

from postroom.failpoint import reach
from postroom_operator.diff import Plan
from postroom_operator.models import (
    Cluster,
    ClusterError,
    Conflict,
    Invalid,
    NamespaceTerminating,
    NotFound,
    Ref,
    ref_of,
)
from postroom_operator.names import PROFILE_SUFFIX
from postroom_operator.status.conditions import ReadyTransition, event_manifest, ready_transition
from postroom_operator.store import ObjectStore

T = TypeVar("T")
log = structlog.get_logger("postroom.operator")


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What a reconcile came to."""

    written: int = 0
    """Objects and statuses that were written."""
    refused: tuple[str, ...] = ()
    """What the API server does not take, in its words."""

    def __add__(self, other: "ReconcileResult") -> "ReconcileResult":
        return ReconcileResult(self.written + other.written, self.refused + other.refused)


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """A status to write to one of our own objects."""

    manifest: Mapping[str, Any]
    status: Mapping[str, Any]


class Applier:
    """Writes to the cluster, and keeps what it answers."""

    def __init__(
        self, cluster: Cluster, store: ObjectStore, reporter: str, now: Callable[[], datetime]
    ) -> None:
        """`reporter` is the operator's pod, in whose name Events are written."""
        self._cluster = cluster
        self._store = store
        self._reporter = reporter
        self._now = now

    async def apply(self, plan: Plan) -> ReconcileResult:
        """Carry a plan out."""
        reach("planned")
        errand = _PlanRun(plan)
        for ref, replicas in plan.scale:
            await errand.go(ref, self._cluster.scale(ref, replicas))
            reach("scaled")
        for manifest in plan.apply:
            ref = ref_of(manifest)
            if errand.may_apply(ref) and (made := await errand.go(ref, self._cluster.apply(manifest))):
                self._store.put(made)
            reach("applied")
        for ref, uid in plan.delete:
            await errand.go(ref, self._cluster.delete(ref, uid))
            reach("deleted")
        return ReconcileResult(errand.written, tuple(errand.refused.values()))

    async def annotate_pods(self, pods: Iterable[Ref], annotations: Mapping[str, str]) -> ReconcileResult:
        """Annotate pods, so that their kubelets look at their volumes now; others look within minutes."""
        errand = _PlanRun(Plan())
        await _all(errand.go(ref, self._cluster.annotate(ref, annotations)) for ref in pods)
        if errand.refused:
            problem = next(iter(errand.refused.values()))
            log.warning("pods cannot be told of new templates", pods=len(errand.refused), problem=problem)
        reach("annotated")
        return ReconcileResult(errand.written)

    async def write_statuses(self, statuses: Iterable[StatusUpdate]) -> ReconcileResult:
        """Write the statuses that say something else than the object's status does."""
        changed = [each for each in statuses if each.manifest.get("status") != each.status]
        await _all(self._write(each) for each in changed)
        return ReconcileResult(len(changed))

    async def _write(self, each: StatusUpdate) -> None:
        try:
            self._store.put(await self._cluster.write_status(each.manifest, each.status))
        except (NotFound, Conflict):
            return  # it is gone, or has changed since: its news are on the way, and with them another status
        reach("status")
        if turned := ready_transition(each.manifest.get("status"), each.status):
            await self._tell(each.manifest, turned)

    async def _tell(self, manifest: Mapping[str, Any], turned: ReadyTransition) -> None:
        """Log it here, not where reconciles are logged: a neighbour's write that fails must not hide it."""
        say = log.warning if turned.is_warning else log.info
        said = {"ready": turned.ready, "reason": turned.reason, "message": turned.message}
        say("Ready changed", object=str(ref_of(manifest)), **said)
        if turned.event:
            with contextlib.suppress(ClusterError):  # a word too few is no failure; Conflict: it was said
                await self._cluster.create(
                    event_manifest(manifest, turned.event, self._reporter, self._now())
                )


class _PlanRun:
    """How far a plan is carried out."""

    def __init__(self, plan: Plan) -> None:
        self._new = plan.new
        self.written = 0
        self.refused = {
            ref: f"{ref} is there and is somebody else's; rename it, or the profile" for ref in plan.foreign
        }
        """Why not, by object."""

    async def go(self, ref: Ref, call: Awaitable[T]) -> T | None:
        """Make a call, and what came back; None where it is refused, which is kept."""
        try:
            found = await call
        except NamespaceTerminating:
            raise
        except Invalid as error:
            self.refused[ref] = f"{ref}: {error.message}"
            return None
        self.written += 1
        return found

    def may_apply(self, ref: Ref) -> bool:
        """Whether what has to come before it has been done; where a number was to be kept, that as well."""
        missing = [each for each in self.refused if _comes_before_workers(each)]
        if missing and ref.kind == "Deployment" and ref in self._new:
            self.refused[ref] = f"{ref} is not made without {' and '.join(map(str, missing))}"
        return ref not in self.refused


def _comes_before_workers(ref: Ref) -> bool:
    """Whether workers must not start without it: their walls, and what they read at their start."""
    return ref.kind == "NetworkPolicy" or (ref.kind == "ConfigMap" and ref.name.endswith(PROFILE_SUFFIX))


async def _all(calls: Iterable[Any]) -> None:
    """All of them at once; the first failure is raised when each has had its turn."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
