"""Settings of one relay: address, TLS, credentials, limits and timeouts. Values only.

`worker.relays` builds them once from a profile.

Failure: `ValueError` for a combination that would send credentials in clear text, before a connection is
opened.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class TlsMode(StrEnum):
    """How the connection is encrypted; the values are those of `SmtpProfile.spec.smtp.tls.mode`."""

    REQUIRED = "Required"
    """STARTTLS with a verified certificate; nothing is sent to a relay that does not offer it."""
    OPPORTUNISTIC = "Opportunistic"
    """STARTTLS when offered, certificate not verified; clear text when it is not offered or fails.
    Protects against a passive listener, not against a man in the middle."""
    IMPLICIT = "Implicit"
    """TLS from the first byte (port 465, RFC 8314), certificate verified."""
    NONE = "None"
    """Clear text. For the sandbox and for relays on the same machine; never with credentials."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS settings. Files are read again when they change, so that a rotated Secret is used."""

    mode: TlsMode = TlsMode.REQUIRED
    server_name: str | None = None
    """The name that the certificate must have; None: the relay's host name."""
    ca_file: Path | None = None
    """PEM file of the trusted authorities; None: those of the system."""
    certificate_file: Path | None = None
    """PEM client certificate and chain; requires `key_file`."""
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; the repr contains neither."""

    username: str = field(repr=False)
    password: str = field(repr=False)


class AuthMethod(StrEnum):
    """Supported SASL mechanisms: PLAIN (RFC 4616), and LOGIN, which many relays still require."""

    PLAIN = "PLAIN"
    LOGIN = "LOGIN"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """SMTP AUTH (RFC 4954). `credentials` is called for each new connection; it raises OSError on failure."""

    method: AuthMethod
    credentials: Callable[[], Credentials]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for each reply before the connection is closed (RFC 5321 §4.5.3.2)."""

    connect: float = 30.0
    command: float = 300.0
    """For the greeting, EHLO, STARTTLS, AUTH, MAIL and RCPT."""
    data: float = 120.0
    block: float = 180.0
    """Between two pieces of content that the socket accepts."""
    end_of_data: float = 600.0
    """A shorter timeout makes duplicates: the relay may have accepted the letter (RFC 1047)."""
    next_letter: float = 3.0
    """The next letter's wait for a reply to the end of data, when another connection could carry it."""
    quit: float = 5.0
    idle: float = 60.0
    """An idle connection is closed with QUIT after this time."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts after a failure; doubled up to `ceiling` while other connections are open."""

    first: float = 1.0
    ceiling: float = 30.0


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """One relay and the limits of this process towards it."""

    host: str
    port: int = 587
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings | None = None
    connections: int = 16
    messages_per_connection: int = 1000
    hello: str | None = None
    """The name in EHLO; None: the address literal of the connection (RFC 5321 §4.1.4)."""
    timeouts: Timeouts = Timeouts()
    backoff: Backoff = Backoff()

    def __post_init__(self) -> None:
        if self.auth is not None and self.tls.mode is TlsMode.NONE:
            raise ValueError(
                f"the relay {self.host}:{self.port} has auth but tls.mode None: credentials are never sent "
                "in clear; set tls.mode to Required or Implicit, or remove auth"
            )
        if (self.tls.certificate_file is None) != (self.tls.key_file is None):
            raise ValueError(
                f"the relay {self.host}:{self.port} needs both a client certificate and its key, or neither"
            )
        if self.connections < 1 or self.messages_per_connection < 1:
            raise ValueError(
                f"the relay {self.host}:{self.port} needs at least one connection and one letter on it"
            )
