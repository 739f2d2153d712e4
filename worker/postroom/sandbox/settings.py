"""What the sandbox is told by its environment: variables that begin with POSTROOM_.

A value that cannot be read ends the program before it listens, with the variable's name and the rule.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from postroom.http.endpoint import Endpoint, EndpointSetting
from postroom.startup import ProgramSettings


class SandboxSettings(ProgramSettings):
    """The sandbox's settings, frozen once read."""

    sandbox_smtp: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 1025), description="Where letters are taken in, as host:port."
    )
    sandbox_http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 8025),
        description="Where the inbox and its API are served, as host:port.",
    )
    sandbox_database: Path = Field(description="The SQLite file that holds the letters. Required.")
    sandbox_keep_letters: int = Field(
        default=10_000, ge=1, description="How many letters are kept; the oldest go first."
    )
    sandbox_keep_bytes: int = Field(
        default=1 << 30, ge=1, description="How many bytes of letters are kept; the oldest go first."
    )
    sandbox_keep_days: int = Field(
        default=30, ge=1, le=3660, description="How many days letters are kept; then they are erased."
    )
    sandbox_allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Names under which browsers may open the inbox, separated by commas. "
        "IP addresses and localhost are always allowed; any other name must be listed, "
        "so that a foreign page cannot reach the inbox through a name of its own.",
    )

    sandbox_studio: str = Field(
        default="",
        description="Address of the template studio that the inbox links to; `postroom up` sets it.",
    )

    @field_validator("sandbox_allowed_hosts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(name.strip().lower() for name in value.split(",") if name.strip())
