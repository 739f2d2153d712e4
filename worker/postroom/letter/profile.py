"""SmtpProfile, group postroom.dev/v1alpha1: how and where a namespace's letters go."""

from typing import Annotated, Any, Literal

from pydantic import Field

from postroom.letter.template import Mailbox, Metadata, NameRef, Spec

Port = Annotated[int, Field(ge=1, le=65535)]


class SecretKeyRef(Spec):
    """A Secret in the same namespace and the keys to read."""

    name: str
    username_key: str = "username"
    password_key: str = "password"


class Tls(Spec):
    """TLS towards the relay. Required (STARTTLS, verified) is the default; never AUTH in clear."""

    mode: Literal["Required", "Opportunistic", "Implicit", "None"] = "Required"
    server_name: str | None = None
    ca_ref: NameRef | None = None
    client_cert_secret_ref: NameRef | None = None


class Auth(Spec):
    """SMTP AUTH; the credentials are in a Secret."""

    method: Literal["PLAIN", "LOGIN"] = "PLAIN"
    secret_ref: SecretKeyRef


class Smtp(Spec):
    """The relay of mode SMTP."""

    host: str
    port: Port = 587
    tls: Tls = Field(default_factory=Tls)
    auth: Auth | None = None


class Rate(Spec):
    """`count` letters per `period` (a duration such as `1s`)."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    period: str = "1s"


class Limits(Spec):
    """What one worker may ask of the relay."""

    connections: Annotated[int, Field(ge=1, le=512)] = 16
    rate: Rate | None = None
    per_recipient_rate: Rate | None = None
    messages_per_connection: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class Retry(Spec):
    """Exponential backoff with jitter for temporary refusals."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    initial_delay: str = "5s"
    max_delay: str = "10m"
    max_age: str = "24h"


class CircuitBreaker(Spec):
    """When to stop knocking at a relay that does not answer."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    reset_after: str = "60s"


class Dedupe(Spec):
    """How long an identity is remembered; at least the topic's retention plus retry.maxAge."""

    window: str = "192h"


class Kafka(Spec):
    """The profile's topic; `<topic>.urgent`, `<topic>.dlq` and `<topic>.status` are derived."""

    topic: str | None = None
    partitions: Annotated[int, Field(ge=1, le=1024)] = 3
    retention: str = "168h"


class Autoscaling(Spec):
    """KEDA on consumer lag."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 5
    lag_threshold: Annotated[int, Field(ge=1)] = 500


class Workers(Spec):
    """The consumer Deployment: replicas or autoscaling, never both."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    autoscaling: Autoscaling | None = None
    resources: dict[str, Any] | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[dict[str, Any]] | None = None
    priority_class_name: str | None = None


class NetworkPolicyPeers(Spec):
    """Additional egress peers of the workers' NetworkPolicy."""

    peers: list[dict[str, Any]] = Field(default_factory=list)


class Dkim(Spec):
    """DKIM signing by Postroom; usually the relay's work."""

    domain: str
    selector: str
    secret_ref: NameRef


class SmtpProfileSpec(Spec):
    """The spec of an SmtpProfile; see docs/reference for each field."""

    mode: Literal["Sandbox", "SMTP", "Log"] = "Sandbox"
    smtp: Smtp | None = None
    sender: Mailbox = Field(alias="from")
    allowed_from_domains: list[str] = Field(default_factory=list)
    limits: Limits = Field(default_factory=Limits)
    retry: Retry = Field(default_factory=Retry)
    circuit_breaker: CircuitBreaker = Field(default_factory=CircuitBreaker)
    fallback_ref: NameRef | None = None
    dkim: Dkim | None = None
    on_in_doubt: Literal["Resend", "Park"] = "Resend"
    dedupe: Dedupe = Field(default_factory=Dedupe)
    kafka: Kafka = Field(default_factory=Kafka)
    connections_secret_ref: NameRef | None = None
    workers: Workers = Field(default_factory=Workers)
    network_policy: NetworkPolicyPeers = Field(default_factory=NetworkPolicyPeers)
    callbacks: list[dict[str, Any]] = Field(default_factory=list)
    suspend: bool = False


class SmtpProfile(Spec):
    """`kind: SmtpProfile`."""

    api_version: Literal["postroom.dev/v1alpha1"]
    kind: Literal["SmtpProfile"]
    metadata: Metadata
    spec: SmtpProfileSpec
    status: dict[str, Any] | None = None
