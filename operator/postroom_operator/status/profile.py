"""The status of an SmtpProfile: whether its workers take events and send letters, and if not, what to do.

Topics, workers' reports, the Deployment and the ScaledObject in; conditions, figures and problems out. A
condition that nobody can speak of yet is Unknown. Ready sums up: what is wrong first, then what is unknown.

An operator that has just started has asked neither Kafka nor the workers. What the status says stands until
they answer, so that a restart writes nothing; of workers only while their kubelets say that they are ready,
and not once they have been asked in vain for a minute.

What workers, their Deployment and their autoscaler say of themselves, as conditions and figures.
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
"""Condition → what workers are asked."""
OPTIONAL_WORKER_CONDITIONS = {
    "CircuitClosed": "circuit",
    "RehearsalReady": "rehearsal",
    "SigningReady": "signing",
    "ReturnPathsReady": "bounces",
    "StatusEventsPublished": "status_events",
    "FallbackReady": "fallback",
    "CallbacksReady": "callbacks",
}
"""The same, of what not every profile has, or not at all times."""
INFORMATIONAL = ("StatusEventsPublished", "FallbackReady", "CallbacksReady")
"""What letters do not wait for."""
REQUIRED = ("TopicReady", "SecretsReady", "LedgerReachable", "WorkersAvailable")
"""What has to be known before a profile is called ready; a relay is first asked when a letter goes to it."""


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """All that is known of a profile."""

    manifest: Mapping[str, Any]
    """The SmtpProfile as the cluster has it."""
    mode: str
    """The mode that takes effect."""
    guarded: bool = False
    problems: tuple[Problem, ...] = ()
    """Why the manifest cannot be used."""
    fallback_problem: Problem | None = None
    """Why the fallback that the profile names cannot be used."""
    apply_problem: str = ""
    """What kept the operator from making its objects: the API server's words, or whose they are."""
    topics: tuple[TopicState, ...] = ()
    reports: tuple[WorkerReport, ...] = ()
    unresponsive: bool = False
    """Whether workers were asked for long, and none answered."""
    deployment: Mapping[str, Any] | None = None
    scaled_object: Mapping[str, Any] | None = None
    keda_available: bool = False
    templates: int = 0
    """How many templates are served."""
    effect_changing: bool = False
    """Whether workers are still there that do something else with events than the profile says now."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec as it was written."""
        found: Mapping[str, Any] = self.manifest.get("spec") or {}
        return found


def profile_status(facts: ProfileFacts, now: datetime) -> dict[str, Any]:
    """The profile's next status."""
    parts = list(_profile_conditions(facts))
    found = [*parts, _profile_ready(facts, {each.type: each for each in parts})]
    status = facts.manifest.get("status") or {}
    known = any(each.partitions or each.problem for each in facts.topics)
    topics = [_as_listed(each) for each in facts.topics] if known else status.get("topics")
    lag = {"lag": status["lag"]} if _not_polled_yet(facts) and "lag" in status else {}
    return without_empty(
        {
            "observedGeneration": generation(facts.manifest),
            "conditions": build_conditions(found, facts.manifest, now),
            "mode": facts.mode,
            "topics": topics,
            "problems": problem_entries(facts.problems),
        }
    ) | {"templates": facts.templates, **lag, **worker_figures(facts.deployment, facts.reports)}


def _profile_conditions(facts: ProfileFacts) -> Iterator[StatusCondition]:
    topic = _topic_ready(facts.topics)
    yield topic if topic.ok is not None else previous_condition(facts.manifest, topic)
    for type_, asked in WORKER_CONDITIONS.items():
        found = reported_condition(type_, asked, facts.reports)
        yield previous_condition(facts.manifest, found) if _not_polled_yet(facts) else found
    for type_, asked in OPTIONAL_WORKER_CONDITIONS.items():
        if type_ == "FallbackReady" and facts.fallback_problem:
            continue  # the operator knows better than a worker that was started without one
        if any(asked in report.conditions for report in facts.reports):
            yield reported_condition(type_, asked, facts.reports)
        elif (
            _not_polled_yet(facts)
            and (found := previous_condition(facts.manifest, StatusCondition(type_, None, ""))).reason
        ):
            yield found
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
    """What was said last of the workers; nothing where all were replaced since, and on purpose."""
    if (
        facts.effect_changing
        or previous_condition(facts.manifest, StatusCondition("Ready", None, "")).reason in CHANGING_EFFECT
    ):
        return ""
    return previous_condition(facts.manifest, StatusCondition("WorkersAvailable", None, "")).reason


