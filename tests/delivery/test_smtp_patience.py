"""When a connection gives its relay up: each answer has its own patience, and progress renews it."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from postroom.adapters.smtp.capabilities import Capabilities
from postroom.adapters.smtp.channel import Channel
from postroom.adapters.smtp.connection import Connection
from postroom.adapters.smtp.counters import Cause, Counters
from postroom.adapters.smtp.opening import Opened
from postroom.adapters.smtp.settings import RelaySettings
from postroom.adapters.smtp.ticket import Ticket
from postroom.ports.relay import Lost, Result, Stage
from tests.delivery.smtp_letters import Letter


@dataclass
class Post:
    """One letter, a clock that is moved by hand, and a record."""

    letter: Ticket | None
    counters: Counters = field(default_factory=Counters)
    time: float = 0.0
    results: list[Result] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def take(self) -> Ticket | None:
        letter, self.letter = self.letter, None
        return letter

    def ask(self, ticket: Ticket) -> None:
        ticket.until = math.inf

    def settle(self, ticket: Ticket, result: Result) -> None:
        self.results.append(result)

    def give_back(self, ticket: Ticket) -> None:
        self.letter = ticket

    def rested(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection, cause: Cause, reason: str) -> None:
        self.causes.append(cause)


Scene = Callable[[Post, Connection, socket.socket], Awaitable[None]]


def play(scene: Scene, size: int | None = 0) -> Post:
    """A connection with one letter of that size, or none, on a pair of sockets."""

    async def run() -> Post:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        post = Post(None if size is None else Ticket(Letter("reader@example.net", size), lambda _: None))
        connection = Connection(
            Opened(Channel(ours), Capabilities(pipelining=True)), post, RelaySettings("127.0.0.1")
        )
        connection.start()
        try:
            await scene(post, connection, theirs)
        finally:
            theirs.close()
            if not connection.dialogue.over:
                connection.dialogue.lose(Cause.CLOSED, "the end of the test")
        return post

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "seconds", "stage"),
    [
        (b"", 300, Stage.MAIL),
        (b"250 ok\r\n", 300, Stage.RCPT),
        (b"250 ok\r\n250 ok\r\n", 120, Stage.DATA),
        (b"250 ok\r\n250 ok\r\n354 go\r\n", 600, Stage.DOT),
    ],
)
def test_each_answer_has_the_patience_that_rfc_5321_asks_for(
    said: bytes, seconds: float, stage: Stage
) -> None:
    async def scene(post: Post, connection: Connection, relay: socket.socket) -> None:
        connection.receive(said)
        connection.check(0.0)
        connection.check(seconds)
        assert post.causes == []
        connection.check(seconds + 1)
        assert post.causes == [Cause.DEADLINE]

    assert play(scene).results == [
        Lost(stage, stage is Stage.DOT, f"no answer to {stage.upper()} within {seconds} s")
    ]


def test_content_that_the_relay_takes_slowly_renews_its_patience() -> None:
    async def scene(post: Post, connection: Connection, relay: socket.socket) -> None:
        connection.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
        for minute in range(1, 20):
            with suppress(BlockingIOError):
                while relay.recv(65536):
                    pass
            for _ in range(3):
                await asyncio.sleep(0)
            connection.check(minute * 170.0)
            assert post.causes == []
        connection.check(19 * 170.0 + 181)
        assert post.causes == [Cause.DEADLINE]

    (result,) = play(scene, size=20_000_000).results
    assert result == Lost(Stage.DATA, False, "no answer to DOT within 180 s")


def test_an_idle_connection_takes_leave_and_waits_a_little_for_the_answer() -> None:
    async def scene(post: Post, connection: Connection, relay: socket.socket) -> None:
        connection.check(60.0)
        assert connection.dialogue.resting
        post.time = 61.0
        connection.check(61.0)
        assert relay.recv(100) == b"QUIT\r\n"
        connection.check(61.0)
        connection.check(66.0)
        assert post.causes == []
        connection.check(67.0)
        assert post.causes == [Cause.DEADLINE]

    assert play(scene, size=None).results == []
