"""What a worker is told by its environment: variables that begin with POSTROOM_.

At start one line says which are set and which took their default; a missing one is named with where to
set it (`postroom.startup`).
"""

from pathlib import Path

from pydantic import Field

from postroom.startup import ProgramSettings
from postroom.web import Endpoint, EndpointSetting


class WorkerSettings(ProgramSettings):
    """A worker's settings, frozen once read."""

    profile: Path = Field(description="The SmtpProfile manifest that this worker serves. Required.")
    bundles: Path = Field(description="The folder with the profile's compiled templates (*.json). Required.")
    bootstrap_servers: str = Field(min_length=1, description="The Kafka brokers, as host:port,… Required.")
    ledger: Path = Field(description="The SQLite file of the delivery ledger, on a local disk. Required.")
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
