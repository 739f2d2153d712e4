"""Types of settings that say where an HTTP or SMTP server listens, and under which host names it answers.

Input: the text of an environment variable. Output: an `Endpoint` or a set of names. Failure: ValueError with
the rule and an example, which pydantic reports with the variable's name.
"""

from typing import Annotated, NamedTuple

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


class Endpoint(NamedTuple):
    """A host and a port. Port 0 lets the system choose a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_endpoint(value: object) -> object:
    """Parse `host:port`; a value that is not a text is left to pydantic."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{value!r} is not host:port, for instance 127.0.0.1:8080")
    return Endpoint(host.strip("[]"), int(port))


def read_host_names(value: object) -> object:
    """Parse names that are separated by commas; the result is in lower case."""
    if not isinstance(value, str):
        return value
    return frozenset(name.strip().lower() for name in value.split(",") if name.strip())


EndpointSetting = Annotated[Endpoint, NoDecode, BeforeValidator(read_endpoint)]
"""The type of a setting that is written `host:port`."""

HostNamesSetting = Annotated[frozenset[str], NoDecode, BeforeValidator(read_host_names)]
"""The type of a setting that lists host names, separated by commas."""
