"""What a reconcile works with: the store, the writer, validation, topics, workers' reports, and the
settings.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from postroom.letter.bundle import CompiledTemplate
from postroom_operator.apply import Applier, ReconcileResult
from postroom_operator.desired.bundle import Bundle
from postroom_operator.desired.deployment import may_deliver
from postroom_operator.desired.inputs import EffectiveProfile, OperatorDefaults
from postroom_operator.desired.network import last_kafka_access
from postroom_operator.diff import other_effect_runs
from postroom_operator.models import Cluster, RequiredTopic, TopicState, WorkerReport, has_ended
from postroom_operator.observe import ObservedProfile, Observer, ValidationService
from postroom_operator.store import ObjectStore


class TopicService(Protocol):
    """Creates topics and reports their state from memory."""

    def forget(self, owner: Hashable) -> None:
        """Stop looking after the topics of a profile that is gone; the topics stay."""
        ...

    def request(
        self, owner: Hashable, topics: tuple[RequiredTopic, ...], created: frozenset[str]
    ) -> tuple[TopicState, ...]:
        """Register the topics that a profile needs and return what is known of them.

        `created` names those that the operator created, as recorded in the profile's status.
        """
        ...


class WorkerReports(Protocol):
    """The /statusz pages of the workers. A group is the workers of one profile."""

    def reports(self, group: tuple[str, str]) -> tuple[WorkerReport, ...]:
        """The last reports of a profile's workers."""
        ...

    def unresponsive(self, group: tuple[str, str]) -> bool:
        """Whether the workers were polled for a minute and none answered."""
        ...

    def poll_faster(self, group: tuple[str, str]) -> None:
        """Poll these workers every second for a while."""
        ...


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """The services of a reconcile, and the questions that need several of them."""

    store: ObjectStore
    cluster: Cluster
    applier: Applier
    observer: Observer
    validator: ValidationService
    topics: TopicService
    workers: WorkerReports
    defaults: Callable[[], OperatorDefaults]
    keda: Callable[[], bool]
    """Whether KEDA is installed."""
    now: Callable[[], datetime]

    def defaults_for(self, observed: ObservedProfile) -> OperatorDefaults:
        """The operator's defaults for a profile's manifests.

        Where the brokers are unknown now, the way to them is the one that the profile's objects were written
        with.
        """
        defaults = self.defaults()
        if defaults.kafka.bootstrap_servers:
            return defaults
        return replace(defaults, kafka=last_kafka_access(observed.children))

    def served_after(
        self, observed: ObservedProfile, bundle: Bundle, result: ReconcileResult
    ) -> Mapping[str, CompiledTemplate]:
        """What workers can read after the plan: the bundle, or what the cluster has where a write was
        rejected.
        """
        return self.observer.served(observed.key) if result.refused else bundle.served

    def effective_profile(self, observed: ObservedProfile, bundle: Bundle) -> EffectiveProfile | None:
        """The input of a profile's manifests; None where nothing is to be created."""
        if observed.model is None or observed.profile is None or observed.namespace_terminating:
            return None
        uid = observed.profile["metadata"]["uid"]
        # read again: the label may have been removed while templates were validated
        allowed = self.observer.delivery_allowed(observed.key.namespace)
        profile = EffectiveProfile(
            observed.model, uid, allowed, bundle.shards, self.keda(), observed.fallback
        )
        # a pod's annotations can be edited, the environment of its containers cannot
        forbidden = not allowed and any(may_deliver(pod) for pod in observed.pods if not has_ended(pod))
        changing = forbidden or other_effect_runs(observed.pods, profile.effect)
        return replace(profile, effect_changing=changing)
