"""What the gateway is told by its environment: variables that begin with POSTROOM_.

A value that cannot be read ends the program before it listens, with the variable's name and the rule.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from postroom.http.endpoint import Endpoint, EndpointSetting
from postroom.startup import ProgramSettings, exactly_one


class GatewaySettings(ProgramSettings):
    """The gateway's settings, frozen once read."""

    gateway_http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 8080), description="Where the API is served, as host:port."
    )
    gateway_allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Names under which the API may be called, separated by commas. "
        "IP addresses and localhost are always allowed; any other name must be listed, "
        "so that a foreign page cannot reach the API through a name of its own.",
    )
    connections: Path | None = Field(
        default=None,
        description="The folder with the connections Secret, of which Kafka's keys are read at start. Give "
        "it, or POSTROOM_BOOTSTRAP_SERVERS.",
    )
    bootstrap_servers: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="The Kafka brokers, as host:port,… Required without POSTROOM_CONNECTIONS.",
    )
    bundles: Path = Field(
        description="The folder that holds one folder per profile with profile.yaml and templates*.json. "
        "Required."
    )
    gateway_ledgers: Path | None = Field(
        default=None,
        description="The folder of the workers' ledgers (*.sqlite), to look letters up in. Without it the "
        "API does not answer what became of a message.",
    )
    gateway_ack_seconds: float = Field(
        default=5.0, gt=0, le=60, description="How long a request waits for the broker's acknowledgement."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _one_way(cls, value: object, info: ValidationInfo) -> object:
        return exactly_one(value, info.data.get("connections"), "POSTROOM_CONNECTIONS")

    @field_validator("gateway_allowed_hosts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(name.strip().lower() for name in value.split(",") if name.strip())
