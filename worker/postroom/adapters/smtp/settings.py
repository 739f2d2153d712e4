"""How to reach one relay: address, TLS, credentials, limits and patience. Values only.

Built once by the wiring from a profile. A combination that would send credentials in clear is refused
here, with `ValueError`, before anything is opened.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class TlsMode(StrEnum):
    """How the connection is protected; the names are those of `SmtpProfile.spec.smtp.tls.mode`."""

    REQUIRED = "Required"
    """STARTTLS, certificate verified; a relay that does not offer it gets no letter."""
    OPPORTUNISTIC = "Opportunistic"
    """STARTTLS when offered, certificate not verified; in clear when it is not offered or fails.
    It hides letters from a listener and does not stop a man in the middle."""
    IMPLICIT = "Implicit"
    """TLS from the first byte (port 465, RFC 8314), certificate verified."""
    NONE = "None"
    """In clear. For the sandbox and for relays on the same machine; never with credentials."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS towards the relay. Files are read again when they change, so that a rotated Secret is used."""

    mode: TlsMode = TlsMode.REQUIRED
    server_name: str | None = None
    """The name that the certificate must carry; the relay's host name when absent."""
    ca_file: Path | None = None
    """PEM authorities to trust in place of the system's."""
    certificate_file: Path | None = None
    """PEM client certificate and chain; needs `key_file`."""
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password; neither shows in a repr."""

    username: str = field(repr=False)
    password: str = field(repr=False)


class AuthMethod(StrEnum):
    """SASL mechanisms spoken: RFC 4616 and the older LOGIN that many relays still ask for."""

    PLAIN = "PLAIN"
    LOGIN = "LOGIN"


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """SMTP AUTH (RFC 4954). `credentials` is called for each new connection; OSError means not readable."""

    method: AuthMethod
    credentials: Callable[[], Credentials]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for each answer before the connection is given up (RFC 5321 §4.5.3.2)."""

    connect: float = 30.0
    command: float = 300.0
    """The greeting, EHLO, STARTTLS, AUTH, MAIL and RCPT."""
    data: float = 120.0
    block: float = 180.0
    """Between two pieces of content that the socket takes."""
    dot: float = 600.0
    """Giving up earlier makes duplicates: the relay may have taken the letter (RFC 1047)."""
    behind: float = 3.0
    """That a letter waits behind an answer to the dot, when it could go over another connection."""
    quit: float = 5.0
    idle: float = 60.0
    """An unused connection is closed with QUIT after this long."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between attempts after one failed; doubled up to `ceiling` while other connections are open."""

    first: float = 1.0
    ceiling: float = 30.0


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """One relay and what this process may ask of it."""

    host: str
    port: int = 587
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings | None = None
    connections: int = 16
    messages_per_connection: int = 1000
    hello: str | None = None
    """The name given in EHLO; the address literal of the connection when absent (RFC 5321 §4.1.4)."""
    patience: Timeouts = Timeouts()
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
