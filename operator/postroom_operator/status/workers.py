"""What workers, their Deployment and their autoscaler say of themselves, as conditions and figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from postroom_operator.facts import Report
from postroom_operator.names import WORKERS_HTTP
from postroom_operator.status.conditions import Found

Plain = Mapping[str, Any]
STARTING = "Starting"
WORKED = frozenset({"Available", "SomeAvailable", "NoneAvailable"})
"""What is said of workers that were at work at some time."""


def answered(type_: str, asked: str, reports: Sequence[Report]) -> Found:
    """What the workers say of one thing they need: one that has not got it is enough for no."""
    by_pod = sorted(reports, key=lambda each: each.pod)
    answers = [report.answers[asked] for report in by_pod if asked in report.answers]
    refusals = [answer for answer in answers if answer.ok is False]
    if refusals:
        first = refusals[0]
        # no pod's name: it would change with every restart
        share = "" if len(refusals) == len(answers) else f" ({len(refusals)} of {len(answers)} workers)"
        return Found(type_, False, first.reason or "Failed", first.message + share)
    if not answers:
        message = f"no worker was asked yet, or none answers the operator at port {WORKERS_HTTP}"
        return Found(type_, None, "NoWorkerAnswers", message)
    unknown = next((answer for answer in answers if answer.ok is None), None)
    if unknown:
        return Found(type_, None, unknown.reason or "NotKnownYet", unknown.message)
    return Found(type_, True, answers[0].reason or "Ok", answers[0].message)


def available(deployment: Plain | None, before: str = "") -> Found:
    """Whether at least one worker is at work; `before` is the reason that was given last."""
    if deployment is None:
        return Found("WorkersAvailable", None, "NotMadeYet", "the workers' Deployment is not there yet")
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if wanted == 0:
        message = "no workers are asked for: events and due letters wait"
        return Found("WorkersAvailable", False, "NoneWanted", message)
    ready = status.get("availableReplicas", 0)
    trouble = _trouble(status)
    if ready == 0:
        if trouble:
            return Found("WorkersAvailable", False, trouble[0], trouble[1])
        if before in WORKED:
            message = f"none of {wanted} workers is available any more"
            return Found("WorkersAvailable", False, "NoneAvailable", message)
        return Found("WorkersAvailable", False, STARTING, f"none of {wanted} workers is available yet")
    message = f"{min(ready, wanted)} of {wanted} workers are available"
    reason = "Available" if ready >= wanted else "SomeAvailable"
    return Found("WorkersAvailable", True, reason, message + (f"; {trouble[1]}" if trouble else ""))


def autoscaling(scaled: Plain | None, *, keda: bool, suspended: bool) -> Found:
    """Whether KEDA looks after the number of workers."""
    type_ = "AutoscalingActive"
    if not keda:
        message = "KEDA is not installed in this cluster; workers.autoscaling.minReplicas workers run"
        return Found(type_, False, "KedaMissing", message)
    if suspended:
        return Found(type_, False, "Paused", "the profile is suspended; the number of workers is held")
    ready = _of_type((scaled or {}).get("status") or {}, "Ready")
    if not ready or ready.get("status") == "Unknown":
        return Found(type_, None, "KedaSaysNothing", "KEDA has not looked at the ScaledObject yet")
    reason = ready.get("reason") or "Ready"
    return Found(type_, ready.get("status") == "True", reason, ready.get("message") or "")


def figures(deployment: Plain | None, reports: Sequence[Report]) -> dict[str, int]:
    """How many workers there are and are ready, and how many events wait, where that is known."""
    found: dict[str, int] = {}
    if deployment is not None:
        status = deployment.get("status") or {}
        found = {"replicas": status.get("replicas", 0), "readyReplicas": status.get("readyReplicas", 0)}
    waiting = _waiting(reports) if len(reports) >= found.get("readyReplicas", 0) else None
    return found | ({"lag": rounded(waiting)} if waiting is not None else {})


def _waiting(reports: Sequence[Report]) -> int | None:
    """Events that wait for all workers: each tells of its own partitions, a suspended one of all.

    One that has partitions and cannot tell makes it unknown. One that has none yet leaves them to the others.
    """
    if any(report.reads and report.lag is None for report in reports):
        return None
    own = [report.lag for report in reports if report.lag is not None and not report.suspended]
    whole = [report.lag for report in reports if report.lag is not None and report.suspended]
    return max([*whole, *([sum(own)] if own else [])], default=None)


def rounded(lag: int) -> int:
    """Two digits of a lag: a status is no metric, and each change of it is a write for every watcher."""
    unit: int = 10 ** max(0, len(str(lag)) - 2)
    return lag // unit * unit


def _trouble(status: Plain) -> tuple[str, str] | None:
    """What keeps a Deployment from getting on: its pods are refused, or do not become ready in time."""
    refused = _of_type(status, "ReplicaFailure")
    if refused.get("status") == "True":
        return refused.get("reason") or "ReplicaFailure", refused.get("message") or ""
    progressing = _of_type(status, "Progressing")
    if progressing.get("status") == "False":
        return progressing.get("reason") or "NotProgressing", progressing.get("message") or ""
    return None


def _of_type(status: Plain, type_: str) -> Plain:
    found: Sequence[Plain] = status.get("conditions") or ()
    return next((each for each in found if each.get("type") == type_), {})
