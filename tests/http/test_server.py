"""The HTTP server of all programs: a request whose head does not arrive in time gets status 408."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from postroom.http.endpoint import Endpoint
from postroom.http.server import HeadTimeoutProtocol, web_server
from postroom.startup import listen

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"


class ShortTimeoutProtocol(HeadTimeoutProtocol):
    head_timeout = 0.3


async def application(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    """Answers 204; at /slow after 0.6 s, longer than the limit for the head."""
    await asyncio.sleep(0.6 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@contextmanager
def served() -> Iterator[socket.socket]:
    """A connection to a running server."""
    server = web_server(application, Endpoint("127.0.0.1", 0))
    server.config.http = ShortTimeoutProtocol
    with listen(Endpoint("127.0.0.1", 0), "the test") as listening:
        thread = Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=10) as connection:
            yield connection
        server.should_exit = True
        thread.join()


def receive_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_head_that_comes_byte_by_byte_times_out() -> None:
    with served() as connection:
        for byte in REQUEST[:10]:
            connection.send(bytes([byte]))
            Event().wait(0.02)
        assert receive_all(connection).startswith(b"HTTP/1.1 408 ")


def test_the_second_request_of_a_connection_has_the_same_limit() -> None:
    with served() as connection:
        connection.sendall(REQUEST + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 204 ")
        connection.sendall(REQUEST)
        assert receive_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_response_may_take_longer_than_the_limit_for_a_head() -> None:
    with served() as connection:
        connection.sendall(REQUEST.replace(b"/ ", b"/slow ", 1) + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 204 ")
