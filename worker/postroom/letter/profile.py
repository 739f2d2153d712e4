"""SmtpProfile, group postroom.dev/v1alpha1: how and where the letters of a namespace go.

Input: an object as Kubernetes stores it. Output: a frozen model, or pydantic's ValidationError. This module
is the only place of the profile's spec: fields, bounds, defaults, the rules between fields in Python and in
CEL, descriptions and printer columns. The CRD and the reference page are generated from it. A new field needs
an entry here, the code that uses it, a test and a changelog fragment.

Rules that need the whole object (its name, its namespace) are on `SmtpProfile`; a rule over several fields is
on the smallest part that has them all. The functions at the end derive names from a profile (topics, consumer
group) and decide which profiles conflict or may be a fallback.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from postroom.letter.address import ADDRESS_OCTETS
from postroom.letter.custom_resource import (
    CelRule,
    CelRules,
    CustomResource,
    FieldRule,
    ListMap,
    PrinterColumn,
    ready_columns,
)
from postroom.letter.manifest_fields import (
    IS_DURATION,
    BrokenRule,
    DomainText,
    Duration,
    Mailbox,
    ManifestModel,
    NameRef,
    ObjectMetadata,
    ObjectName,
    PositiveDuration,
    SecretKey,
    duration_seconds,
    find_duplicates,
    longest_duration,
    raise_broken_rules,
)
from postroom.letter.problems import Code, Problem
from postroom.letter.status_events import FINAL_STATUSES, StatusList
from postroom.letter.verp import LOCAL_PART_CHARACTERS

TOPIC_PREFIX = "postroom."
MAX_TOPIC_CHARACTERS = 242
"""Kafka allows 249; the longest derived name adds `.urgent` or `.status`."""

Port = Annotated[int, Field(ge=1, le=65535)]
LabelValue = Annotated[str, Field(max_length=63)]
UncheckedObjects = Annotated[list[dict[str, Any]], Field(max_length=16)]
"""Objects that Kubernetes checks when they are applied: tolerations, network policy peers."""


# --- the relay ----------------------------------------------------------------------------------------------


_HOST = "[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?"
_NOT_A_HOST = "is not a host name or IP address; write it without scheme and port, like smtp.example.org"
_NEEDS_TLS = "needs TLS, because it would send the password in clear; set tls.mode or remove auth"


def _host(text: str) -> str:
    if not re.fullmatch(_HOST, text):
        raise ValueError(_NOT_A_HOST)
    return text


HostName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    FieldRule(_host, CelRule(f"self.matches('^{_HOST}$')", _NOT_A_HOST)),
]


class CredentialsRef(ManifestModel):
    """A Secret in the same namespace and the keys to read."""

    name: ObjectName
    """The name of a Secret in the same namespace."""
    username_key: SecretKey = "username"
    """The Secret's key that holds the user name."""
    password_key: SecretKey = "password"
    """The Secret's key that holds the password."""


class TlsSpec(ManifestModel):
    """TLS towards the relay. The default is Required; credentials are never sent in clear."""

    mode: Literal["Required", "Opportunistic", "Implicit", "None"] = "Required"
    """Required is STARTTLS with a verified certificate. Implicit is TLS from the first byte, verified.
    Opportunistic is STARTTLS if the relay offers it, unverified. None is without TLS.
    """
    server_name: HostName | None = None
    """The name in the relay's certificate, where it differs from host."""
    ca_ref: NameRef | None = None
    """The Secret with ca.crt, for a relay with a private certificate authority."""
    client_cert_secret_ref: NameRef | None = None
    """The Secret with tls.crt and tls.key, where the relay requires a client certificate."""


class AuthSpec(ManifestModel):
    """SMTP AUTH; the credentials are in a Secret."""

    method: Literal["PLAIN", "LOGIN"] = "PLAIN"
    """The SASL mechanism."""
    secret_ref: CredentialsRef
    """The Secret with the credentials."""


