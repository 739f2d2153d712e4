"""The two sides of a dialogue: the line to the relay and the desk where letters wait."""

from typing import Protocol

from postroom.adapters.smtp.counters import Cause
from postroom.adapters.smtp.ticket import Ticket
from postroom.ports.relay import Result


class Line(Protocol):
    """The way to the relay."""

    def write(self, data: bytes) -> None: ...
    def write_content(self, content: bytes, following: bytes) -> None:
        """Write a letter, whose last line is the dot, and the commands that travel with it."""
        ...

    @property
    def dot_sent(self) -> bool:
        """Whether the last byte of the last content has been handed to the socket."""
        ...

    def rest(self) -> None:
        """There is nothing to send; `begin` again when there is."""
        ...

    def hang_up(self, cause: Cause, reason: str) -> None: ...


class Desk(Protocol):
    """Where letters wait and results go."""

    def now(self) -> float: ...
    def take(self) -> Ticket | None: ...
    def ask(self, ticket: Ticket) -> None:
        """See to it that the fence grants this letter, or withholds it; then its holder is resumed."""
        ...

    def settle(self, ticket: Ticket, result: Result) -> None:
        """Decide a letter's result; without effect when it is decided already."""
        ...

    def give_back(self, ticket: Ticket) -> None:
        """Nothing was learnt of this letter and nothing of it left: it is first in the queue again."""
        ...
