"""HTTP as every program serves it: who does not finish a request's head is not waited for."""

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
    """Takes its time at /slow."""
    await asyncio.sleep(0.6 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@contextmanager
def served() -> Iterator[socket.socket]:
    """A connection to it."""
    server = web_server(application, Endpoint("127.0.0.1", 0))
    server.config.http = ShortTimeoutProtocol
    with listen(Endpoint("127.0.0.1", 0), "the test") as listening:
        thread = Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=10) as line:
            yield line
        server.should_exit = True
        thread.join()


def rest(line: socket.socket) -> bytes:
    return b"".join(iter(lambda: line.recv(4096), b""))


def test_a_head_that_comes_byte_by_byte_is_given_up() -> None:
    with served() as line:
        for each in REQUEST[:10]:
            line.send(bytes([each]))
            Event().wait(0.02)
        assert rest(line).startswith(b"HTTP/1.1 408 ")


def test_the_second_request_of_a_connection_has_no_more_time_than_the_first() -> None:
    with served() as line:
        line.sendall(REQUEST + b"\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 204 ")
        line.sendall(REQUEST)
        assert rest(line).startswith(b"HTTP/1.1 408 ")


def test_an_answer_may_take_longer_than_a_head() -> None:
    with served() as line:
        line.sendall(REQUEST.replace(b"/ ", b"/slow ", 1) + b"\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 204 ")
