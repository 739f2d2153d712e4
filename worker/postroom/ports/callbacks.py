"""Callbacks: what carries notices to a URL, and what it reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from postroom.ports.notices import Notice


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call."""

    status: int = 0
    """The HTTP status; 0 where none came."""
    reason: str = ""
    """Why none came, for people; without anything that a server said."""
    blocked: bool = False
    """The address is not allowed."""
    retry_after: float = 0.0
    """Seconds that the server asks to wait."""


class Caller(Protocol):
    """Calls one URL."""

    async def call(self, notice: Notice, keys: Sequence[bytes], now: datetime) -> Answer:
        """Send a notice, signed with each of the keys."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
