"""SmtpProfile, group postroom.dev/v1alpha1: how and where a namespace's letters go.

An object in, a frozen model out, or pydantic's ValidationError. Rules that need the whole object (its
name, its namespace) are on `SmtpProfile`, all others on the part they speak of.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from postroom.letter.address import DomainText
from postroom.letter.callback import Callback, broken_callbacks
from postroom.letter.duration import Duration, seconds
from postroom.letter.reading.spec import (
    Broken,
    Mailbox,
    Metadata,
    NameRef,
    ObjectName,
    SecretKey,
    Spec,
    broken,
)
from postroom.letter.returnpath import Bounces
from postroom.letter.signing import Dkim, broken_signatures
from postroom.letter.telling import Wanted

TOPIC_PREFIX = "postroom."
TOPIC_CHARACTERS = 242
"""Kafka allows 249; the longest derived name adds `.urgent` or `.status`."""

Port = Annotated[int, Field(ge=1, le=65535)]
LabelValue = Annotated[str, Field(max_length=63)]
FreeObjects = Annotated[list[dict[str, Any]], Field(max_length=16)]
"""Objects that Kubernetes checks when they are applied: tolerations, network policy peers."""


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?", text):
        raise ValueError(
            "is not a host name or IP address; write it without scheme and port, like smtp.example.org"
        )
    return text


HostName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)]


class SecretKeyRef(Spec):
    """A Secret in the same namespace and the keys to read."""

    name: ObjectName
    username_key: SecretKey = "username"
    password_key: SecretKey = "password"


class Tls(Spec):
    """TLS towards the relay. Required (STARTTLS, verified) is the default; never AUTH in clear."""

    mode: Literal["Required", "Opportunistic", "Implicit", "None"] = "Required"
    server_name: HostName | None = None
    ca_ref: NameRef | None = None
    client_cert_secret_ref: NameRef | None = None


class Auth(Spec):
    """SMTP AUTH; the credentials are in a Secret."""

    method: Literal["PLAIN", "LOGIN"] = "PLAIN"
    secret_ref: SecretKeyRef


class Smtp(Spec):
    """The relay of mode SMTP."""

    host: HostName
    port: Port = 587
    tls: Tls = Field(default_factory=Tls)
    auth: Auth | None = None

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        if self.auth and self.tls.mode == "None":
            broken(
                [
                    (
                        "auth",
                        "needs TLS, because it would send the password in clear; set tls.mode or remove auth",
                    )
                ]
            )
        return self


class Rate(Spec):
    """`count` letters per `period` (a duration such as `1s`)."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    period: Duration = "1s"


class Limits(Spec):
    """What one worker may ask of the relay."""

    connections: Annotated[int, Field(ge=1, le=512)] = 16
    rate: Rate | None = None
    per_recipient_rate: Rate | None = None
    messages_per_connection: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class Retry(Spec):
    """Exponential backoff with jitter for temporary refusals."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    initial_delay: Duration = "5s"
    max_delay: Duration = "10m"
    max_age: Duration = "24h"

    @model_validator(mode="after")
    def _delays_grow(self) -> Self:
        if seconds(self.initial_delay) > seconds(self.max_delay):
            broken([("initialDelay", f"{self.initial_delay} is longer than maxDelay {self.max_delay}")])
        return self


class CircuitBreaker(Spec):
    """When to stop knocking at a relay that does not answer."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    reset_after: Duration = "60s"


class Dedupe(Spec):
    """How long an identity is remembered; at least the topic's retention plus retry.maxAge."""

    window: Duration = "192h"


class Suppression(Spec):
    """What puts an address on the suppression list by itself."""

    hard_bounces: Literal["Suppress", "Ignore"] = "Suppress"


class Kafka(Spec):
    """The profile's topic; `<topic>.urgent`, `<topic>.dlq` and `<topic>.status` are derived."""

    topic: Annotated[str, Field(max_length=TOPIC_CHARACTERS, pattern=r"^[a-zA-Z0-9._-]+$")] | None = None
    partitions: Annotated[int, Field(ge=1, le=1024)] = 3
    retention: Duration = "168h"
    status_events: Wanted = Field(default_factory=list)


