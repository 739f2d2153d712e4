"""The status of an SmtpProfile: whether its workers take events and send letters, and if not, what to do.

Topics, workers' reports, the Deployment and the ScaledObject in; conditions, figures and problems out. A
condition that nobody can speak of yet is Unknown. Ready sums up: what is wrong first, then what is unknown.

An operator that has just started has asked neither Kafka nor the workers. What the status says stands until
they answer, so that a restart writes nothing; of workers only while their kubelets say that they are ready,
and not once they have been asked in vain for a minute.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postroom.letter.problems import Problem
from postroom_operator.facts import Report, Topic
from postroom_operator.names import DELIVERY
from postroom_operator.status.conditions import (
    Found,
    blame,
    conditions,
    generation,
    listed,
    said,
    said_before,
)
from postroom_operator.status.workers import answered, autoscaling, available, figures

TREATED_AS_SANDBOX = "TreatedAsSandbox"
SUSPENDED, SUSPENDING, REPLACING = "Suspended", "Suspending", "Replacing"
TURNING = frozenset({SUSPENDING, REPLACING})
"""Workers that did something else with events are ending; new ones start when the last is gone."""
ASKED = {
    "SecretsReady": "secrets",
    "LedgerReachable": "ledger",
    "KafkaReachable": "kafka",
    "RelayReachable": "relay",
}
"""Condition → what workers are asked."""
ASKED_OF_SOME = {
    "CircuitClosed": "circuit",
    "RehearsalReady": "rehearsal",
    "SigningReady": "signing",
    "ReturnPathsReady": "bounces",
    "StatusEventsPublished": "status_events",
    "FallbackReady": "fallback",
    "CallbacksReady": "callbacks",
}
"""The same, of what not every profile has, or not at all times."""
SAID_ASIDE = ("StatusEventsPublished", "FallbackReady", "CallbacksReady")
"""What letters do not wait for."""
NEEDED = ("TopicReady", "SecretsReady", "LedgerReachable", "WorkersAvailable")
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
    obstacle: str = ""
    """What kept the operator from making its objects: the API server's words, or whose they are."""
    topics: tuple[Topic, ...] = ()
    reports: tuple[Report, ...] = ()
    silent: bool = False
    """Whether workers were asked for long, and none answered."""
    deployment: Mapping[str, Any] | None = None
    scaled: Mapping[str, Any] | None = None
    keda_available: bool = False
    templates: int = 0
    """How many templates are served."""
    turning: bool = False
    """Whether workers are still there that do something else with events than the profile says now."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec as it was written."""
        found: Mapping[str, Any] = self.manifest.get("spec") or {}
        return found


def profile_status(facts: ProfileFacts, now: datetime) -> dict[str, Any]:
    """The profile's next status."""
    parts = list(_parts(facts))
    found = [*parts, _ready(facts, {each.type: each for each in parts})]
    status = facts.manifest.get("status") or {}
    known = any(each.partitions or each.problem for each in facts.topics)
    topics = [_as_listed(each) for each in facts.topics] if known else status.get("topics")
    lag = {"lag": status["lag"]} if _unheard(facts) and "lag" in status else {}
    return said(
        {
            "observedGeneration": generation(facts.manifest),
            "conditions": conditions(found, facts.manifest, now),
            "mode": facts.mode,
            "topics": topics,
            "problems": listed(facts.problems),
        }
    ) | {"templates": facts.templates, **lag, **figures(facts.deployment, facts.reports)}


def _parts(facts: ProfileFacts) -> Iterator[Found]:
    topic = _topic(facts.topics)
    yield topic if topic.ok is not None else said_before(facts.manifest, topic)
    for type_, asked in ASKED.items():
        found = answered(type_, asked, facts.reports)
        yield said_before(facts.manifest, found) if _unheard(facts) else found
    for type_, asked in ASKED_OF_SOME.items():
        if type_ == "FallbackReady" and facts.fallback_problem:
            continue  # the operator knows better than a worker that was started without one
        if any(asked in report.answers for report in facts.reports):
            yield answered(type_, asked, facts.reports)
        elif _unheard(facts) and (found := said_before(facts.manifest, Found(type_, None, ""))).reason:
            yield found
    if facts.fallback_problem:
        yield blame("FallbackReady", [facts.fallback_problem])
    yield available(facts.deployment, _workers_before(facts))
    if (facts.spec.get("workers") or {}).get("autoscaling") is not None:
        yield autoscaling(facts.scaled, keda=facts.keda_available, suspended=bool(facts.spec.get("suspend")))
    if facts.spec.get("mode") == "SMTP":
        yield _delivery(facts)


