"""Which relay a profile's letters go to: the wiring of its mode, and the guard.

Mode SMTP takes effect only where delivery was allowed; everywhere else the profile is treated as Sandbox
and says so. Only then has it a fallback as well: from a sandbox no way leads to a relay.
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
from postroom.delivery.settings import WorkerSettings
from postroom.letter import profile
from postroom.letter.manifest_fields import duration_seconds
from postroom.letter.problems import Problem, Rejected
from postroom.letter.profile import fallback_problem
from postroom.policy.circuit_breaker import CircuitRules
from postroom.ports.ledger import State
from postroom.ports.relay import Rate, Relay
from postroom.worker.profile_config import read_profile_file

LETTERS_PER_CONNECTION = 4
"""Letters that a relay may hold for each connection: one under way, one pipelined, two in line."""
SANDBOX_RESET_SECONDS = 2.0
"""A sandbox need not be spared, and who tries things out does not want to wait for it."""


@dataclass(frozen=True, slots=True)
class RelaySelection:
    """Where letters leave: the relay, what a 250 of it means, and how much it may hold."""

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
    fallback_left_out: tuple[str, ...] = ()
    """The fields of its manifest that this release does not know."""
    fallback_problem: Problem | None = None
    """Why there is none although the profile asks for one."""
    recipient_rate: Rate | None = None


def select_relay(profile: profile.SmtpProfile, settings: WorkerSettings) -> RelaySelection:
    """Choose and configure the relay; nothing is connected yet."""
    spec = profile.spec
    guarded = spec.mode == "SMTP" and not settings.delivery_allowed
    mode = "Sandbox" if guarded else spec.mode
    room = spec.limits.connections * LETTERS_PER_CONNECTION
    if mode == "Log":
        logging = LogRelay()
        outlet = RelayTarget(name_of(profile), logging, _circuit_rules(profile))
        made = RelaySelection(mode, logging, State.CAPTURED, room, None, "", guarded, outlet)
        return replace(made, fallback_problem=fallback_problem(profile, None))
    if mode == "Sandbox":
        chosen = _sandbox_settings(spec, settings)
        relay = SmtpRelay(chosen)
        outlet = RelayTarget(
            name_of(profile), relay, CircuitRules(spec.circuit_breaker.failures, SANDBOX_RESET_SECONDS)
        )
        where = f"{chosen.host}:{chosen.port}"
        made = RelaySelection(mode, relay, State.CAPTURED, room, relay.counters, where, guarded, outlet)
        return made if guarded else replace(made, fallback_problem=fallback_problem(profile, None))
    return with_fallback(_select_smtp(profile, settings, room), profile, settings)


def name_of(profile: profile.SmtpProfile) -> str:
    """`namespace/name`."""
    return f"{profile.metadata.namespace}/{profile.metadata.name}"


def _select_smtp(profile: profile.SmtpProfile, settings: WorkerSettings, room: int) -> RelaySelection:
    outlet, relay = _relay_target(profile, settings)
    where = f"{relay.settings.host}:{relay.settings.port}"
    exit_ = RelaySelection("SMTP", relay, State.ACCEPTED, room, relay.counters, where, False, outlet)
    return replace(exit_, recipient_rate=rate_of(profile.spec.limits.per_recipient_rate))


def _relay_target(profile: profile.SmtpProfile, settings: WorkerSettings) -> tuple[RelayTarget, SmtpRelay]:
    relay = SmtpRelay(smtp_settings(profile.spec, settings.secrets))
    rate = rate_of(profile.spec.limits.rate)
    return RelayTarget(name_of(profile), relay, _circuit_rules(profile), rate), relay


def with_fallback(
    exit_: RelaySelection, profile: profile.SmtpProfile, settings: WorkerSettings
) -> RelaySelection:
    """The exit of mode SMTP with the fallback that the profile names, or with what is wrong with it."""
    if profile.spec.fallback_ref is None:
        return exit_
    path = settings.fallback
    try:
        handed = read_profile_file(path, "POSTROOM_FALLBACK") if path and path.exists() else None
    except Rejected as rejected:
        return replace(exit_, fallback_problem=rejected.problems[0])
    other = handed.profile if handed else None
    if (problem := fallback_problem(profile, other)) or handed is None or other is None:
        return replace(exit_, fallback_problem=problem)
    outlet, _ = _relay_target(other, settings)
    return replace(exit_, fallback=outlet, fallback_profile=other, fallback_left_out=handed.unknown_fields)


def _circuit_rules(profile: profile.SmtpProfile) -> CircuitRules:
    breaker = profile.spec.circuit_breaker
    return CircuitRules(breaker.failures, duration_seconds(breaker.reset_after))


def rate_of(rate: profile.RateSpec | None) -> Rate | None:
    """A rate of the profile as relays know it."""
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
    """The relay of mode SMTP; Secrets are folders below `secrets`, as the kubelet mounts them."""
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