class SmtpSpec(ManifestModel):
    """The relay of mode SMTP."""

    host: HostName
    """The relay's host name or IP address, without scheme and port."""
    port: Port = 587
    """The relay's port: 587 for STARTTLS, 465 for implicit TLS."""
    tls: TlsSpec = Field(default_factory=TlsSpec)
    """How the connection to the relay is encrypted."""
    auth: AuthSpec | None = None
    """SMTP AUTH; requires TLS."""

    cel_rules: ClassVar = (
        CelRule(
            "!has(self.auth) || self.tls.mode != 'None'",
            _NEEDS_TLS,
            field_path=".auth",
        ),
    )

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        if self.auth and self.tls.mode == "None":
            raise_broken_rules([("auth", _NEEDS_TLS)])
        return self


class RateSpec(ManifestModel):
    """`count` letters in any `period`."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    """The number of letters."""
    period: Duration = "1s"
    """A duration such as 1s or 1m."""


class LimitsSpec(ManifestModel):
    """How much load the workers put on the relay."""

    connections: Annotated[int, Field(ge=1, le=512)] = 16
    """The number of connections to the relay that one worker holds at once."""
    rate: RateSpec | None = None
    """The most letters in any such period, over all workers. Applies in mode SMTP."""
    per_recipient_rate: RateSpec | None = None
    """The most letters to one recipient in any such period, over all workers. Applies in mode SMTP."""
    messages_per_connection: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """The number of letters after which a connection is closed."""


class RetrySpec(ManifestModel):
    """Exponential backoff with jitter after temporary refusals."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How many replies of the relay a letter may get. An attempt that does not reach the relay does not
    count.
    """
    initial_delay: Duration = "5s"
    """The delay after the first refusal; it doubles with each further one, with jitter."""
    max_delay: Duration = "10m"
    """The longest delay between two attempts."""
    max_age: Duration = "24h"
    """How long after its event was received a letter may be attempted."""

    cel_rules: ClassVar = (
        CelRule(
            f"[self.initialDelay, self.maxDelay].exists(text, !text.matches('{IS_DURATION}'))"
            " || duration(self.initialDelay) <= duration(self.maxDelay)",
            "is longer than maxDelay",
            field_path=".initialDelay",
        ),
    )

    @model_validator(mode="after")
    def _initial_delay_at_most_max_delay(self) -> Self:
        if duration_seconds(self.initial_delay) > duration_seconds(self.max_delay):
            rule = f"{self.initial_delay} is longer than maxDelay {self.max_delay}"
            raise_broken_rules([("initialDelay", rule)])
        return self


class CircuitBreakerSpec(ManifestModel):
    """When workers stop connecting to a relay that does not reply."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """The number of consecutive failures that opens the circuit."""
    reset_after: Duration = "60s"
    """The delay before one letter is sent as a probe."""


# --- signatures, return paths, callbacks --------------------------------------------------------------------


class SigningKeyRef(ManifestModel):
    """A Secret in the same namespace and the key that holds a private key in PEM."""

    name: ObjectName
    """The name of a Secret in the same namespace."""
    key: SecretKey = "dkim.key"
    """The Secret's key that holds the private key in PEM."""


class DkimSpec(ManifestModel):
    """One DKIM signature that letters carry, where the relay does not sign."""

    domain: DomainText
    """The signing domain."""
    selector: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    """The selector; the public key is the TXT record of <selector>._domainkey.<domain>."""
    secret_ref: SigningKeyRef
    """The Secret with the private key."""


def dkim_covers(signature: DkimSpec, domain: str) -> bool:
    """Whether letters from `domain` carry the signature: it is the signature's own domain or below it."""
    return domain == signature.domain or domain.endswith(f".{signature.domain}")


