"""The status of an SmtpProfile: whether its workers take events and send letters, and if not, what to do.
Pure.

Input: topics, workers' reports, the Deployment and the ScaledObject. Output: conditions, figures and
problems. A condition whose state is not known is Unknown. Ready sums up: first what is wrong, then what is
unknown.

An operator that has just started has polled neither Kafka nor the workers. Until they answer, the conditions
of the last status are kept, so that a restart writes nothing. The workers' conditions are kept only while
their kubelets report them ready, and at most until they were polled in vain for a minute.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postroom.letter.problems import Problem
from postroom_operator.models import TopicState, WorkerReport
from postroom_operator.names import DELIVERY, WORKER_HTTP_PORT
from postroom_operator.status.conditions import (
    CHANGING_EFFECT,
    REPLACING,
    STARTING,
    SUSPENDED,
    SUSPENDING,
    TREATED_AS_SANDBOX,
    StatusCondition,
    build_conditions,
    generation,
    previous_condition,
    problem_condition,
    problem_entries,
    without_empty,
)

WORKER_CONDITIONS = {
    "SecretsReady": "secrets",
    "LedgerReachable": "ledger",
    "KafkaReachable": "kafka",
    "RelayReachable": "relay",
}
"""Condition → the dependency in the workers' reports."""
OPTIONAL_WORKER_CONDITIONS = {
    "CircuitClosed": "circuit",
    "RendererReady": "renderer",
    "SigningReady": "signing",
    "ReturnPathsReady": "bounces",
    "StatusEventsPublished": "status_events",
    "FallbackReady": "fallback",
    "CallbacksReady": "callbacks",
}
"""The same for dependencies that only some profiles have, or only at times."""
INFORMATIONAL = ("StatusEventsPublished", "FallbackReady", "CallbacksReady")
"""Conditions that do not keep letters from being sent."""
REQUIRED = ("TopicReady", "SecretsReady", "LedgerReachable", "WorkersAvailable")
"""Conditions that must be known before a profile is ready. The relay's is not among them: it is known only
after the first letter."""


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """Everything that the status of a profile is computed from."""

    manifest: Mapping[str, Any]
    """The SmtpProfile as it is in the cluster."""
    mode: str
    """The mode that takes effect."""
    guarded: bool = False
    """Whether mode SMTP is treated as Sandbox, because delivery is not allowed in the namespace."""
    problems: tuple[Problem, ...] = ()
    """The problems of the manifest."""
    fallback_problem: Problem | None = None
    """The reason why the fallback profile cannot be used."""
    apply_problem: str = ""
    """What kept the operator from applying the profile's objects."""
    topics: tuple[TopicState, ...] = ()
    reports: tuple[WorkerReport, ...] = ()
    unresponsive: bool = False
    """Whether workers were polled for a minute and none answered."""
    deployment: Mapping[str, Any] | None = None
    scaled_object: Mapping[str, Any] | None = None
    keda_available: bool = False
    templates: int = 0
    """The number of templates that are served."""
    effect_changing: bool = False
    """Whether workers still run that treat events differently than the profile says now."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec as the user wrote it."""
        spec: Mapping[str, Any] = self.manifest.get("spec") or {}
        return spec


def profile_status(facts: ProfileFacts, now: datetime) -> dict[str, Any]:
    """The profile's next status."""
    parts = list(_profile_conditions(facts))
    ready = _profile_ready(facts, {part.type: part for part in parts})
    status = facts.manifest.get("status") or {}
    known = any(topic.partitions or topic.problem for topic in facts.topics)
    topics = [_topic_entry(topic) for topic in facts.topics] if known else status.get("topics")
    lag = {"lag": status["lag"]} if _not_polled_yet(facts) and "lag" in status else {}
    return without_empty(
        {
            "observedGeneration": generation(facts.manifest),
            "conditions": build_conditions([*parts, ready], facts.manifest, now),
            "mode": facts.mode,
            "topics": topics,
            "problems": problem_entries(facts.problems),
        }
    ) | {"templates": facts.templates, **lag, **worker_figures(facts.deployment, facts.reports)}


def _profile_conditions(facts: ProfileFacts) -> Iterator[StatusCondition]:
    topic = _topic_ready(facts.topics)
    yield topic if topic.ok is not None else previous_condition(facts.manifest, topic)
    for type_, dependency in WORKER_CONDITIONS.items():
        reported = reported_condition(type_, dependency, facts.reports)
        yield previous_condition(facts.manifest, reported) if _not_polled_yet(facts) else reported
    for type_, dependency in OPTIONAL_WORKER_CONDITIONS.items():
        if type_ == "FallbackReady" and facts.fallback_problem:
            continue  # reported below: a worker that was started without a fallback does not know the problem
        if any(dependency in report.conditions for report in facts.reports):
            yield reported_condition(type_, dependency, facts.reports)
        elif _not_polled_yet(facts):
            previous = previous_condition(facts.manifest, StatusCondition(type_, None, ""))
            if previous.reason:
                yield previous
    if facts.fallback_problem:
        yield problem_condition("FallbackReady", [facts.fallback_problem])
    yield workers_available(facts.deployment, _workers_before(facts))
    if (facts.spec.get("workers") or {}).get("autoscaling") is not None:
        yield autoscaling_active(
            facts.scaled_object, keda=facts.keda_available, suspended=bool(facts.spec.get("suspend"))
        )
    if facts.spec.get("mode") == "SMTP":
        yield _delivery(facts)


