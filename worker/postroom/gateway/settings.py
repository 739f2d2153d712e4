"""Settings of the gateway: environment variables that begin with POSTROOM_.

A value that is invalid ends the program before it listens, with the variable's name and the rule.
"""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from postroom.http.endpoint import Endpoint, EndpointSetting, HostNamesSetting
from postroom.startup import ProgramSettings, exactly_one


class GatewaySettings(ProgramSettings):
    """The gateway's settings, immutable once read."""

    gateway_http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 8080), description="The endpoint of the API, as host:port."
    )
    gateway_allowed_hosts: HostNamesSetting = Field(
        default=frozenset(),
        description="Host names under which the API may be called, separated by commas. "
        "IP addresses and localhost are always allowed. Any other name must be listed, so that a foreign web "
        "page cannot reach the API through a name of its own.",
    )
    connections: Path | None = Field(
        default=None,
        description="The folder of the connections Secret. The gateway reads the Kafka keys at start. Set "
        "either this or POSTROOM_BOOTSTRAP_SERVERS.",
    )
    bootstrap_servers: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="The Kafka brokers, as host:port,… Required without POSTROOM_CONNECTIONS.",
    )
    bundles: Path = Field(
        description="The folder with one folder per profile, which holds profile.yaml and templates*.json. "
        "Required."
    )
    gateway_ledgers: Path | None = Field(
        default=None,
        description="The folder of the workers' ledgers (*.sqlite), for the lookup of letters. Without it "
        "the API has no route for the state of a message.",
    )
    gateway_ack_seconds: float = Field(
        default=5.0, gt=0, le=60, description="Seconds that a request waits for the broker's acknowledgement."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_exclusive(cls, value: object, info: ValidationInfo) -> object:
        return exactly_one(value, info.data.get("connections"), "POSTROOM_CONNECTIONS")
