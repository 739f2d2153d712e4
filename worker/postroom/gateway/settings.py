"""What the gateway is told by its environment: variables that begin with POSTROOM_.

A value that cannot be read ends the program before it listens, with the variable's name and the rule.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from postroom.letter.problems import Code, Problem, Rejected
from postroom.web import Endpoint, EndpointSetting


class GatewaySettings(BaseSettings):
    """The gateway's settings, frozen once read."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", frozen=True)

    gateway_http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 8080), description="Where the API is served, as host:port."
    )
    gateway_allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Names under which the API may be called, separated by commas. "
        "IP addresses and localhost are always allowed; any other name must be listed, "
        "so that a foreign page cannot reach the API through a name of its own.",
    )
    bootstrap_servers: str = Field(min_length=1, description="The Kafka brokers, as host:port,… Required.")
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

    log_format: Literal["json", "console"] = Field(
        default="json", description="How log lines are written: json for machines, console for people."
    )

    @field_validator("gateway_allowed_hosts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(name.strip().lower() for name in value.split(",") if name.strip())


def read_settings() -> GatewaySettings:
    """The settings from the environment; raises Rejected that names every variable and the rule."""
    try:
        return GatewaySettings()  # type: ignore[call-arg]
    except ValidationError as error:
        raise Rejected(*map(_problem, error.errors())) from None


def _problem(error: Any) -> Problem:
    name = "_".join(str(place) for place in error["loc"])
    variable = f"POSTROOM_{name.upper()}"
    if error["type"] == "missing":
        about = GatewaySettings.model_fields[name].description
        return Problem(Code.SETTING_MISSING, variable, f"is not set. {about}")
    return Problem(Code.SETTING_INVALID, variable, error["msg"])
