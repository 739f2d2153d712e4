"""What every program of ours needs to serve HTTP beside its other work: an endpoint, a quiet server."""

import asyncio
import ipaddress
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import uvicorn
from pydantic import BeforeValidator
from pydantic_settings import NoDecode
from uvicorn.protocols.http.h11_impl import H11Protocol


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


def goes_by(host: str, names: Collection[str]) -> bool:
    """Whether a Host header may be ours: an IP address, localhost, or one of `names`.

    Any other name may be an attacker's that points at this machine, so that a web page of his passes for
    the same origin (DNS rebinding).
    """
    name = hostname(host)
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def hostname(host: str) -> str:
    """A Host header's name without the port, in lower case; empty when it cannot be read."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handling: a program has one for all its parts."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


HEAD_SECONDS = 10.0
"""How long a request's head may take to arrive, counted from the connection or from the last answer."""


TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which would wait for a request for ever while single bytes of it come."""

    head_seconds = HEAD_SECONDS
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._patience:
            self._patience.cancel()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        if waits and not self.transport.is_closing():
            self.transport.write(TOO_SLOW)
            self.transport.close()


def web_server(app: Any, endpoint: Endpoint) -> WebServer:
    """A server for an ASGI application, to be run on the program's own event loop."""
    return WebServer(
        uvicorn.Config(
            app,
            host=endpoint.host,
            port=endpoint.port,
            http=PatientProtocol,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
