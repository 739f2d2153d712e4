"""What a reconcile has at hand: the store, the writer, the prover, the topics, the workers, the settings."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from postroom.letter.bundle import CompiledTemplate
from postroom_operator.apply import Done, Hand
from postroom_operator.cluster import Cluster, has_ended
from postroom_operator.desired.bundle import Bundle
from postroom_operator.desired.deployment import may_deliver
from postroom_operator.desired.network import recalled
from postroom_operator.desired.view import Fixed, ProfileView
from postroom_operator.diff import any_other
from postroom_operator.facts import Report, Topic, WantedTopic
from postroom_operator.observe import Observer, Proofs, Seen
from postroom_operator.store import Store


class Topics(Protocol):
    """Whom to ask for topics; the answer is what is known now."""

    def forget(self, owner: Hashable) -> None:
        """A profile is gone; its topics stay."""
        ...

    def want(
        self, owner: Hashable, topics: tuple[WantedTopic, ...], ours: frozenset[str]
    ) -> tuple[Topic, ...]:
        """Say what a profile wants, and which of it we made."""
        ...


class Workers(Protocol):
    """Whom to ask what workers say."""

    def reports(self, group: tuple[str, str]) -> tuple[Report, ...]:
        """What a profile's workers said last."""
        ...

    def silent(self, group: tuple[str, str]) -> bool:
        """Whether they have been asked for long, and none answered."""
        ...

    def hurry(self, group: tuple[str, str]) -> None:
        """Ask them more often for a while."""
        ...


@dataclass(frozen=True, slots=True)
class Office:
    """Everything together."""

    store: Store
    cluster: Cluster
    hand: Hand
    observer: Observer
    prover: Proofs
    topics: Topics
    workers: Workers
    fixed: Callable[[], Fixed]
    keda: Callable[[], bool]
    now: Callable[[], datetime]

    def fixed_for(self, seen: Seen) -> Fixed:
        """What shows in a profile's manifests; of brokers that are not known now, as it was written last."""
        fixed = self.fixed()
        return fixed if fixed.kafka.bootstrap_servers else replace(fixed, kafka=recalled(seen.children))

    def reached(self, seen: Seen, bundle: Bundle, done: Done) -> Mapping[str, CompiledTemplate]:
        """What workers can read of a bundle: where something was refused, what is in the cluster."""
        return self.observer.served(seen.key) if done.refused else bundle.served

    def view(self, seen: Seen, bundle: Bundle) -> ProfileView | None:
        """A profile as its manifests are made from; None where nothing is to be made."""
        if seen.model is None or seen.profile is None or seen.ending:
            return None
        uid = seen.profile["metadata"]["uid"]
        # read now: the label may have gone while templates were proved
        allowed = self.observer.delivery_allowed(seen.key.namespace)
        view = ProfileView(seen.model, uid, allowed, bundle.shards, self.keda(), seen.fallback)
        # what a pod says of itself can be edited, what it was told at its start cannot
        forbidden = not allowed and any(may_deliver(pod) for pod in seen.pods if not has_ended(pod))
        return replace(view, turning=forbidden or any_other(seen.pods, view.effect))
