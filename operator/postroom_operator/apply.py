"""Carry out a plan: server-side apply, delete, annotate pods, write statuses. Every step can be repeated.

Input: a `Plan` or statuses. Output: a `ReconcileResult`, which counts the writes and holds what the API
server rejected. Failure: a rejected object does not keep the others from being written; an answer that may be
different later (`Conflict`, `Unavailable`) is raised, and the caller's queue repeats the whole reconcile.

The order is the plan's. No Deployment is created while a NetworkPolicy or ConfigMap that has to exist before
it was rejected or belongs to another owner. The answers go into the store at once, so that their echo from
the watch changes nothing.
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
    """What a reconcile wrote, and what was rejected."""

    written: int = 0
    """The number of objects and statuses that were written."""
    refused: tuple[str, ...] = ()
    """What the API server rejected, in its own words."""

    def __add__(self, other: "ReconcileResult") -> "ReconcileResult":
        return ReconcileResult(self.written + other.written, self.refused + other.refused)


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """The next status of a custom resource."""

    manifest: Mapping[str, Any]
    """The object as it was observed."""
    status: Mapping[str, Any]


class Applier:
    """Writes to the cluster and puts the answers into the store."""

    def __init__(
        self, cluster: Cluster, store: ObjectStore, reporter: str, now: Callable[[], datetime]
    ) -> None:
        """`reporter` is the name of the operator's pod, for the Events that it writes."""
        self._cluster = cluster
        self._store = store
        self._reporter = reporter
        self._now = now

    async def apply(self, plan: Plan) -> ReconcileResult:
        """Carry out a plan."""
        reach("planned")
        run = _PlanRun(plan)
        for ref, replicas in plan.scale:
            await run.call(ref, self._cluster.scale(ref, replicas))
            reach("scaled")
        for manifest in plan.apply:
            ref = ref_of(manifest)
            if run.may_apply(ref) and (applied := await run.call(ref, self._cluster.apply(manifest))):
                self._store.put(applied)
            reach("applied")
        for ref, uid in plan.delete:
            await run.call(ref, self._cluster.delete(ref, uid))
            reach("deleted")
        return ReconcileResult(run.written, tuple(run.refused.values()))

    async def annotate_pods(self, pods: Iterable[Ref], annotations: Mapping[str, str]) -> ReconcileResult:
        """Annotate pods, so that their kubelets refresh the volumes now and not within minutes."""
        run = _PlanRun(Plan())
        await _gather(run.call(ref, self._cluster.annotate(ref, annotations)) for ref in pods)
        if run.refused:
            problem = next(iter(run.refused.values()))
            log.warning(
                "cannot annotate pods; they read new templates later", pods=len(run.refused), problem=problem
            )
        reach("annotated")
        return ReconcileResult(run.written)

    async def write_statuses(self, updates: Iterable[StatusUpdate]) -> ReconcileResult:
        """Write the statuses that differ from those in the cluster."""
        changed = [update for update in updates if update.manifest.get("status") != update.status]
        await _gather(self._write_status(update) for update in changed)
        return ReconcileResult(len(changed))

    async def _write_status(self, update: StatusUpdate) -> None:
        try:
            self._store.put(await self._cluster.write_status(update.manifest, update.status))
        except (NotFound, Conflict):
            return  # the object is gone or has changed: its watch event starts another reconcile
        reach("status")
        if transition := ready_transition(update.manifest.get("status"), update.status):
            await self._report(update.manifest, transition)

    async def _report(self, manifest: Mapping[str, Any], transition: ReadyTransition) -> None:
        """Log the transition here and not with the reconcile, which another object's failed write may end."""
        log_at_level = log.warning if transition.is_warning else log.info
        log_at_level(
            "Ready changed",
            object=str(ref_of(manifest)),
            ready=transition.ready,
            reason=transition.reason,
            message=transition.message,
        )
        if transition.event:
            with contextlib.suppress(
                ClusterError
            ):  # a missing Event is no failure; Conflict: it exists already
                await self._cluster.create(
                    event_manifest(manifest, transition.event, self._reporter, self._now())
                )


class _PlanRun:
    """The progress of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._new = plan.new
        self.written = 0
        self.refused = {
            ref: f"{ref} exists and does not belong to Postroom; rename it, or the profile"
            for ref in plan.foreign
        }
        """The reason for each object that was not written."""

    async def call(self, ref: Ref, request: Awaitable[T]) -> T | None:
        """Send a request and return its answer, or None where the API server rejects it."""
        try:
            answer = await request
        except NamespaceTerminating:
            raise
        except Invalid as error:
            self.refused[ref] = f"{ref}: {error.message}"
            return None
        self.written += 1
        return answer

    def may_apply(self, ref: Ref) -> bool:
        """Whether the object's predecessors, and its `/scale` where it has one, were written."""
        missing = [refused for refused in self.refused if _is_needed_by_workers(refused)]
        if missing and ref.kind == "Deployment" and ref in self._new:
            self.refused[ref] = f"{ref} is not created without {' and '.join(map(str, missing))}"
        return ref not in self.refused


def _is_needed_by_workers(ref: Ref) -> bool:
    """Whether workers must not start before this object exists: their NetworkPolicy and their profile."""
    return ref.kind == "NetworkPolicy" or (ref.kind == "ConfigMap" and ref.name.endswith(PROFILE_SUFFIX))


async def _gather(calls: Iterable[Any]) -> None:
    """Run all calls concurrently; raise the first failure after all have ended."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