def dkim_rules(signatures: Sequence[DkimSpec], senders: Mapping[str, str]) -> Iterator[BrokenRule]:
    """The broken rules of `dkim`; `senders` are the sender domains by the field that names them."""
    pairs = (f"{signature.selector} of {signature.domain}" for signature in signatures)
    for index, _ in find_duplicates(pairs):
        yield f"dkim[{index}]", "has domain and selector of an earlier signature; the pair must be unique"
    for field, domain in senders.items():
        if signatures and not any(dkim_covers(signature, domain) for signature in signatures):
            rule = f"{domain} has no signature of its own or of a domain above it in dkim"
            yield field, f"{rule}, so that its letters would go unsigned; add one"


def _fits_return_paths(domain: str) -> str:
    most = ADDRESS_OCTETS - LOCAL_PART_CHARACTERS - 1
    if len(domain) > most:
        raise ValueError(f"is {len(domain)} characters long; the addresses below it leave room for {most}")
    return domain


class ReturnKeyRef(ManifestModel):
    """A Secret in the same namespace and the key that holds the keys of return paths."""

    name: ObjectName
    """The name of a Secret in the same namespace."""
    key: SecretKey = "bounces.key"
    """The Secret's key that holds the signing keys, each of 32 characters or more, separated by white space.
    The first key signs; all are accepted.
    """


class BouncesSpec(ManifestModel):
    """The return paths of letters, to which delivery reports come."""

    domain: Annotated[DomainText, Field(max_length=200), FieldRule(_fits_return_paths)]
    """The domain of the return paths; its MX, or a relay's transport, leads to postroom bounces."""
    secret_ref: ReturnKeyRef
    """The Secret with the keys that sign return paths."""


CALLBACK_URL = re.compile(
    r"^https?://([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?][!\"$-~]*)?$"
)
_REFUSED_PORT = re.compile(
    r"^https?://(\[[^\]]*\]|[^/?:]+):(0+|25|465|587|2525"
    r"|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])([/?]|$)"
)
"""Ports out of range, and those of mail servers, which would interpret an HTTP request as SMTP commands."""
MAX_CALLBACK_SECONDS = 60.0
_NOT_A_URL = "is not a URL such as https://hooks.example.org/postroom, without user, password and fragment"
_BAD_PORT = "has an invalid port or that of a mail server; use the web server's port"
_TOO_LONG = "is longer than a minute (60s), the longest wait for an answer"


def _callback_url(text: str) -> str:
    if not CALLBACK_URL.fullmatch(text):
        raise ValueError(_NOT_A_URL)
    if _REFUSED_PORT.match(text):
        raise ValueError(_BAD_PORT)
    return text


def _callback_timeout(text: str) -> str:
    if duration_seconds(text) > MAX_CALLBACK_SECONDS:
        raise ValueError(_TOO_LONG)
    return text


class WebhookSecretRef(ManifestModel):
    """A Secret in the same namespace and the key that holds the signing secret of callbacks."""

    name: ObjectName
    """The name of a Secret in the same namespace."""
    key: SecretKey = "webhook.secret"
    """The Secret's key that holds the signing secret, as whsec_ and base64. With several, each signs."""


class CallbackSpec(ManifestModel):
    """A URL that receives status events of letters, as Standard Webhooks."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """The callback's name in conditions and metrics."""
    url: Annotated[
        str,
        Field(min_length=1, max_length=2048),
        FieldRule(
            _callback_url,
            CelRule(
                r"self.matches(r'^https?://([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])"
                r"""(:[0-9]{1,5})?([/?][!"$-~]*)?$')""",
                _NOT_A_URL,
            ),
            CelRule(
                f"!self.matches(r'{_REFUSED_PORT.pattern}')",
                _BAD_PORT,
            ),
        ),
    ]
    """The URL that notifications are posted to."""
    secret_ref: WebhookSecretRef
    """The Secret with which notifications are signed."""
    events: StatusList = Field(default_factory=lambda: list(FINAL_STATUSES))
    """The statuses of letters that are posted."""
    timeout: Annotated[
        PositiveDuration,
        FieldRule(
            _callback_timeout,
            longest_duration("60s", _TOO_LONG),
        ),
    ] = "10s"
    """How long a response may take, at most 60s."""
    ca_ref: NameRef | None = None
    """The Secret with ca.crt, for a server with a private certificate authority."""

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
    """The broken rules over several callbacks."""
    for index, _ in find_duplicates(callback.name for callback in callbacks):
        yield f"callbacks[{index}]", "has the name of an earlier callback; it must be unique"