class Autoscaling(Spec):
    """KEDA on consumer lag."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 5
    lag_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 500

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.min_replicas == 0:
            broken([("minReplicas", "0 leaves nobody to send the letters that come due; write at least 1")])
        if self.min_replicas > self.max_replicas:
            broken([("minReplicas", f"{self.min_replicas} is more than maxReplicas {self.max_replicas}")])
        return self


class Workers(Spec):
    """The consumer Deployment: replicas or autoscaling, never both."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    autoscaling: Autoscaling | None = None
    resources: dict[str, Any] | None = None
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] | None = None
    tolerations: FreeObjects | None = None
    priority_class_name: ObjectName | None = None

    @model_validator(mode="after")
    def _one_owner_of_replicas(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            broken([("replicas", "and autoscaling exclude each other; keep one of them")])
        return self


class NetworkPolicyPeers(Spec):
    """Additional egress peers of the workers' NetworkPolicy."""

    peers: FreeObjects = Field(default_factory=list)


class SmtpProfileSpec(Spec):
    """The spec of an SmtpProfile; see docs/reference for each field."""

    mode: Literal["Sandbox", "SMTP", "Log"] = "Sandbox"
    smtp: Smtp | None = None
    sender: Mailbox = Field(alias="from")
    allowed_from_domains: Annotated[list[DomainText], Field(max_length=64)] = Field(default_factory=list)
    limits: Limits = Field(default_factory=Limits)
    retry: Retry = Field(default_factory=Retry)
    circuit_breaker: CircuitBreaker = Field(default_factory=CircuitBreaker)
    fallback_ref: NameRef | None = None
    dkim: Annotated[list[Dkim], Field(max_length=8)] = Field(default_factory=list)
    bounces: Bounces | None = None
    on_in_doubt: Literal["Resend", "Park"] = "Resend"
    parked_for: Duration = "720h"
    dedupe: Dedupe = Field(default_factory=Dedupe)
    suppression: Suppression = Field(default_factory=Suppression)
    kafka: Kafka = Field(default_factory=Kafka)
    connections_secret_ref: NameRef | None = None
    workers: Workers = Field(default_factory=Workers)
    network_policy: NetworkPolicyPeers = Field(default_factory=NetworkPolicyPeers)
    callbacks: Annotated[list[Callback], Field(max_length=16)] = Field(default_factory=list)
    suspend: bool = False

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        broken(self._broken_rules())
        return self

    def _broken_rules(self) -> Iterator[Broken]:
        if self.mode == "SMTP" and self.smtp is None:
            yield "smtp", "is required for mode SMTP; give at least smtp.host"
        needed = seconds(self.kafka.retention) + seconds(self.retry.max_age)
        if seconds(self.dedupe.window) < needed:
            least = f"{-(-needed // 3600):.0f}h"
            rule = "is less than kafka.retention + retry.maxAge, so that a replayed event could be sent twice"
            yield "dedupe.window", f"{self.dedupe.window} {rule}; write at least {least}"
        domain = self.sender.address.rpartition("@")[2]
        if self.allowed_from_domains and domain not in self.allowed_from_domains:
            yield "from.address", f"{domain} is not among allowedFromDomains; add it there"
        yield from broken_callbacks(self.callbacks)
        yield from broken_signatures(self.dkim, {"from.address": domain} | self._other_domains())

    def _other_domains(self) -> dict[str, str]:
        return {f"allowedFromDomains[{at}]": each for at, each in enumerate(self.allowed_from_domains)}


class SmtpProfile(Spec):
    """`kind: SmtpProfile`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["SmtpProfile"]
    metadata: Metadata
    spec: SmtpProfileSpec
    status: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fits_its_place(self) -> Self:
        broken(self._broken_rules())
        return self

    def _broken_rules(self) -> Iterator[Broken]:
        prefix = f"{TOPIC_PREFIX}{self.metadata.namespace}."
        if self.spec.kafka.topic and not self.spec.kafka.topic.startswith(prefix):
            yield "spec.kafka.topic", f"must begin with {prefix}, so that no namespace reads another's events"
        if len(topic_of(self)) > TOPIC_CHARACTERS:
            yield (
                "metadata.name",
                f"is too long for a topic of {TOPIC_CHARACTERS} characters; set spec.kafka.topic",
            )
        if self.spec.fallback_ref and self.spec.fallback_ref.name == self.metadata.name:
            yield "spec.fallbackRef.name", "is this profile itself; name another one"


def topic_of(profile: SmtpProfile) -> str:
    """The topic whose events are this profile's letters: as given, else `postroom.<namespace>.<name>`."""
    return profile.spec.kafka.topic or own_topic(profile.metadata.namespace, profile.metadata.name)


def own_topic(namespace: str, name: str) -> str:
    """The topic of a profile that names none."""
    return f"{TOPIC_PREFIX}{namespace}.{name}"


def dead_letter_topic(topic: str) -> str:
    """Where the events of `topic` go that can never become a letter."""
    return f"{topic}.dlq"


def group_of(topic: str) -> str:
    """The consumer group of a topic's workers, whose lag an autoscaler looks at."""
    return f"{topic}.workers"


def status_topic(topic: str) -> str:
    """Where it is said what became of the letters of `topic`."""
    return f"{topic}.status"


def allows_sender(profile: SmtpProfile, address: str) -> bool:
    """Whether a letter may be from `address` (normalized).

    Its domain is among `allowedFromDomains` or, when that is empty, the domain of the profile's `from`.
    """
    own = profile.spec.sender.address.rpartition("@")[2]
    return address.rpartition("@")[2] in (profile.spec.allowed_from_domains or [own])
