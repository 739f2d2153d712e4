"""The environment of one `TransactionPipeline`, without sockets and with a clock that tests set."""

import math
from collections import deque
from dataclasses import dataclass, field

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.dialer import Capabilities
from postroom.adapters.smtp.transaction import QueuedMessage, TransactionPipeline
from postroom.ports.relay import Envelope, NotSent, Result


@dataclass(eq=False)
class Letter:
    envelope: Envelope
    content: bytes


@dataclass
class World:
    """The transport and the send queue in one object: records writes and results; tests set the time."""

    pipelining: bool = True
    max_messages: int = 1000
    queue: deque[QueuedMessage] = field(default_factory=deque)
    asked: list[QueuedMessage] = field(default_factory=list)
    results: dict[QueuedMessage, Result] = field(default_factory=dict)
    returned: list[QueuedMessage] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    owed: deque[str] = field(default_factory=deque)
    """Commands without a reply yet."""
    contents: list[bytes] = field(default_factory=list)
    flushed: bool = True
    idle: int = 0
    ended: CloseCause | None = None
    time: float = 0.0

    def __post_init__(self) -> None:
        self.transactions = TransactionPipeline(
            self, self, Capabilities(pipelining=self.pipelining), self.max_messages
        )

    def put(self, count: int) -> list[QueuedMessage]:
        first = len(self.queue)
        made = []
        for number in range(first, first + count):
            name = f"r{number}@example.net"
            made.append(
                QueuedMessage(
                    Letter(Envelope("s@example.com", name), f"To: {name}\r\n".encode()), lambda _: None
                )
            )
        self.queue.extend(made)
        return made

    def grant(self, queued: QueuedMessage, until: float = math.inf) -> None:
        queued.granted_until = until
        self.answer(queued)

    def refuse(self, queued: QueuedMessage) -> None:
        self.settle(queued, NotSent(fenced=True))
        self.answer(queued)

    def answer(self, queued: QueuedMessage) -> None:
        self.asked.remove(queued)
        queued.fence_requested = False
        waiter, queued.waiter = queued.waiter, None
        if waiter is not None:
            waiter.resume()

    # --- the send queue

    def now(self) -> float:
        return self.time

    def take(self) -> QueuedMessage | None:
        return self.queue.popleft() if self.queue else None

    def ask(self, queued: QueuedMessage) -> None:
        if not queued.fence_requested and queued.granted_until <= self.time:
            queued.fence_requested = True
            self.asked.append(queued)

    def settle(self, queued: QueuedMessage, result: Result) -> None:
        if not queued.settled:
            queued.settled = True
            assert queued not in self.results
            self.results[queued] = result

    def requeue(self, queued: QueuedMessage) -> None:
        if not queued.settled:
            self.returned.append(queued)

    # --- the transport

    def write(self, data: bytes) -> None:
        assert self.ended is None
        self.written.append(data)
        self.owed.extend(data.decode().split("\r\n")[:-1])

    def write_content(self, content: bytes, following: bytes) -> None:
        current = self.transactions.current
        assert current is not None
        assert not current.settled
        assert current.granted_until > self.time
        assert content == current.content + b".\r\n"
        self.contents.append(content)
        self.written.append(content + following)
        self.owed.extend([".", *following.decode().split("\r\n")[:-1]])

    @property
    def end_of_data_sent(self) -> bool:
        return self.flushed

    def on_idle(self) -> None:
        self.idle += 1

    def close(self, cause: CloseCause, reason: str) -> None:
        assert self.ended is None
        self.ended = cause

    # --- the relay

    def on_reply(self, *codes: int) -> None:
        """Pass replies of the relay to the transactions, in order."""
        for code in codes:
            if self.ended is None:
                self.answer_command(self.owed.popleft() if self.owed else "", code)
                self.transactions.on_reply(code, b"text")

    def answer_command(self, command: str, code: int) -> None:
        """Hook for a subclass that keeps the relay's state of the transaction."""
