"""What the sandbox is told by its environment: variables that begin with POSTROOM_SANDBOX_.

A value that cannot be read ends the program before it listens, with the variable's name and the rule.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Endpoint(NamedTuple):
    """Where a server listens. Port 0 lets the system choose a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SandboxSettings(BaseSettings):
    """The sandbox's settings, frozen once read."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_SANDBOX_", frozen=True)

    smtp: Annotated[Endpoint, NoDecode] = Field(
        default=Endpoint("127.0.0.1", 1025), description="Where letters are taken in, as host:port."
    )
    http: Annotated[Endpoint, NoDecode] = Field(
        default=Endpoint("127.0.0.1", 8025),
        description="Where the inbox and its API are served, as host:port.",
    )
    database: Path = Field(description="The SQLite file that holds the letters. Required.")
    keep_letters: int = Field(
        default=10_000, ge=1, description="How many letters are kept; the oldest go first."
    )
    keep_bytes: int = Field(
        default=1 << 30, ge=1, description="How many bytes of letters are kept; the oldest go first."
    )
    allowed_hosts: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Names under which browsers may open the inbox, separated by commas. "
        "IP addresses and localhost are always allowed; any other name must be listed, "
        "so that a foreign page cannot reach the inbox through a name of its own.",
    )

    @field_validator("smtp", "http", mode="before")
    @classmethod
    def _endpoint(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        host, colon, port = value.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError(f"{value!r} is not host:port, for instance 127.0.0.1:1025")
        return Endpoint(host.strip("[]"), int(port))

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(name.strip().lower() for name in value.split(",") if name.strip())
