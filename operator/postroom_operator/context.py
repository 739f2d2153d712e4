"""What a reconcile has at hand: the store, the writer, the prover, the topics, the workers, the settings."""

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
    """Whom to ask for topics; the answer is what is known now."""

    def forget(self, owner: Hashable) -> None:
        """A profile is gone; its topics stay."""
        ...

    def request(
        self, owner: Hashable, topics: tuple[RequiredTopic, ...], ours: frozenset[str]
    ) -> tuple[TopicState, ...]:
        """Say what a profile wants, and which of it we made."""
        ...


class WorkerReports(Protocol):
    """Whom to ask what workers say."""

    def reports(self, group: tuple[str, str]) -> tuple[WorkerReport, ...]:
        """What a profile's workers said last."""
        ...

    def unresponsive(self, group: tuple[str, str]) -> bool:
        """Whether they have been asked for long, and none answered."""
        ...

    def poll_faster(self, group: tuple[str, str]) -> None:
        """Ask them more often for a while."""
        ...


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """Everything together."""

    store: ObjectStore
    cluster: Cluster
    applier: Applier
    observer: Observer
    validator: ValidationService
    topics: TopicService
    workers: WorkerReports
    defaults: Callable[[], OperatorDefaults]
    keda: Callable[[], bool]
    now: Callable[[], datetime]

    def defaults_for(self, seen: ObservedProfile) -> OperatorDefaults:
        """What shows in a profile's manifests; of brokers that are not known now, as it was written last."""
        fixed = self.defaults()
        return (
            fixed if fixed.kafka.bootstrap_servers else replace(fixed, kafka=last_kafka_access(seen.children))
        )

    def served_after(
        self, seen: ObservedProfile, bundle: Bundle, done: ReconcileResult
    ) -> Mapping[str, CompiledTemplate]:
        """What workers can read of a bundle: where something was refused, what is in the cluster."""
        return self.observer.served(seen.key) if done.refused else bundle.served

    def effective_profile(self, seen: ObservedProfile, bundle: Bundle) -> EffectiveProfile | None:
        """A profile as its manifests are made from; None where nothing is to be made."""
        if seen.model is None or seen.profile is None or seen.namespace_terminating:
            return None
        uid = seen.profile["metadata"]["uid"]
        # read now: the label may have gone while templates were proved
        allowed = self.observer.delivery_allowed(seen.key.namespace)
        view = EffectiveProfile(seen.model, uid, allowed, bundle.shards, self.keda(), seen.fallback)
        # what a pod says of itself can be edited, what it was told at its start cannot
        forbidden = not allowed and any(may_deliver(pod) for pod in seen.pods if not has_ended(pod))
        return replace(view, effect_changing=forbidden or other_effect_runs(seen.pods, view.effect))
