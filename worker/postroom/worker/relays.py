"""Select the relay of a profile: mode, settings and fallback → RelaySelection. Nothing is connected yet.

Guard: mode SMTP takes effect only if POSTROOM_DELIVERY_ALLOWED is set; otherwise the profile is treated as
Sandbox, and its status reports that. Only mode SMTP has a fallback, so that no sandbox letter can reach a
relay.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from postroom.adapters.log_relay import LogRelay
from postroom.adapters.smtp.counters import RelayCounters
from postroom.adapters.smtp.pool import SmtpRelay
from postroom.adapters.smtp.settings import (
    AuthMethod,
    AuthSettings,
    Credentials,
    RelaySettings,
    TlsMode,
    TlsSettings,
)
from postroom.delivery.router import RelayTarget
from postroom.letter import profile
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Problem, Rejected
from postroom.letter.profile import fallback_problem
from postroom.policy.circuit_breaker import CircuitRules
from postroom.ports.ledger import State
from postroom.ports.relay import Rate, Relay
from postroom.worker.profile_config import read_profile_file
from postroom.worker.settings import WorkerSettings

LETTERS_PER_CONNECTION = 4
"""Letters that a relay may have for each connection: one being sent, one pipelined, two queued."""
SANDBOX_RESET_SECONDS = 2.0
"""The reset time of a sandbox's circuit: short, because a sandbox needs no protection."""


@dataclass(frozen=True, slots=True)
class RelaySelection:
    """The selected relay, the state that its 250 means, and how many letters it may have."""

    mode: Literal["Sandbox", "SMTP", "Log"]
    relay: Relay
    accepted_as: State
    room: int
    counters: RelayCounters | None
    where: str
    """The relay's host and port, for messages."""
    guarded: bool
    """True: the profile asks for SMTP and is treated as Sandbox, because delivery is not allowed here."""
    target: RelayTarget
    """The relay with its limits."""
    fallback: RelayTarget | None = None
    fallback_profile: profile.SmtpProfile | None = None
    fallback_unknown_fields: tuple[str, ...] = ()
    """Unknown fields of the fallback's manifest, which this release ignores."""
    fallback_problem: Problem | None = None
    """Why the fallback that the profile names cannot be used."""
    recipient_rate: Rate | None = None


def select_relay(profile: profile.SmtpProfile, settings: WorkerSettings) -> RelaySelection:
    """Choose and configure the relay; nothing is connected yet."""
    spec = profile.spec
    guarded = spec.mode == "SMTP" and not settings.delivery_allowed
    mode = "Sandbox" if guarded else spec.mode
    room = spec.limits.connections * LETTERS_PER_CONNECTION
    if mode == "Log":
        log_relay = LogRelay()
        target = RelayTarget(name_of(profile), log_relay, _circuit_rules(profile))
        selection = RelaySelection(mode, log_relay, State.CAPTURED, room, None, "", guarded, target)
        return replace(selection, fallback_problem=fallback_problem(profile, None))
    if mode == "Sandbox":
        chosen = _sandbox_settings(spec, settings)
        relay = SmtpRelay(chosen)
        target = RelayTarget(
            name_of(profile), relay, CircuitRules(spec.circuit_breaker.failures, SANDBOX_RESET_SECONDS)
        )
        where = f"{chosen.host}:{chosen.port}"
        selection = RelaySelection(mode, relay, State.CAPTURED, room, relay.counters, where, guarded, target)
        return selection if guarded else replace(selection, fallback_problem=fallback_problem(profile, None))
    return with_fallback(_select_smtp(profile, settings, room), profile, settings)


def name_of(profile: profile.SmtpProfile) -> str:
    """`namespace/name`."""
    return f"{profile.metadata.namespace}/{profile.metadata.name}"


def _select_smtp(profile: profile.SmtpProfile, settings: WorkerSettings, room: int) -> RelaySelection:
    target, relay = _relay_target(profile, settings)
    where = f"{relay.settings.host}:{relay.settings.port}"
    selection = RelaySelection("SMTP", relay, State.ACCEPTED, room, relay.counters, where, False, target)
    return replace(selection, recipient_rate=rate_of(profile.spec.limits.per_recipient_rate))


def _relay_target(profile: profile.SmtpProfile, settings: WorkerSettings) -> tuple[RelayTarget, SmtpRelay]:
    relay = SmtpRelay(smtp_settings(profile.spec, settings.secrets))
    rate = rate_of(profile.spec.limits.rate)
    return RelayTarget(name_of(profile), relay, _circuit_rules(profile), rate), relay


def with_fallback(
    selection: RelaySelection, profile: profile.SmtpProfile, settings: WorkerSettings
) -> RelaySelection:
    """Add the fallback that the profile names to the selection, or the problem with it."""
    if profile.spec.fallback_ref is None:
        return selection
    path = settings.fallback
    try:
        parsed = read_profile_file(path, "POSTROOM_FALLBACK") if path and path.exists() else None
    except Rejected as rejected:
        return replace(selection, fallback_problem=rejected.problems[0])
    other = parsed.profile if parsed else None
    if (problem := fallback_problem(profile, other)) or parsed is None or other is None:
        return replace(selection, fallback_problem=problem)
    target, _ = _relay_target(other, settings)
    return replace(
        selection, fallback=target, fallback_profile=other, fallback_unknown_fields=parsed.unknown_fields
    )


def _circuit_rules(profile: profile.SmtpProfile) -> CircuitRules:
    breaker = profile.spec.circuit_breaker
    return CircuitRules(breaker.failures, duration_seconds(breaker.reset_after))


def rate_of(rate: profile.RateSpec | None) -> Rate | None:
    """Convert a rate of the profile."""
    return Rate(rate.count, duration_seconds(rate.period)) if rate else None


def _sandbox_settings(spec: profile.SmtpProfileSpec, settings: WorkerSettings) -> RelaySettings:
    return RelaySettings(
        host=settings.sandbox.host,
        port=settings.sandbox.port,
        tls=TlsSettings(TlsMode.NONE),
        connections=spec.limits.connections,
        messages_per_connection=spec.limits.messages_per_connection,
    )


def smtp_settings(spec: profile.SmtpProfileSpec, secrets: Path) -> RelaySettings:
    """Build the relay settings of mode SMTP; each Secret is a folder below `secrets`."""
    assert spec.smtp is not None  # a rule of the profile's model
    smtp, limits = spec.smtp, spec.limits
    return RelaySettings(
        host=smtp.host,
        port=smtp.port,
        tls=_tls(smtp.tls, secrets),
        auth=_auth(smtp.auth, secrets) if smtp.auth else None,
        connections=limits.connections,
        messages_per_connection=limits.messages_per_connection,
    )


def _tls(tls: profile.TlsSpec, secrets: Path) -> TlsSettings:
    client = secrets / tls.client_cert_secret_ref.name if tls.client_cert_secret_ref else None
    return TlsSettings(
        mode=TlsMode(tls.mode),
        server_name=tls.server_name,
        ca_file=secrets / tls.ca_ref.name / "ca.crt" if tls.ca_ref else None,
        certificate_file=client / "tls.crt" if client else None,
        key_file=client / "tls.key" if client else None,
    )


def _auth(auth: profile.AuthSpec, secrets: Path) -> AuthSettings:
    folder = secrets / auth.secret_ref.name

    def read() -> Credentials:
        return Credentials(
            (folder / auth.secret_ref.username_key).read_text("utf-8").rstrip("\r\n"),
            (folder / auth.secret_ref.password_key).read_text("utf-8").rstrip("\r\n"),
        )

    return AuthSettings(AuthMethod(auth.method), read)
