"""Settings of the worker, of `postroom migrate` and of `postroom bounces`: environment variables POSTROOM_*.

Kafka and the ledger are configured in exactly one of two forms: POSTROOM_CONNECTIONS, the mounted connections
Secret, in a cluster; POSTROOM_BOOTSTRAP_SERVERS and POSTROOM_LEDGER on one machine. At start one log line
lists the settings and defaults; a missing setting is an error that names it (`postroom.startup`).
"""

import socket
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from postroom.http.endpoint import Endpoint, EndpointSetting
from postroom.letter.allowlist import read_allowlist
from postroom.startup import ProgramSettings, exactly_one


class MigrateSettings(ProgramSettings):
    """Settings of `postroom migrate`."""

    connections: Path = Field(
        description="The folder with the connections Secret: ledger-url and ledger-schema are read. Required."
    )
    namespace: str = Field(
        default="default", description="The namespace that the ledger's schema is named after by default."
    )
    migrate_seconds: float = Field(
        default=60.0, gt=0, description="How long a PostgreSQL server that can't be reached is waited for."
    )


class BounceSettings(ProgramSettings):
    """Settings of `postroom bounces`, immutable."""

    bounces_smtp: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 2525),
        description="Where reports are taken in over SMTP or LMTP, as host:port.",
    )
    bounces_http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 9465),
        description="Where /healthz, /readyz and /metrics are served, as host:port.",
    )
    bounces_profiles: Path = Field(
        description="The folder with the SmtpProfile manifests whose return paths are honoured: *.yaml, or "
        "*/profile.yaml. Required."
    )
    bounces_ledgers: Path | None = Field(
        default=None,
        description="The folder with the SQLite ledgers of these profiles, on one machine. Without it each "
        "profile's connections Secret is read, below POSTROOM_SECRETS.",
    )
    secrets: Path = Field(
        default=Path("/var/run/postroom/secrets"),
        description="The folder with one folder per mounted Secret: the keys of return paths, connections.",
    )
    namespace: str = Field(
        default="",
        description="The namespace that the PostgreSQL ledger's schema is named after by default. Empty: the "
        "profile's.",
    )


class WorkerSettings(ProgramSettings):
    """Settings of a worker, immutable."""

    profile: Path = Field(description="The SmtpProfile manifest that this worker serves. Required.")
    bundles: Path = Field(description="The folder with the profile's compiled templates (*.json). Required.")
    connections: Path | None = Field(
        default=None,
        description="The folder with the connections Secret: where Kafka is and the PostgreSQL ledger. It is "
        "waited for. Give it, or POSTROOM_BOOTSTRAP_SERVERS and POSTROOM_LEDGER.",
    )
    bootstrap_servers: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="The Kafka brokers, as host:port,… Required without POSTROOM_CONNECTIONS.",
    )
    ledger: Path | None = Field(
        default=None,
        validate_default=True,
        description="The SQLite file of the delivery ledger, on a local disk. Required without "
        "POSTROOM_CONNECTIONS.",
    )
    namespace: str = Field(
        default="",
        description="The namespace that the PostgreSQL ledger's schema is named after by default. Empty: the "
        "profile's.",
    )
    pod: str = Field(
        default_factory=socket.gethostname,
        description="Who this worker is, in /statusz and in the ledger; no two have the same. Default: the "
        "host's name.",
    )
    profile_hash: str = Field(
        default="",
        description="Which state of its profile this worker was started with; reported in /statusz.",
    )
    fallback: Path | None = Field(
        default=None,
        description="The SmtpProfile manifest that the profile's spec.fallbackRef names; its relay is used "
        "while the circuit of the profile's own is open. Used in mode SMTP.",
    )
    sandbox: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 1025),
        description="Where the sandbox takes letters, as host:port; used in mode Sandbox.",
    )
    http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 9464),
        description="Where /healthz, /readyz, /metrics and /statusz are served, as host:port.",
    )
    secrets: Path = Field(
        default=Path("/var/run/postroom/secrets"),
        description="The folder with one folder per mounted Secret: credentials, authorities, certificates.",
    )
    callback_allow: str = Field(
        default="",
        description="What callbacks may reach beyond HTTPS to public addresses, a,b: a host, *.domain, an "
        "address or a range; http:// before one allows it without TLS as well. An administrator's to say.",
    )
    delivery_allowed: bool = Field(
        default=False,
        description="Whether mode SMTP may take effect here. When false, such a profile is treated as "
        "Sandbox and says so.",
    )
    grace: float = Field(
        default=20.0,
        gt=0,
        description="Seconds that letters under way may take at SIGTERM and when partitions move. Keep it "
        "below the pod's terminationGracePeriodSeconds.",
    )

    @field_validator("callback_allow")
    @classmethod
    def _an_allowlist(cls, value: str) -> str:
        read_allowlist(value)
        return value

    @field_validator("bootstrap_servers", "ledger")
    @classmethod
    def _one_way(cls, value: object, info: ValidationInfo) -> object:
        """Exactly one form of connection settings is given."""
        return exactly_one(value, info.data.get("connections"), "POSTROOM_CONNECTIONS")