def _not_polled_yet(facts: ProfileFacts) -> bool:
    """Whether workers are at work and have not answered us yet."""
    status = (facts.deployment or {}).get("status") or {}
    return not facts.reports and not facts.unresponsive and status.get("readyReplicas", 0) > 0


def _as_listed(topic: TopicState) -> dict[str, Any]:
    """A topic in the status, which is also the record of whether it was made for the profile.

    How many partitions it has is not said while nobody can tell.
    """
    return without_empty(
        {"name": topic.name, "partitions": topic.partitions or None, "created": topic.created or None}
    )


def _topic_ready(topics: tuple[TopicState, ...]) -> StatusCondition:
    if not topics:
        return StatusCondition("TopicReady", None, "Pending", "Kafka was not asked yet")
    wrong = next((each for each in topics if each.problem), None)
    if wrong:
        return StatusCondition(
            "TopicReady", False, wrong.reason or "TopicProblem", f"{wrong.name}: {wrong.problem}"
        )
    missing = next((each for each in topics if not each.partitions), None)
    if missing:
        return StatusCondition("TopicReady", None, "TopicNotFound", f"{missing.name} is not there yet")
    differing = [f"{each.name}: {word}" for each in topics for word in each.differences]
    if differing:
        return StatusCondition("TopicReady", True, "DiffersFromProfile", "; ".join(differing))
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
    """Why workers take no events, because somebody wants it so."""
    suspended = facts.spec.get("suspend")
    if facts.effect_changing and suspended:
        message = "spec.suspend is set; the workers that took events are ending, with the letters under way"
        return StatusCondition("Ready", False, SUSPENDING, message)
    if facts.effect_changing:
        message = f"workers of another mode are ending, or suspended ones; those of mode {facts.mode} follow"
        return StatusCondition("Ready", False, REPLACING, message)
    if suspended:
        message = "spec.suspend is set: events stay on the topic; letters that were deferred before still go"
        return StatusCondition("Ready", False, SUSPENDED, message)
    return None


def _profile_ready(facts: ProfileFacts, parts: Mapping[str, StatusCondition]) -> StatusCondition:
    if facts.problems:
        return problem_condition("Ready", facts.problems)
    if facts.apply_problem:
        return StatusCondition("Ready", False, "NotApplied", facts.apply_problem)
    if held := _not_consuming(facts):
        return held
    passive = ("DeliveryAllowed", "AutoscalingActive", *INFORMATIONAL)
    for each in parts.values():
        if each.ok is False and each.type not in passive:
            return each.as_type("Ready")
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
"""What is said of workers that were at work at some time."""


def reported_condition(type_: str, asked: str, reports: Sequence[WorkerReport]) -> StatusCondition:
    """What the workers say of one thing they need: one that has not got it is enough for no."""
    by_pod = sorted(reports, key=lambda each: each.pod)
    answers = [report.conditions[asked] for report in by_pod if asked in report.conditions]
    refusals = [answer for answer in answers if answer.ok is False]
    if refusals:
        first = refusals[0]
        # no pod's name: it would change with every restart
        share = "" if len(refusals) == len(answers) else f" ({len(refusals)} of {len(answers)} workers)"
        return StatusCondition(type_, False, first.reason or "Failed", first.message + share)
    if not answers:
        message = f"no worker was asked yet, or none answers the operator at port {WORKER_HTTP_PORT}"
        return StatusCondition(type_, None, "NoWorkerAnswers", message)
    unknown = next((answer for answer in answers if answer.ok is None), None)
    if unknown:
        return StatusCondition(type_, None, unknown.reason or "Unknown", unknown.message)
    return StatusCondition(type_, True, answers[0].reason or "Ok", answers[0].message)


