"""A host and a port, and the type of a setting that is written `host:port`."""

from typing import Annotated, NamedTuple

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


class Endpoint(NamedTuple):
    """A host and a port. Port 0 lets the system choose a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_endpoint(value: object) -> object:
    """`host:port` as an Endpoint; anything else is pydantic's to refuse."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{value!r} is not host:port, for instance 127.0.0.1:8080")
    return Endpoint(host.strip("[]"), int(port))


EndpointSetting = Annotated[Endpoint, NoDecode, BeforeValidator(read_endpoint)]
"""The type of a setting that is written host:port."""
