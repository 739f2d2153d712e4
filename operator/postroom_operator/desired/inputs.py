"""What the manifests are made from: one profile as the operator sees it, and what holds for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from postroom.letter.problems import Problem
from postroom.letter.profile import SmtpProfile, fallback_problem
from postroom_operator.models import API_VERSION

Mode = Literal["Sandbox", "SMTP", "Log"]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """The brokers as the operator itself reaches them. Never a credential: only which are in use."""

    bootstrap_servers: str = ""
    """Empty: it is not known."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """None: no SASL."""
    tls: bool = False
    authority: bool = False
    """Whether the brokers' certificate is checked against an authority of its own (`kafka-ca.crt`)."""
    client_certificate: bool = False


@dataclass(frozen=True, slots=True)
class OperatorDefaults:
    """The operator's settings that show in manifests."""

    image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    kafka: KafkaAccess = field(default_factory=KafkaAccess)
    callback_allow: str = ""
    """What an administrator allows callbacks to reach beyond HTTPS to public addresses."""


@dataclass(frozen=True, slots=True)
class EffectiveProfile:
    """One SmtpProfile and what around it decides how its workers look."""

    profile: SmtpProfile
    uid: str
    delivery_allowed: bool = False
    """Whether an administrator labelled the namespace for delivery."""
    shards: Mapping[int, str] = field(default_factory=dict)
    """The texts of the bundle's shards, as `desired.bundle` packs them."""
    keda_available: bool = False
    fallback: SmtpProfile | None = None
    """The profile of the namespace that `fallbackRef` names, whatever it is."""
    effect_changing: bool = False
    """Whether workers are still there that do something else with events."""

    @property
    def usable_fallback(self) -> SmtpProfile | None:
        """The profile whose relay takes over: none where letters stay in the sandbox, whatever is named."""
        usable = self.mode == "SMTP" and self.fallback_problem is None
        return self.fallback if usable else None

    @property
    def fallback_problem(self) -> Problem | None:
        """Why the fallback that the profile names cannot be used."""
        return fallback_problem(self.profile, self.fallback)

    @property
    def guarded(self) -> bool:
        """Whether the profile asks for SMTP and is treated as Sandbox, because delivery is not allowed."""
        return self.profile.spec.mode == "SMTP" and not self.delivery_allowed

    @property
    def mode(self) -> Mode:
        """The mode that takes effect."""
        return "Sandbox" if self.guarded else self.profile.spec.mode

    @property
    def effect(self) -> str:
        """What workers do with events: the mode that takes effect, or nothing."""
        return "Suspended" if self.profile.spec.suspend else self.mode

    @property
    def autoscaled(self) -> bool:
        """Whether KEDA owns the number of workers."""
        return self.profile.spec.workers.autoscaling is not None and self.keda_available

    @property
    def replicas(self) -> int:
        """How many workers run; with an autoscaler, how many at least."""
        workers = self.profile.spec.workers
        if workers.autoscaling is not None:
            return min(workers.autoscaling.min_replicas, self.profile.spec.kafka.partitions)
        return 1 if workers.replicas is None else workers.replicas

    @property
    def max_workers(self) -> int:
        """How many workers can run: more than the topic has partitions would sit idle."""
        scaling = self.profile.spec.workers.autoscaling
        if scaling is None or not self.autoscaled:
            return self.replicas
        return max(self.replicas, min(scaling.max_replicas, self.profile.spec.kafka.partitions))


def owner_reference(profile: SmtpProfile, uid: str, *, controller: bool = True) -> dict[str, Any]:
    """The owner reference that makes an object go when its profile goes."""
    reference = {
        "apiVersion": API_VERSION,
        "kind": "SmtpProfile",
        "name": profile.metadata.name,
        "uid": uid,
    }
    return {**reference, "controller": True} if controller else reference