def _workers_before(facts: ProfileFacts) -> str:
    """The last reason of WorkersAvailable; empty where all workers were replaced on purpose since."""
    ready = previous_condition(facts.manifest, StatusCondition("Ready", None, ""))
    if facts.effect_changing or ready.reason in CHANGING_EFFECT:
        return ""
    return previous_condition(facts.manifest, StatusCondition("WorkersAvailable", None, "")).reason


def _not_polled_yet(facts: ProfileFacts) -> bool:
    """Whether workers run and have not answered a poll of this operator yet."""
    status = (facts.deployment or {}).get("status") or {}
    return not facts.reports and not facts.unresponsive and status.get("readyReplicas", 0) > 0


def _topic_entry(topic: TopicState) -> dict[str, Any]:
    """A topic in the status, which also records whether the operator created it.

    The number of partitions is absent while it is unknown.
    """
    return without_empty(
        {"name": topic.name, "partitions": topic.partitions or None, "created": topic.created or None}
    )


def _topic_ready(topics: tuple[TopicState, ...]) -> StatusCondition:
    if not topics:
        return StatusCondition("TopicReady", None, "Pending", "the topics were not looked up yet")
    failed = next((topic for topic in topics if topic.problem), None)
    if failed:
        message = f"{failed.name}: {failed.problem}"
        return StatusCondition("TopicReady", False, failed.reason or "TopicProblem", message)
    missing = next((topic for topic in topics if not topic.partitions), None)
    if missing:
        return StatusCondition(
            "TopicReady", None, "TopicNotFound", f"topic {missing.name} does not exist yet"
        )
    differences = [f"{topic.name}: {difference}" for topic in topics for difference in topic.differences]
    if differences:
        return StatusCondition("TopicReady", True, "DiffersFromProfile", "; ".join(differences))
    return StatusCondition("TopicReady", True, "TopicConfigured", topics[0].name)


def _delivery(facts: ProfileFacts) -> StatusCondition:
    if not facts.guarded:
        return StatusCondition("DeliveryAllowed", True, "NamespaceLabelled")
    return StatusCondition("DeliveryAllowed", False, "NamespaceNotLabelled", _guard_message(facts))


def _guard_message(facts: ProfileFacts) -> str:
    namespace = facts.manifest["metadata"].get("namespace", "default")
    return (
        f"mode SMTP is treated as Sandbox, and letters stay in the sandbox: namespace {namespace} does not "
        f"have the label {DELIVERY}=allowed, which an administrator sets"
    )


def _not_consuming(facts: ProfileFacts) -> StatusCondition | None:
    """The condition Ready where workers take no events because the profile says so."""
    suspended = facts.spec.get("suspend")
    if facts.effect_changing and suspended:
        message = "spec.suspend is set; workers that took events finish their letters and end"
        return StatusCondition("Ready", False, SUSPENDING, message)
    if facts.effect_changing:
        message = f"workers of the previous mode are ending; workers of mode {facts.mode} start after them"
        return StatusCondition("Ready", False, REPLACING, message)
    if suspended:
        message = (
            "spec.suspend is set: events stay on the topic; letters that were deferred before are still sent"
        )
        return StatusCondition("Ready", False, SUSPENDED, message)
    return None


def _profile_ready(facts: ProfileFacts, parts: Mapping[str, StatusCondition]) -> StatusCondition:
    if facts.problems:
        return problem_condition("Ready", facts.problems)
    if facts.apply_problem:
        return StatusCondition("Ready", False, "NotApplied", facts.apply_problem)
    if not_consuming := _not_consuming(facts):
        return not_consuming
    passive = ("DeliveryAllowed", "AutoscalingActive", *INFORMATIONAL)
    for part in parts.values():
        if part.ok is False and part.type not in passive:
            return part.as_type("Ready")
    for type_ in REQUIRED:
        if parts[type_].ok is None:
            return parts[type_].as_type("Ready")
    if facts.guarded:
        missing = parts["SecretsReady"].message
        message = f"{_guard_message(facts)}; {missing}" if missing else _guard_message(facts)
        return StatusCondition("Ready", True, TREATED_AS_SANDBOX, message)
    if (scaling := parts.get("AutoscalingActive")) and scaling.ok is False:
        return StatusCondition("Ready", True, "ServingWithoutAutoscaling", scaling.message)
    return StatusCondition(
        "Ready", True, "Serving", f"workers of mode {facts.mode} take events and send letters"
    )


Fields = Mapping[str, Any]
WERE_RUNNING = frozenset({"Available", "SomeAvailable", "NoneAvailable"})
"""The reasons of WorkersAvailable that say that workers ran at some time."""