# --- topic, deduplication, workers --------------------------------------------------------------------------


class DedupeSpec(ManifestModel):
    """How long the identity of a letter is kept; at least the topic's retention plus retry.maxAge."""

    window: Duration = "192h"
    """At least kafka.retention + retry.maxAge. An event that is older becomes a dead letter."""


class SuppressionSpec(ManifestModel):
    """Which replies put an address on the suppression list without an operator's action."""

    hard_bounces: Literal["Suppress", "Ignore"] = "Suppress"
    """Whether a relay's reply that a mailbox does not exist (550 5.1.1) puts the address on the list:
    Suppress or Ignore. Applies in mode SMTP.
    """


class KafkaSpec(ManifestModel):
    """The profile's topic; `<topic>.urgent`, `<topic>.dlq` and `<topic>.status` are derived."""

    topic: (
        Annotated[
            str,
            Field(max_length=MAX_TOPIC_CHARACTERS, pattern=r"^[a-zA-Z0-9._-]+$"),
            # the namespace is not visible to a rule of a CRD; SmtpProfile checks the whole prefix
            CelRules(
                CelRule(
                    "self.startsWith('postroom.')",
                    "must begin with postroom.NAMESPACE., so that no namespace reads another's events",
                )
            ),
        ]
        | None
    ) = None
    """The topic's name. It begins with postroom., the namespace and a dot, and no other profile uses it.
    When absent it is postroom.NAMESPACE.NAME.
    """
    partitions: Annotated[int, Field(ge=1, le=1024)] = 3
    """The least number of partitions; partitions are added and never removed."""
    retention: Duration = "168h"
    """How long the topic keeps events."""
    status_events: StatusList = Field(default_factory=list)
    """The statuses of letters that are published on <topic>.status, as CloudEvents. When empty, nothing is
    published and that topic is not created.
    """


_NO_WORKER = "0 leaves no worker to send the letters that come due; write at least 1"


