"""`spec.callbacks` of an SmtpProfile: who is told over HTTP what became of letters.

`spec.dkim` of an SmtpProfile: whose signatures its letters carry, and which key makes them.

`spec.bounces` of an SmtpProfile.

SmtpProfile, group postroom.dev/v1alpha1: how and where a namespace's letters go.

An object in, a frozen model out, or pydantic's ValidationError. Rules that need the whole object (its
name, its namespace) are on `SmtpProfile`, all others on the part they speak of.

Which profile another may fall back to: (profile, the one that its fallbackRef names) → a problem, or none.

Both halves ask: the operator before it mounts anything, the worker before it opens a relay. A fallback's own
`fallbackRef` is never followed, so that there are no chains and no loops.

Which topics get in each other's way: a profile's own is read, and others are derived from it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from postroom.letter.address import ADDRESS_OCTETS, DomainText
from postroom.letter.manifest_fields import (
    BrokenRule,
    Duration,
    Mailbox,
    ManifestModel,
    NameRef,
    ObjectMetadata,
    ObjectName,
    SecretKey,
    duration_seconds,
    find_duplicates,
    raise_broken_rules,
)
from postroom.letter.problems import Code, Problem
from postroom.letter.status_events import FINAL_STATUSES, StatusList
from postroom.letter.verp import LOCAL_PART_CHARACTERS

CALLBACK_URL = re.compile(
    r"^https?://([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?][!\"$-~]*)?$"
)
_REFUSED_PORT = re.compile(
    r"^https?://(\[[^\]]*\]|[^/?:]+):(0+|25|465|587|2525"
    r"|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])([/?]|$)"
)
"""Ports that there are not, and those of mail servers, which take what HTTP sends them for commands."""
MAX_CALLBACK_SECONDS = 60.0


def _callback_url(text: str) -> str:
    if not CALLBACK_URL.fullmatch(text):
        raise ValueError(
            "is not a URL such as https://hooks.example.org/postroom, without user, password and fragment"
        )
    if _REFUSED_PORT.match(text):
        raise ValueError("has a port that is none, or a mail server's; name the web server's")
    return text


def _callback_timeout(text: str) -> str:
    if duration_seconds(text) > MAX_CALLBACK_SECONDS:
        raise ValueError("is longer than a minute (60s), the longest wait for an answer")
    return text


class WebhookSecretRef(ManifestModel):
    """A Secret in the same namespace and the key that holds what callbacks are signed with."""

    name: ObjectName
    key: SecretKey = "webhook.secret"


class CallbackSpec(ManifestModel):
    """A URL that is told what became of letters, as Standard Webhooks."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    url: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_callback_url)]
    secret_ref: WebhookSecretRef
    events: StatusList = Field(default_factory=lambda: list(FINAL_STATUSES))
    timeout: Annotated[Duration, AfterValidator(_callback_timeout)] = "10s"
    ca_ref: NameRef | None = None

    @property
    def plain(self) -> bool:
        """Whether it is called without TLS."""
        return self.url.startswith("http:")

    @property
    def host(self) -> str:
        """The host that is called."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port that is called."""
        return urlsplit(self.url).port or (80 if self.plain else 443)


def callback_rules(callbacks: Sequence[CallbackSpec]) -> Iterator[BrokenRule]:
    """What is wrong with callbacks beside each other."""
    for index, _ in find_duplicates(one.name for one in callbacks):
        yield f"callbacks[{index}]", "has the name of an earlier one; each may be there once"


class SigningKeyRef(ManifestModel):
    """A Secret in the same namespace and the key that holds a private key in PEM."""

    name: ObjectName
    key: SecretKey = "dkim.key"


class DkimSpec(ManifestModel):
    """One DKIM signature that letters carry, where the relay does not sign."""

    domain: DomainText
    selector: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    secret_ref: SigningKeyRef


def dkim_covers(signature: DkimSpec, domain: str) -> bool:
    """Whether letters from this domain carry the signature: it is the signature's own or below it."""
    return domain == signature.domain or domain.endswith(f".{signature.domain}")