def reported_condition(type_: str, dependency: str, reports: Sequence[WorkerReport]) -> StatusCondition:
    """The state of a dependency over all workers: False where it is False for a single worker."""
    by_pod = sorted(reports, key=lambda report: report.pod)
    reported = [report.conditions[dependency] for report in by_pod if dependency in report.conditions]
    failed = [condition for condition in reported if condition.ok is False]
    if failed:
        first = failed[0]
        # without the pod's name, which would change at every restart
        share = "" if len(failed) == len(reported) else f" ({len(failed)} of {len(reported)} workers)"
        return StatusCondition(type_, False, first.reason or "Failed", first.message + share)
    if not reported:
        message = f"no worker was polled yet, or none answers the operator at port {WORKER_HTTP_PORT}"
        return StatusCondition(type_, None, "NoWorkerAnswers", message)
    unknown = next((condition for condition in reported if condition.ok is None), None)
    if unknown:
        return StatusCondition(type_, None, unknown.reason or "Unknown", unknown.message)
    return StatusCondition(type_, True, reported[0].reason or "Ok", reported[0].message)


def workers_available(deployment: Fields | None, before: str = "") -> StatusCondition:
    """Whether at least one worker is available; `before` is the last reason of this condition."""
    if deployment is None:
        return StatusCondition(
            "WorkersAvailable", None, "NotCreated", "the workers' Deployment does not exist yet"
        )
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if wanted == 0:
        message = "replicas is 0: events and due letters wait"
        return StatusCondition("WorkersAvailable", False, "ScaledToZero", message)
    ready = status.get("availableReplicas", 0)
    problem = _rollout_problem(status)
    if ready == 0:
        if problem:
            return StatusCondition("WorkersAvailable", False, problem[0], problem[1])
        if before in WERE_RUNNING:
            message = f"none of {wanted} workers is available now"
            return StatusCondition("WorkersAvailable", False, "NoneAvailable", message)
        return StatusCondition(
            "WorkersAvailable", False, STARTING, f"none of {wanted} workers is available yet"
        )
    message = f"{min(ready, wanted)} of {wanted} workers are available"
    reason = "Available" if ready >= wanted else "SomeAvailable"
    return StatusCondition("WorkersAvailable", True, reason, message + (f"; {problem[1]}" if problem else ""))


def autoscaling_active(scaled_object: Fields | None, *, keda: bool, suspended: bool) -> StatusCondition:
    """Whether KEDA scales the workers."""
    type_ = "AutoscalingActive"
    if not keda:
        message = "KEDA is not installed in this cluster; workers.autoscaling.minReplicas workers run"
        return StatusCondition(type_, False, "KedaMissing", message)
    if suspended:
        return StatusCondition(
            type_, False, "Paused", "the profile is suspended; the number of workers does not change"
        )
    ready = _of_type((scaled_object or {}).get("status") or {}, "Ready")
    if not ready or ready.get("status") == "Unknown":
        return StatusCondition(
            type_, None, "KedaStatusUnknown", "KEDA has not reconciled the ScaledObject yet"
        )
    reason = ready.get("reason") or "Ready"
    return StatusCondition(type_, ready.get("status") == "True", reason, ready.get("message") or "")


def worker_figures(deployment: Fields | None, reports: Sequence[WorkerReport]) -> dict[str, int]:
    """The numbers of workers, of ready workers and of waiting events, where they are known."""
    figures: dict[str, int] = {}
    if deployment is not None:
        status = deployment.get("status") or {}
        figures = {"replicas": status.get("replicas", 0), "readyReplicas": status.get("readyReplicas", 0)}
    waiting = _events_waiting(reports) if len(reports) >= figures.get("readyReplicas", 0) else None
    return figures | ({"lag": round_lag(waiting)} if waiting is not None else {})


def _events_waiting(reports: Sequence[WorkerReport]) -> int | None:
    """The events that wait for all workers, or None where a worker with partitions does not know its lag.

    A worker reports the lag of its own partitions; a suspended worker reports the lag of all partitions. A
    worker without partitions is ignored.
    """
    if any(report.has_partitions and report.lag is None for report in reports):
        return None
    own = [report.lag for report in reports if report.lag is not None and not report.suspended]
    whole = [report.lag for report in reports if report.lag is not None and report.suspended]
    return max([*whole, *([sum(own)] if own else [])], default=None)


def round_lag(lag: int) -> int:
    """Round a lag to two digits, because each change of a status is a write that every watch receives."""
    unit: int = 10 ** max(0, len(str(lag)) - 2)
    return lag // unit * unit


def _rollout_problem(status: Fields) -> tuple[str, str] | None:
    """Why a Deployment does not progress: its pods are rejected, or do not become ready in time."""
    failure = _of_type(status, "ReplicaFailure")
    if failure.get("status") == "True":
        return failure.get("reason") or "ReplicaFailure", failure.get("message") or ""
    progressing = _of_type(status, "Progressing")
    if progressing.get("status") == "False":
        return progressing.get("reason") or "NotProgressing", progressing.get("message") or ""
    return None


def _of_type(status: Fields, type_: str) -> Fields:
    conditions: Sequence[Fields] = status.get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == type_), {})