class AutoscalingSpec(ManifestModel):
    """A KEDA ScaledObject on consumer lag."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """The least number of workers. At least 1: with none, deferred letters are not sent when they are due."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 5
    """The largest number of workers, at most the number of partitions of the topic."""
    lag_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """The lag of one worker, in events, above which another is added."""

    cel_rules: ClassVar = (
        CelRule(
            "self.minReplicas != 0",
            _NO_WORKER,
            field_path=".minReplicas",
        ),
        CelRule(
            "self.minReplicas <= self.maxReplicas", "is more than maxReplicas", field_path=".minReplicas"
        ),
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_replicas == 0:
            raise_broken_rules([("minReplicas", _NO_WORKER)])
        if self.min_replicas > self.max_replicas:
            rule = f"{self.min_replicas} is more than maxReplicas {self.max_replicas}"
            raise_broken_rules([("minReplicas", rule)])
        return self


class WorkersSpec(ManifestModel):
    """The consumer Deployment, with a fixed number of replicas or autoscaling."""

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """A fixed number of workers."""
    autoscaling: AutoscalingSpec | None = None
    """A number of workers that follows the lag; requires KEDA in the cluster."""
    resources: dict[str, Any] | None = None
    """Requests and limits of a worker, as in a Pod."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] | None = None
    """Labels of the nodes that workers run on, as in a Pod."""
    tolerations: UncheckedObjects | None = None
    """Taints that workers tolerate, as in a Pod."""
    priority_class_name: ObjectName | None = None
    """The workers' PriorityClass, as in a Pod."""

    cel_rules: ClassVar = (
        CelRule(
            "!(has(self.replicas) && has(self.autoscaling))",
            "replicas and autoscaling exclude each other; keep one of them",
            field_path=".replicas",
        ),
    )

    @model_validator(mode="after")
    def _replicas_or_autoscaling(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise_broken_rules([("replicas", "and autoscaling exclude each other; keep one of them")])
        return self


class NetworkPolicySpec(ManifestModel):
    """Additional egress peers of the workers' NetworkPolicy."""

    peers: UncheckedObjects = Field(default_factory=list)
    """Further peers that workers may connect to, as the "to" of a NetworkPolicy's egress rule."""


# --- the object ---------------------------------------------------------------------------------------------

_ASCII_DOMAIN = "^[A-Za-z0-9.-]*$"
_UNSIGNED = "has a domain that no signature of dkim is for, so that its letters would go unsigned; add one"


class SmtpProfileSpec(ManifestModel):
    """The spec of an SmtpProfile."""

    mode: Literal["Sandbox", "SMTP", "Log"] = "Sandbox"
    """Sandbox captures every letter in the namespace's sandbox. SMTP sends through the relay, in a namespace
    that an administrator has labelled postroom.dev/delivery=allowed; elsewhere it acts as Sandbox. Log writes
    a line and sends nothing.
    """
    smtp: SmtpSpec | None = None
    """The relay; required for mode SMTP."""
    sender: Mailbox = Field(alias="from")
    """The sender of letters whose template names none."""
    allowed_from_domains: Annotated[list[DomainText], Field(max_length=64)] = Field(default_factory=list)
    """The domains that templates may send from. When empty it is the domain of from."""
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    """How much load the workers put on the relay."""
    retry: RetrySpec = Field(default_factory=RetrySpec)
    """How letters are attempted again after temporary refusals, with exponential backoff and jitter."""
    circuit_breaker: CircuitBreakerSpec = Field(default_factory=CircuitBreakerSpec)
    """When workers stop connecting to a relay that does not reply. All workers share one circuit."""
    fallback_ref: NameRef | None = None
    """The profile of mode SMTP whose relay is used while the circuit is open. Its own fallbackRef is ignored.
    """
    dkim: Annotated[list[DkimSpec], Field(max_length=8), ListMap("domain", "selector")] = Field(
        default_factory=list
    )
    """The DKIM signatures that letters carry, where the relay does not sign. A letter gets every signature
    whose domain is its sender's or above it. Two entries of one domain are an RSA and an Ed25519 key (RFC
    8463).
    """
    bounces: BouncesSpec | None = None
    """Where delivery reports come to. Each letter's envelope sender is a signed address at this domain, which
    identifies the letter. When absent, the envelope sender is the letter's From address.
    """
    on_in_doubt: Literal["Resend", "Park"] = "Resend"
    """What happens to a letter after whose data the relay's reply was lost. Resend sends it again within the
    bounds of retry, so that a second copy is possible. Park waits for a person's decision.
    """
    parked_for: Duration = "720h"
    """How long a letter in doubt is parked. After that it fails, and its event becomes a dead letter."""
    dedupe: DedupeSpec = Field(default_factory=DedupeSpec)
    """How long the identity of a letter is kept to detect repeated events."""
    suppression: SuppressionSpec = Field(default_factory=SuppressionSpec)
    """What puts an address on the suppression list. No letters are sent to suppressed addresses."""
    kafka: KafkaSpec = Field(default_factory=KafkaSpec)
    """The topic of the profile's events. It is created when absent and never deleted."""
    connections_secret_ref: NameRef | None = None
    """The Secret with the Kafka and ledger credentials. When absent it is postroom-connections."""
    workers: WorkersSpec = Field(default_factory=WorkersSpec)
    """The workers, one Deployment for each profile."""
    network_policy: NetworkPolicySpec = Field(default_factory=NetworkPolicySpec)
    """The workers' NetworkPolicy."""
    callbacks: Annotated[list[CallbackSpec], Field(max_length=16), ListMap("name")] = Field(
        default_factory=list
    )
    """URLs that receive status events of letters, as Standard Webhooks. They are called by HTTPS at public
    addresses; an administrator may allow others.
    """
    suspend: bool = False
    """While true, events stay on the topic. Letters that were deferred before are still sent."""

    cel_rules: ClassVar = (
        CelRule(
            "self.mode != 'SMTP' || has(self.smtp)",
            "is required for mode SMTP; give at least smtp.host",
            field_path=".smtp",
            reason="FieldValueRequired",
        ),
        CelRule(
            "[self.dedupe.window, self.kafka.retention, self.retry.maxAge]"
            f".exists(text, !text.matches('{IS_DURATION}'))"
            " || duration(self.dedupe.window)"
            " >= duration(self.kafka.retention) + duration(self.retry.maxAge)",
            "is less than kafka.retention + retry.maxAge, so that a replayed event could be sent twice; write"
            " at least their sum",
            field_path=".dedupe.window",
        ),
        # A rule over domains applies to ASCII ones only: CEL has no IDNA, so the operator checks the others.
        CelRule(
            "!has(self.allowedFromDomains) || self.allowedFromDomains.size() == 0"
            r" || [self.from.address].exists(address, !address.matches(r'^[\x00-\x7f]*$'))"
            r" || self.allowedFromDomains.exists(domain, !domain.matches(r'^[\x00-\x7f]*$')"
            " || domain.lowerAscii()"
            " == self.from.address.substring(self.from.address.lastIndexOf('@') + 1).lowerAscii())",
            "has a domain that is not among allowedFromDomains; add it there",
            field_path=".from.address",
        ),
        CelRule(
            "!has(self.dkim) || self.dkim.size() == 0"
            " || [self.from.address].exists(address, !address.matches('^[^@]*@[A-Za-z0-9.-]*$'))"
            f" || self.dkim.exists(one, !one.domain.matches('{_ASCII_DOMAIN}')"
            " || self.from.address.lowerAscii().endsWith('@' + one.domain.lowerAscii())"
            " || self.from.address.lowerAscii().endsWith('.' + one.domain.lowerAscii()))",
            _UNSIGNED,
            field_path=".from.address",
        ),
        CelRule(
            "!has(self.dkim) || self.dkim.size() == 0 || !has(self.allowedFromDomains)"
            f" || self.allowedFromDomains.all(domain, !domain.matches('{_ASCII_DOMAIN}')"
            f" || self.dkim.exists(one, !one.domain.matches('{_ASCII_DOMAIN}')"
            " || domain.lowerAscii() == one.domain.lowerAscii()"
            " || domain.lowerAscii().endsWith('.' + one.domain.lowerAscii())))",
            _UNSIGNED,
            field_path=".allowedFromDomains",
        ),
    )

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
        allowed = {f"allowedFromDomains[{n}]": each for n, each in enumerate(self.allowed_from_domains)}
        yield from dkim_rules(self.dkim, {"from.address": domain} | allowed)


class SmtpProfile(ManifestModel):
    """An SmtpProfile declares how and where the letters of a namespace go: the relay, the sender, the limits,
    the topic. The operator runs its workers.
    """

    api_version: Literal["postroom.dev/v1alpha1"]
    """postroom.dev/v1alpha1"""
    kind: Literal["SmtpProfile"]
    """SmtpProfile"""
    metadata: ObjectMetadata
    spec: SmtpProfileSpec
    """How and where letters go."""
    status: dict[str, Any] | None = None
    """The observed state. Written by the operator."""

    resource: ClassVar = CustomResource(
        plural="smtpprofiles",
        singular="smtpprofile",
        short_names=("smtp",),
        printer_columns=ready_columns(
            "Whether its workers receive events and send letters.",
            PrinterColumn("Topic", ".status.topics[0].name", "The topic of its events."),
            PrinterColumn(
                "Mode",
                ".status.mode",
                "What its workers do with letters; Sandbox where delivery is not allowed.",
            ),
            PrinterColumn(
                "Replicas", ".status.readyReplicas", "The number of ready workers.", type="integer"
            ),
            PrinterColumn(
                "Lag",
                ".status.lag",
                "Events on the topic that no worker has received; empty while it is unknown.",
                type="integer",
                priority=1,
            ),
        ),
    )
    cel_rules: ClassVar = (
        CelRule(
            "!has(self.spec.fallbackRef) || self.spec.fallbackRef.name != self.metadata.name",
            "is this profile itself; name another one",
            field_path=".spec.fallbackRef.name",
        ),
        CelRule(
            "has(self.spec.kafka.topic) || self.metadata.name.size() <= 231",
            f"is too long for a topic of {MAX_TOPIC_CHARACTERS} characters; set spec.kafka.topic",
            field_path=".metadata.name",
        ),
    )

    @model_validator(mode="after")
    def _fits_its_metadata(self) -> Self:
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


# --- what follows from a profile ----------------------------------------------------------------------------


def topic_of(profile: SmtpProfile) -> str:
    """The topic of the profile's events: `spec.kafka.topic`, else `postroom.<namespace>.<name>`."""
    return profile.spec.kafka.topic or default_topic(profile.metadata.namespace, profile.metadata.name)


def default_topic(namespace: str, name: str) -> str:
    """The topic of a profile without `spec.kafka.topic`."""
    return f"{TOPIC_PREFIX}{namespace}.{name}"


def dead_letter_topic(topic: str) -> str:
    """The topic of the events of `topic` that can never become a letter."""
    return f"{topic}.dlq"


def status_topic(topic: str) -> str:
    """The topic of the status events of the letters of `topic`."""
    return f"{topic}.status"


def consumer_group(topic: str) -> str:
    """The consumer group of a topic's workers, whose lag an autoscaler reads."""
    return f"{topic}.workers"


def topics_conflict(topic: str, other: str) -> bool:
    """Whether the workers of one topic would consume the events or the dead letters of the other."""
    return topic == other or topic in _derived_topics(other) or other in _derived_topics(topic)


def _derived_topics(topic: str) -> tuple[str, ...]:
    return dead_letter_topic(topic), status_topic(topic), f"{topic}.urgent"


def allows_sender(profile: SmtpProfile, address: str) -> bool:
    """Whether a letter may be from `address` (normalized).

    Its domain is among `allowedFromDomains` or, when that is empty, the domain of the profile's `from`.
    """
    own = profile.spec.sender.address.rpartition("@")[2]
    return address.rpartition("@")[2] in (profile.spec.allowed_from_domains or [own])


FALLBACK_FIELD = "spec.fallbackRef.name"


def fallback_problem(profile: SmtpProfile, other: SmtpProfile | None) -> Problem | None:
    """Why `other` cannot be the profile's fallback; None where it can, or where `fallbackRef` is absent.

    The operator checks this before it mounts anything, the worker before it opens a connection. The
    `fallbackRef` of a fallback is never followed, so there are no chains and no loops.
    """
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
            f"SmtpProfile {namespace}/{ref.name} does not exist or is invalid. Apply it, or remove the field"
        )
        return Problem(Code.FALLBACK_MISSING, FALLBACK_FIELD, message)
    if other.spec.mode != "SMTP":
        message = (
            f"SmtpProfile {namespace}/{ref.name} is of mode {other.spec.mode} and delivers no letters. "
            "Name a profile of mode SMTP"
        )
        return Problem(Code.FALLBACK_UNUSABLE, FALLBACK_FIELD, message)
    return None