def dkim_rules(signatures: Sequence[DkimSpec], senders: Mapping[str, str]) -> Iterator[BrokenRule]:
    """What is wrong with signatures for these sender domains, which are given by field."""
    for index, _ in find_duplicates(
        f"{signature.selector} of {signature.domain}" for signature in signatures
    ):
        yield f"dkim[{index}]", "has domain and selector of an earlier one; each pair may be there once"
    for field, domain in senders.items():
        if signatures and not any(dkim_covers(signature, domain) for signature in signatures):
            rule = f"{domain} has no signature of its own or of a domain above it in dkim"
            yield field, f"{rule}, so that its letters would go unsigned; add one"


def _leaves_room(domain: str) -> str:
    most = ADDRESS_OCTETS - LOCAL_PART_CHARACTERS - 1
    if len(domain) > most:
        raise ValueError(f"is {len(domain)} characters long; the addresses below it leave room for {most}")
    return domain


class ReturnKeyRef(ManifestModel):
    """A Secret in the same namespace and the key that holds what return paths are signed with."""

    name: ObjectName
    key: SecretKey = "bounces.key"


class BouncesSpec(ManifestModel):
    """Where reports about letters come back to."""

    domain: Annotated[DomainText, Field(max_length=200), AfterValidator(_leaves_room)]
    secret_ref: ReturnKeyRef


TOPIC_PREFIX = "postroom."
MAX_TOPIC_CHARACTERS = 242
"""Kafka allows 249; the longest derived name adds `.urgent` or `.status`."""

Port = Annotated[int, Field(ge=1, le=65535)]
LabelValue = Annotated[str, Field(max_length=63)]
UncheckedObjects = Annotated[list[dict[str, Any]], Field(max_length=16)]
"""Objects that Kubernetes checks when they are applied: tolerations, network policy peers."""


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?", text):
        raise ValueError(
            "is not a host name or IP address; write it without scheme and port, like smtp.example.org"
        )
    return text


HostName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)]


class CredentialsRef(ManifestModel):
    """A Secret in the same namespace and the keys to read."""

    name: ObjectName
    username_key: SecretKey = "username"
    password_key: SecretKey = "password"


class TlsSpec(ManifestModel):
    """TLS towards the relay. Required (STARTTLS, verified) is the default; never AUTH in clear."""

    mode: Literal["Required", "Opportunistic", "Implicit", "None"] = "Required"
    server_name: HostName | None = None
    ca_ref: NameRef | None = None
    client_cert_secret_ref: NameRef | None = None


class AuthSpec(ManifestModel):
    """SMTP AUTH; the credentials are in a Secret."""

    method: Literal["PLAIN", "LOGIN"] = "PLAIN"
    secret_ref: CredentialsRef


class SmtpSpec(ManifestModel):
    """The relay of mode SMTP."""

    host: HostName
    port: Port = 587
    tls: TlsSpec = Field(default_factory=TlsSpec)
    auth: AuthSpec | None = None

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        if self.auth and self.tls.mode == "None":
            raise_broken_rules(
                [
                    (
                        "auth",
                        "needs TLS, because it would send the password in clear; set tls.mode or remove auth",
                    )
                ]
            )
        return self


class RateSpec(ManifestModel):
    """`count` letters per `period` (a duration such as `1s`)."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    period: Duration = "1s"


class LimitsSpec(ManifestModel):
    """What one worker may ask of the relay."""

    connections: Annotated[int, Field(ge=1, le=512)] = 16
    rate: RateSpec | None = None
    per_recipient_rate: RateSpec | None = None
    messages_per_connection: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class RetrySpec(ManifestModel):
    """Exponential backoff with jitter for temporary refusals."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    initial_delay: Duration = "5s"
    max_delay: Duration = "10m"
    max_age: Duration = "24h"

    @model_validator(mode="after")
    def _delays_grow(self) -> Self:
        if duration_seconds(self.initial_delay) > duration_seconds(self.max_delay):
            raise_broken_rules(
                [("initialDelay", f"{self.initial_delay} is longer than maxDelay {self.max_delay}")]
            )
        return self