def workers_available(deployment: Fields | None, before: str = "") -> StatusCondition:
    """Whether at least one worker is at work; `before` is the reason that was given last."""
    if deployment is None:
        return StatusCondition(
            "WorkersAvailable", None, "NotCreated", "the workers' Deployment is not there yet"
        )
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if wanted == 0:
        message = "no workers are asked for: events and due letters wait"
        return StatusCondition("WorkersAvailable", False, "ScaledToZero", message)
    ready = status.get("availableReplicas", 0)
    trouble = _rollout_problem(status)
    if ready == 0:
        if trouble:
            return StatusCondition("WorkersAvailable", False, trouble[0], trouble[1])
        if before in WERE_RUNNING:
            message = f"none of {wanted} workers is available any more"
            return StatusCondition("WorkersAvailable", False, "NoneAvailable", message)
        return StatusCondition(
            "WorkersAvailable", False, STARTING, f"none of {wanted} workers is available yet"
        )
    message = f"{min(ready, wanted)} of {wanted} workers are available"
    reason = "Available" if ready >= wanted else "SomeAvailable"
    return StatusCondition("WorkersAvailable", True, reason, message + (f"; {trouble[1]}" if trouble else ""))


def autoscaling_active(scaled: Fields | None, *, keda: bool, suspended: bool) -> StatusCondition:
    """Whether KEDA looks after the number of workers."""
    type_ = "AutoscalingActive"
    if not keda:
        message = "KEDA is not installed in this cluster; workers.autoscaling.minReplicas workers run"
        return StatusCondition(type_, False, "KedaMissing", message)
    if suspended:
        return StatusCondition(
            type_, False, "Paused", "the profile is suspended; the number of workers is held"
        )
    ready = _of_type((scaled or {}).get("status") or {}, "Ready")
    if not ready or ready.get("status") == "Unknown":
        return StatusCondition(
            type_, None, "KedaStatusUnknown", "KEDA has not looked at the ScaledObject yet"
        )
    reason = ready.get("reason") or "Ready"
    return StatusCondition(type_, ready.get("status") == "True", reason, ready.get("message") or "")


def worker_figures(deployment: Fields | None, reports: Sequence[WorkerReport]) -> dict[str, int]:
    """How many workers there are and are ready, and how many events wait, where that is known."""
    found: dict[str, int] = {}
    if deployment is not None:
        status = deployment.get("status") or {}
        found = {"replicas": status.get("replicas", 0), "readyReplicas": status.get("readyReplicas", 0)}
    waiting = _events_waiting(reports) if len(reports) >= found.get("readyReplicas", 0) else None
    return found | ({"lag": round_lag(waiting)} if waiting is not None else {})


def _events_waiting(reports: Sequence[WorkerReport]) -> int | None:
    """Events that wait for all workers: each tells of its own partitions, a suspended one of all.

    One that has partitions and cannot tell makes it unknown. One that has none yet leaves them to the others.
    """
    if any(report.has_partitions and report.lag is None for report in reports):
        return None
    own = [report.lag for report in reports if report.lag is not None and not report.suspended]
    whole = [report.lag for report in reports if report.lag is not None and report.suspended]
    return max([*whole, *([sum(own)] if own else [])], default=None)


def round_lag(lag: int) -> int:
    """Two digits of a lag: a status is no metric, and each change of it is a write for every watcher."""
    unit: int = 10 ** max(0, len(str(lag)) - 2)
    return lag // unit * unit


def _rollout_problem(status: Fields) -> tuple[str, str] | None:
    """What keeps a Deployment from getting on: its pods are refused, or do not become ready in time."""
    refused = _of_type(status, "ReplicaFailure")
    if refused.get("status") == "True":
        return refused.get("reason") or "ReplicaFailure", refused.get("message") or ""
    progressing = _of_type(status, "Progressing")
    if progressing.get("status") == "False":
        return progressing.get("reason") or "NotProgressing", progressing.get("message") or ""
    return None


def _of_type(status: Fields, type_: str) -> Fields:
    found: Sequence[Fields] = status.get("conditions") or ()
    return next((each for each in found if each.get("type") == type_), {})
