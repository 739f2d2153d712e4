"""The timeouts of a connection: each reply has its own, and progress restarts it."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from postroom.adapters.smtp.counters import CloseCause, RelayCounters
from postroom.adapters.smtp.dialer import Capabilities, Session
from postroom.adapters.smtp.pool import RelayConnection
from postroom.adapters.smtp.settings import RelaySettings
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.adapters.smtp.transport import HandshakeStream
from postroom.ports.relay import Lost, Result, Stage
from tests.smtp.outbound_messages import Letter


@dataclass
class StubPool:
    """The pool of one connection: one letter, a clock that tests set, and records of the calls."""

    letter: QueuedMessage | None
    counters: RelayCounters = field(default_factory=RelayCounters)
    time: float = 0.0
    results: list[Result] = field(default_factory=list)
    causes: list[CloseCause] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def take(self) -> QueuedMessage | None:
        letter, self.letter = self.letter, None
        return letter

    def ask(self, queued: QueuedMessage) -> None:
        queued.granted_until = math.inf

    def settle(self, queued: QueuedMessage, result: Result) -> None:
        self.results.append(result)

    def requeue(self, queued: QueuedMessage) -> None:
        self.letter = queued

    def on_connection_idle(self, connection: RelayConnection) -> None: ...

    def on_connection_closed(self, connection: RelayConnection, cause: CloseCause, reason: str) -> None:
        self.causes.append(cause)


Script = Callable[[StubPool, RelayConnection, socket.socket], Awaitable[None]]


def play(script: Script, size: int | None = 0) -> StubPool:
    """A connection with one letter of that size, or none, on a pair of sockets."""

    async def run() -> StubPool:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        stub_pool = StubPool(
            None if size is None else QueuedMessage(Letter("reader@example.net", size), lambda _: None)
        )
        connection = RelayConnection(
            Session(HandshakeStream(ours), Capabilities(pipelining=True)),
            stub_pool,
            RelaySettings("127.0.0.1"),
        )
        connection.start()
        try:
            await script(stub_pool, connection, theirs)
        finally:
            theirs.close()
            if not connection.transactions.over:
                connection.transactions.abort(CloseCause.CLOSED, "the end of the test")
        return stub_pool

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("received", "seconds", "stage"),
    [
        (b"", 300, Stage.MAIL),
        (b"250 ok\r\n", 300, Stage.RCPT),
        (b"250 ok\r\n250 ok\r\n", 120, Stage.DATA),
        (b"250 ok\r\n250 ok\r\n354 go\r\n", 600, Stage.END_OF_DATA),
    ],
)
def test_each_reply_has_the_timeout_of_rfc_5321(received: bytes, seconds: float, stage: Stage) -> None:
    async def script(stub_pool: StubPool, connection: RelayConnection, relay: socket.socket) -> None:
        connection.on_data(received)
        connection.check_deadline(0.0)
        connection.check_deadline(seconds)
        assert stub_pool.causes == []
        connection.check_deadline(seconds + 1)
        assert stub_pool.causes == [CloseCause.DEADLINE]

    assert play(script).results == [
        Lost(
            stage,
            stage is Stage.END_OF_DATA,
            f"no reply to {stage.replace('_', ' ').upper()} within {seconds} s",
        )
    ]


def test_slow_progress_of_the_content_restarts_the_timeout() -> None:
    async def script(stub_pool: StubPool, connection: RelayConnection, relay: socket.socket) -> None:
        connection.on_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
        for minute in range(1, 20):
            with suppress(BlockingIOError):
                while relay.recv(65536):
                    pass
            for _ in range(3):
                await asyncio.sleep(0)
            connection.check_deadline(minute * 170.0)
            assert stub_pool.causes == []
        connection.check_deadline(19 * 170.0 + 181)
        assert stub_pool.causes == [CloseCause.DEADLINE]

    (result,) = play(script, size=20_000_000).results
    assert result == Lost(Stage.DATA, False, "no reply to END OF DATA within 180 s")


def test_an_idle_connection_sends_quit_and_waits_a_few_seconds_for_the_reply() -> None:
    async def script(stub_pool: StubPool, connection: RelayConnection, relay: socket.socket) -> None:
        connection.check_deadline(60.0)
        assert connection.transactions.idle
        stub_pool.time = 61.0
        connection.check_deadline(61.0)
        assert relay.recv(100) == b"QUIT\r\n"
        connection.check_deadline(61.0)
        connection.check_deadline(66.0)
        assert stub_pool.causes == []
        connection.check_deadline(67.0)
        assert stub_pool.causes == [CloseCause.DEADLINE]

    assert play(script, size=None).results == []
