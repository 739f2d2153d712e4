"""Settings of the sandbox: environment variables that begin with POSTROOM_.

A value that is invalid ends the program before it listens, with the variable's name and the rule.
"""

from pathlib import Path

from pydantic import Field

from postroom.http.endpoint import Endpoint, EndpointSetting, HostNamesSetting
from postroom.startup import ProgramSettings


class SandboxSettings(ProgramSettings):
    """The sandbox's settings, immutable once read."""

    sandbox_smtp: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 1025), description="The endpoint of the mail server, as host:port."
    )
    sandbox_http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 8025),
        description="The endpoint of the inbox and its API, as host:port.",
    )
    sandbox_database: Path = Field(description="The SQLite file that stores the letters. Required.")
    sandbox_keep_letters: int = Field(
        default=10_000, ge=1, description="The most letters that are kept; the oldest are erased first."
    )
    sandbox_keep_bytes: int = Field(
        default=1 << 30,
        ge=1,
        description="The most bytes of letters that are kept; the oldest are erased first.",
    )
    sandbox_keep_days: int = Field(
        default=30, ge=1, le=3660, description="Days that letters are kept before they are erased."
    )
    sandbox_allowed_hosts: HostNamesSetting = Field(
        default=frozenset(),
        description="Host names under which browsers may open the inbox, separated by commas. "
        "IP addresses and localhost are always allowed. Any other name must be listed, so that a foreign web "
        "page cannot reach the inbox through a name of its own.",
    )
    sandbox_studio: str = Field(
        default="",
        description="The URL of the template studio that the inbox links to; `postroom up` sets it.",
    )
