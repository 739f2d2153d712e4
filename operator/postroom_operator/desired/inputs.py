"""The input of all manifests: `EffectiveProfile`, one profile with its surroundings, and
`OperatorDefaults`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from postroom.letter.problems import Problem
from postroom.letter.profile import SmtpProfile, fallback_problem
from postroom_operator.models import API_VERSION

Mode = Literal["Sandbox", "SMTP", "Log"]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """How the operator reaches the brokers. It holds no credentials, only which kinds are in use."""

    bootstrap_servers: str = ""
    """Empty: unknown."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """None: no SASL."""
    tls: bool = False
    authority: bool = False
    """Whether the brokers' certificate is verified with a private authority (`kafka-ca.crt`)."""
    client_certificate: bool = False


@dataclass(frozen=True, slots=True)
class OperatorDefaults:
    """The part of the operator's settings that all manifests depend on."""

    image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    kafka: KafkaAccess = field(default_factory=KafkaAccess)
    callback_allow: str = ""
    """Destinations of callbacks that an administrator allows besides HTTPS to public addresses."""


@dataclass(frozen=True, slots=True)
class EffectiveProfile:
    """One SmtpProfile and everything else that its manifests depend on."""

    profile: SmtpProfile
    uid: str
    delivery_allowed: bool = False
    """Whether an administrator labelled the namespace for delivery."""
    shards: Mapping[int, str] = field(default_factory=dict)
    """The texts of the bundle's shards, as `bundle` packs them."""
    keda_available: bool = False
    fallback: SmtpProfile | None = None
    """The profile that `fallbackRef` names, whether it can be used or not."""
    effect_changing: bool = False
    """Whether workers still run that treat events differently."""

    @property
    def usable_fallback(self) -> SmtpProfile | None:
        """The profile whose relay takes over; None outside mode SMTP or where the fallback has a problem."""
        usable = self.mode == "SMTP" and self.fallback_problem is None
        return self.fallback if usable else None

    @property
    def fallback_problem(self) -> Problem | None:
        """The reason why the fallback cannot be used."""
        return fallback_problem(self.profile, self.fallback)

    @property
    def guarded(self) -> bool:
        """Whether mode SMTP is treated as Sandbox, because delivery is not allowed in the namespace."""
        return self.profile.spec.mode == "SMTP" and not self.delivery_allowed

    @property
    def mode(self) -> Mode:
        """The mode that takes effect."""
        return "Sandbox" if self.guarded else self.profile.spec.mode

    @property
    def effect(self) -> str:
        """How workers treat events: the effective mode, or `Suspended`."""
        return "Suspended" if self.profile.spec.suspend else self.mode

    @property
    def autoscaled(self) -> bool:
        """Whether KEDA owns the number of workers."""
        return self.profile.spec.workers.autoscaling is not None and self.keda_available

    @property
    def replicas(self) -> int:
        """The number of workers; with an autoscaler the minimum."""
        workers = self.profile.spec.workers
        if workers.autoscaling is not None:
            return min(workers.autoscaling.min_replicas, self.profile.spec.kafka.partitions)
        return 1 if workers.replicas is None else workers.replicas

    @property
    def max_workers(self) -> int:
        """The maximum number of workers. More workers than partitions would be idle."""
        scaling = self.profile.spec.workers.autoscaling
        if scaling is None or not self.autoscaled:
            return self.replicas
        return max(self.replicas, min(scaling.max_replicas, self.profile.spec.kafka.partitions))


def owner_reference(profile: SmtpProfile, uid: str, *, controller: bool = True) -> dict[str, Any]:
    """The owner reference with which an object is deleted together with its profile."""
    reference = {
        "apiVersion": API_VERSION,
        "kind": "SmtpProfile",
        "name": profile.metadata.name,
        "uid": uid,
    }
    return {**reference, "controller": True} if controller else reference
