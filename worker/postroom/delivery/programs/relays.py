"""Which relay a profile's letters go to: the wiring of its mode, and the guard.

Mode SMTP takes effect only where delivery was allowed; everywhere else the profile is treated as Sandbox
and says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from postroom.adapters.log_relay import LogRelay
from postroom.adapters.smtp import SmtpRelay
from postroom.adapters.smtp.counters import Counters
from postroom.adapters.smtp.settings import (
    Auth,
    AuthMethod,
    Credentials,
    Rate,
    RelaySettings,
    Tls,
    TlsMode,
)
from postroom.delivery.settings import WorkerSettings
from postroom.letter import profile as model
from postroom.letter.duration import seconds
from postroom.ports.ledger import State
from postroom.ports.relay import Relay

ROOM_PER_CONNECTION = 4
"""Letters that a relay may hold for each connection: one under way, one pipelined, two in line."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Where letters leave: the relay, what a 250 of it means, and how much it may hold."""

    mode: Literal["Sandbox", "SMTP", "Log"]
    relay: Relay
    accepted_as: State
    room: int
    counters: Counters | None
    where: str
    """The relay's host and port, for messages."""
    guarded: bool
    """True: the profile asks for SMTP and is treated as Sandbox, because delivery is not allowed here."""


def open_exit(profile: model.SmtpProfile, settings: WorkerSettings) -> Exit:
    """Choose and configure the relay; nothing is connected yet."""
    spec = profile.spec
    guarded = spec.mode == "SMTP" and not settings.delivery_allowed
    mode = "Sandbox" if guarded else spec.mode
    room = spec.limits.connections * ROOM_PER_CONNECTION
    if mode == "Log":
        return Exit(mode, LogRelay(), State.CAPTURED, room, None, "", guarded)
    chosen = smtp_settings(spec, settings.secrets) if mode == "SMTP" else _sandbox_settings(spec, settings)
    relay = SmtpRelay(chosen)
    accepted_as = State.ACCEPTED if mode == "SMTP" else State.CAPTURED
    where = f"{chosen.host}:{chosen.port}"
    return Exit(mode, relay, accepted_as, room, relay.counters, where, guarded)


def _sandbox_settings(spec: model.SmtpProfileSpec, settings: WorkerSettings) -> RelaySettings:
    return RelaySettings(
        host=settings.sandbox.host,
        port=settings.sandbox.port,
        tls=Tls(TlsMode.NONE),
        connections=spec.limits.connections,
        messages_per_connection=spec.limits.messages_per_connection,
    )


def smtp_settings(spec: model.SmtpProfileSpec, secrets: Path) -> RelaySettings:
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
        rate=Rate(limits.rate.count, seconds(limits.rate.period)) if limits.rate else None,
    )


def _tls(tls: model.Tls, secrets: Path) -> Tls:
    client = secrets / tls.client_cert_secret_ref.name if tls.client_cert_secret_ref else None
    return Tls(
        mode=TlsMode(tls.mode),
        server_name=tls.server_name,
        ca_file=secrets / tls.ca_ref.name / "ca.crt" if tls.ca_ref else None,
        certificate_file=client / "tls.crt" if client else None,
        key_file=client / "tls.key" if client else None,
    )


def _auth(auth: model.Auth, secrets: Path) -> Auth:
    folder = secrets / auth.secret_ref.name

    def read() -> Credentials:
        return Credentials(
            (folder / auth.secret_ref.username_key).read_text("utf-8").rstrip("\r\n"),
            (folder / auth.secret_ref.password_key).read_text("utf-8").rstrip("\r\n"),
        )

    return Auth(AuthMethod(auth.method), read)