def _workers_before(facts: ProfileFacts) -> str:
    """What was said last of the workers; nothing where all were replaced since, and on purpose."""
    if facts.turning or said_before(facts.manifest, Found("Ready", None, "")).reason in TURNING:
        return ""
    return said_before(facts.manifest, Found("WorkersAvailable", None, "")).reason


def _unheard(facts: ProfileFacts) -> bool:
    """Whether workers are at work and have not answered us yet."""
    status = (facts.deployment or {}).get("status") or {}
    return not facts.reports and not facts.silent and status.get("readyReplicas", 0) > 0


def _as_listed(topic: Topic) -> dict[str, Any]:
    """A topic in the status, which is also the record of whether it was made for the profile.

    How many partitions it has is not said while nobody can tell.
    """
    return said(
        {"name": topic.name, "partitions": topic.partitions or None, "created": topic.created or None}
    )


def _topic(topics: tuple[Topic, ...]) -> Found:
    if not topics:
        return Found("TopicReady", None, "NotLookedAt", "Kafka was not asked yet")
    wrong = next((each for each in topics if each.problem), None)
    if wrong:
        return Found("TopicReady", False, wrong.reason or "TopicProblem", f"{wrong.name}: {wrong.problem}")
    missing = next((each for each in topics if not each.partitions), None)
    if missing:
        return Found("TopicReady", None, "NotThereYet", f"{missing.name} is not there yet")
    differing = [f"{each.name}: {word}" for each in topics for word in each.differs]
    if differing:
        return Found("TopicReady", True, "DiffersFromProfile", "; ".join(differing))
    return Found("TopicReady", True, "AsAsked", topics[0].name)


def _delivery(facts: ProfileFacts) -> Found:
    if not facts.guarded:
        return Found("DeliveryAllowed", True, "NamespaceLabelled")
    return Found("DeliveryAllowed", False, "NamespaceNotLabelled", _guard(facts))


def _guard(facts: ProfileFacts) -> str:
    namespace = facts.manifest["metadata"].get("namespace", "default")
    return (
        f"mode SMTP is treated as Sandbox, and letters stay in the sandbox: namespace {namespace} does not "
        f"have the label {DELIVERY}=allowed, which an administrator sets"
    )


def _held(facts: ProfileFacts) -> Found | None:
    """Why workers take no events, because somebody wants it so."""
    suspended = facts.spec.get("suspend")
    if facts.turning and suspended:
        message = "spec.suspend is set; the workers that took events are ending, with the letters under way"
        return Found("Ready", False, SUSPENDING, message)
    if facts.turning:
        message = f"workers of another mode are ending, or suspended ones; those of mode {facts.mode} follow"
        return Found("Ready", False, REPLACING, message)
    if suspended:
        message = "spec.suspend is set: events stay on the topic; letters that were deferred before still go"
        return Found("Ready", False, SUSPENDED, message)
    return None


def _ready(facts: ProfileFacts, parts: Mapping[str, Found]) -> Found:
    if facts.problems:
        return blame("Ready", facts.problems)
    if facts.obstacle:
        return Found("Ready", False, "NotApplied", facts.obstacle)
    if held := _held(facts):
        return held
    passive = ("DeliveryAllowed", "AutoscalingActive", *SAID_ASIDE)
    for each in parts.values():
        if each.ok is False and each.type not in passive:
            return each.named("Ready")
    for type_ in NEEDED:
        if parts[type_].ok is None:
            return parts[type_].named("Ready")
    if facts.guarded:
        missing = parts["SecretsReady"].message
        message = f"{_guard(facts)}; {missing}" if missing else _guard(facts)
        return Found("Ready", True, TREATED_AS_SANDBOX, message)
    if (scaling := parts.get("AutoscalingActive")) and scaling.ok is False:
        return Found("Ready", True, "ServingWithoutAutoscaling", scaling.message)
    return Found("Ready", True, "Serving", f"workers of mode {facts.mode} take events and send letters")
