"""An HTTP server that runs beside a program's other work, on the program's own event loop.

Input: an ASGI application and an endpoint. Output: a uvicorn server without signal handlers and access log.
A client that does not finish a request's head within 10 s gets status 408, and the connection is closed.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from postroom.http.endpoint import Endpoint

HEAD_TIMEOUT_SECONDS = 10.0
"""Seconds for the head of a request, counted from the connection or from the last response."""
REQUEST_TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the program stops all its parts on a signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


class HeadTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a time limit for the head of each request.

    uvicorn itself waits without limit while single bytes of a head arrive.
    """

    head_timeout = HEAD_TIMEOUT_SECONDS
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._start_head_timer()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        super().on_response_complete()
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
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
    """Make a server for an ASGI application; the caller runs it with `serve`."""
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