class CircuitBreakerSpec(ManifestModel):
    """When to stop knocking at a relay that does not answer."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    reset_after: Duration = "60s"


class DedupeSpec(ManifestModel):
    """How long an identity is remembered; at least the topic's retention plus retry.maxAge."""

    window: Duration = "192h"


class SuppressionSpec(ManifestModel):
    """What puts an address on the suppression list by itself."""

    hard_bounces: Literal["Suppress", "Ignore"] = "Suppress"


class KafkaSpec(ManifestModel):
    """The profile's topic; `<topic>.urgent`, `<topic>.dlq` and `<topic>.status` are derived."""

    topic: Annotated[str, Field(max_length=MAX_TOPIC_CHARACTERS, pattern=r"^[a-zA-Z0-9._-]+$")] | None = None
    partitions: Annotated[int, Field(ge=1, le=1024)] = 3
    retention: Duration = "168h"
    status_events: StatusList = Field(default_factory=list)


class AutoscalingSpec(ManifestModel):
    """KEDA on consumer lag."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 5
    lag_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 500

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.min_replicas == 0:
            raise_broken_rules(
                [("minReplicas", "0 leaves nobody to send the letters that come due; write at least 1")]
            )
        if self.min_replicas > self.max_replicas:
            raise_broken_rules(
                [("minReplicas", f"{self.min_replicas} is more than maxReplicas {self.max_replicas}")]
            )
        return self


class WorkersSpec(ManifestModel):
    """The consumer Deployment: replicas or autoscaling, never both."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    autoscaling: AutoscalingSpec | None = None
    resources: dict[str, Any] | None = None
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] | None = None
    tolerations: UncheckedObjects | None = None
    priority_class_name: ObjectName | None = None

    @model_validator(mode="after")
    def _one_owner_of_replicas(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise_broken_rules([("replicas", "and autoscaling exclude each other; keep one of them")])
        return self


class NetworkPolicySpec(ManifestModel):
    """Additional egress peers of the workers' NetworkPolicy."""

    peers: UncheckedObjects = Field(default_factory=list)


class SmtpProfileSpec(ManifestModel):
    """The spec of an SmtpProfile; see docs/reference for each field."""

    mode: Literal["Sandbox", "SMTP", "Log"] = "Sandbox"
    smtp: SmtpSpec | None = None
    sender: Mailbox = Field(alias="from")
    allowed_from_domains: Annotated[list[DomainText], Field(max_length=64)] = Field(default_factory=list)
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    retry: RetrySpec = Field(default_factory=RetrySpec)
    circuit_breaker: CircuitBreakerSpec = Field(default_factory=CircuitBreakerSpec)
    fallback_ref: NameRef | None = None
    dkim: Annotated[list[DkimSpec], Field(max_length=8)] = Field(default_factory=list)
    bounces: BouncesSpec | None = None
    on_in_doubt: Literal["Resend", "Park"] = "Resend"
    parked_for: Duration = "720h"
    dedupe: DedupeSpec = Field(default_factory=DedupeSpec)
    suppression: SuppressionSpec = Field(default_factory=SuppressionSpec)
    kafka: KafkaSpec = Field(default_factory=KafkaSpec)
    connections_secret_ref: NameRef | None = None
    workers: WorkersSpec = Field(default_factory=WorkersSpec)
    network_policy: NetworkPolicySpec = Field(default_factory=NetworkPolicySpec)
    callbacks: Annotated[list[CallbackSpec], Field(max_length=16)] = Field(default_factory=list)
    suspend: bool = False

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        raise_broken_rules(self._broken_rules())
        return self

    def _broken_rules(self) -> Iterator[BrokenRule]:
        if self.mode == "SMTP" and self.smtp is None:
            yield "smtp", "is required for mode SMTP; give at least smtp.host"
        needed = duration_seconds(self.kafka.retention) + duration_seconds(self.retry.max_age)
        if duration_seconds(self.dedupe.window) < needed:
            least = f"{-(-needed // 3600):.0f}h"
            rule = "is less than kafka.retention + retry.maxAge, so that a replayed event could be sent twice"
            yield "dedupe.window", f"{self.dedupe.window} {rule}; write at least {least}"
        domain = self.sender.address.rpartition("@")[2]
        if self.allowed_from_domains and domain not in self.allowed_from_domains:
            yield "from.address", f"{domain} is not among allowedFromDomains; add it there"
        yield from callback_rules(self.callbacks)
        yield from dkim_rules(self.dkim, {"from.address": domain} | self._other_domains())

    def _other_domains(self) -> dict[str, str]:
        return {f"allowedFromDomains[{at}]": each for at, each in enumerate(self.allowed_from_domains)}


class SmtpProfile(ManifestModel):
    """`kind: SmtpProfile`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["SmtpProfile"]
    metadata: ObjectMetadata
    spec: SmtpProfileSpec
    status: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fits_its_place(self) -> Self:
        raise_broken_rules(self._broken_rules())
        return self

    def _broken_rules(self) -> Iterator[BrokenRule]:
        prefix = f"{TOPIC_PREFIX}{self.metadata.namespace}."
        if self.spec.kafka.topic and not self.spec.kafka.topic.startswith(prefix):
            yield "spec.kafka.topic", f"must begin with {prefix}, so that no namespace reads another's events"
        if len(topic_of(self)) > MAX_TOPIC_CHARACTERS:
            yield (
                "metadata.name",
                f"is too long for a topic of {MAX_TOPIC_CHARACTERS} characters; set spec.kafka.topic",
            )
        if self.spec.fallback_ref and self.spec.fallback_ref.name == self.metadata.name:
            yield "spec.fallbackRef.name", "is this profile itself; name another one"


def topic_of(profile: SmtpProfile) -> str:
    """The topic whose events are this profile's letters: as given, else `postroom.<namespace>.<name>`."""
    return profile.spec.kafka.topic or default_topic(profile.metadata.namespace, profile.metadata.name)


def default_topic(namespace: str, name: str) -> str:
    """The topic of a profile that names none."""
    return f"{TOPIC_PREFIX}{namespace}.{name}"


def dead_letter_topic(topic: str) -> str:
    """Where the events of `topic` go that can never become a letter."""
    return f"{topic}.dlq"


def consumer_group(topic: str) -> str:
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


FALLBACK_FIELD = "spec.fallbackRef.name"


def fallback_problem(profile: SmtpProfile, other: SmtpProfile | None) -> Problem | None:
    """Why the fallback cannot be used; None where it can, or where the profile asks for none."""
    ref = profile.spec.fallback_ref
    if ref is None:
        return None
    namespace = profile.metadata.namespace
    if profile.spec.mode != "SMTP":
        message = (
            f"only a profile of mode SMTP falls back, and this one is of mode {profile.spec.mode}: its "
            "letters never leave through another's relay. Set spec.mode to SMTP or remove spec.fallbackRef"
        )
        return Problem(Code.FALLBACK_UNUSABLE, FALLBACK_FIELD, message)
    if other is None or (other.metadata.namespace, other.metadata.name) != (namespace, ref.name):
        message = (
            f"SmtpProfile {namespace}/{ref.name} is not there, or is not sound. Apply it, or remove the field"
        )
        return Problem(Code.FALLBACK_MISSING, FALLBACK_FIELD, message)
    if other.spec.mode != "SMTP":
        message = (
            f"SmtpProfile {namespace}/{ref.name} is of mode {other.spec.mode}: letters sent through it would "
            "reach nobody. Name a profile of mode SMTP"
        )
        return Problem(Code.FALLBACK_UNUSABLE, FALLBACK_FIELD, message)
    return None


def topics_conflict(topic: str, other: str) -> bool:
    """Whether one profile's workers would take the events of the other's, or its dead letters."""
    return topic == other or topic in _derived_topics(other) or other in _derived_topics(topic)


def _derived_topics(topic: str) -> tuple[str, ...]:
    return dead_letter_topic(topic), status_topic(topic), f"{topic}.urgent"
