"""What every program of ours needs to serve HTTP beside its other work: an endpoint, a quiet server."""

import asyncio
import ipaddress
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from postroom.http.endpoint import Endpoint


def is_allowed_host(host: str, names: Collection[str]) -> bool:
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


HEAD_TIMEOUT_SECONDS = 10.0
"""How long a request's head may take to arrive, counted from the connection or from the last answer."""


REQUEST_TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class HeadTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP, which would wait for a request for ever while single bytes of it come."""

    head_timeout = HEAD_TIMEOUT_SECONDS
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._start_head_timer()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._head_timer:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.head_timeout, self._on_head_timeout)

    def _on_head_timeout(self) -> None:
        awaiting_request = self.cycle is None or self.cycle.response_complete
        if awaiting_request and not self.transport.is_closing():
            self.transport.write(REQUEST_TIMEOUT_RESPONSE)
            self.transport.close()


def web_server(app: Any, endpoint: Endpoint) -> WebServer:
    """A server for an ASGI application, to be run on the program's own event loop."""
    return WebServer(
        uvicorn.Config(
            app,
            host=endpoint.host,
            port=endpoint.port,
            http=HeadTimeoutProtocol,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )
