"""The world of one dialogue, without sockets and with a clock that stands: its line and its desk in one."""

import math
from collections import deque
from dataclasses import dataclass, field

from postroom.adapters.smtp.capabilities import Capabilities
from postroom.adapters.smtp.counters import Cause
from postroom.adapters.smtp.dialogue import Dialogue
from postroom.adapters.smtp.ticket import Ticket
from postroom.ports.relay import Envelope, Result, Withheld


@dataclass(eq=False)
class Letter:
    envelope: Envelope
    content: bytes


@dataclass
class World:
    """Line and desk in one: what was written, what became of each letter, and a clock that stands."""

    pipelining: bool = True
    allowance: int = 1000
    queue: deque[Ticket] = field(default_factory=deque)
    asked: list[Ticket] = field(default_factory=list)
    results: dict[Ticket, Result] = field(default_factory=dict)
    returned: list[Ticket] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    owed: deque[str] = field(default_factory=deque)
    """Commands that the relay has not answered."""
    contents: list[bytes] = field(default_factory=list)
    flushed: bool = True
    resting: int = 0
    ended: Cause | None = None
    time: float = 0.0

    def __post_init__(self) -> None:
        self.dialogue = Dialogue(self, self, Capabilities(pipelining=self.pipelining), self.allowance)

    def put(self, count: int) -> list[Ticket]:
        first = len(self.queue)
        made = []
        for number in range(first, first + count):
            name = f"r{number}@example.net"
            made.append(
                Ticket(Letter(Envelope("s@example.com", name), f"To: {name}\r\n".encode()), lambda _: None)
            )
        self.queue.extend(made)
        return made

    def grant(self, ticket: Ticket, until: float = math.inf) -> None:
        ticket.until = until
        self.answer(ticket)

    def refuse(self, ticket: Ticket) -> None:
        self.settle(ticket, Withheld(fenced=True))
        self.answer(ticket)

    def answer(self, ticket: Ticket) -> None:
        self.asked.remove(ticket)
        ticket.asked = False
        holder, ticket.holder = ticket.holder, None
        if holder is not None:
            holder.resume()

    # --- the desk

    def now(self) -> float:
        return self.time

    def take(self) -> Ticket | None:
        return self.queue.popleft() if self.queue else None

    def ask(self, ticket: Ticket) -> None:
        if not ticket.asked and ticket.until <= self.time:
            ticket.asked = True
            self.asked.append(ticket)

    def settle(self, ticket: Ticket, result: Result) -> None:
        if not ticket.done:
            ticket.done = True
            assert ticket not in self.results
            self.results[ticket] = result

    def give_back(self, ticket: Ticket) -> None:
        if not ticket.done:
            self.returned.append(ticket)

    # --- the line

    def write(self, data: bytes) -> None:
        assert self.ended is None
        self.written.append(data)
        self.owed.extend(data.decode().split("\r\n")[:-1])

    def write_content(self, content: bytes, following: bytes) -> None:
        current = self.dialogue.current
        assert current is not None
        assert not current.done
        assert current.until > self.time
        assert content == current.content + b".\r\n"
        self.contents.append(content)
        self.written.append(content + following)
        self.owed.extend([".", *following.decode().split("\r\n")[:-1]])

    @property
    def dot_sent(self) -> bool:
        return self.flushed

    def rest(self) -> None:
        self.resting += 1

    def hang_up(self, cause: Cause, reason: str) -> None:
        assert self.ended is None
        self.ended = cause

    # --- the relay

    def hear(self, *codes: int) -> None:
        """The relay's answers, in order."""
        for code in codes:
            if self.ended is None:
                self.answer_command(self.owed.popleft() if self.owed else "", code)
                self.dialogue.hear(code, b"text")

    def answer_command(self, command: str, code: int) -> None:
        """For a world that keeps the relay's side of the transaction."""
