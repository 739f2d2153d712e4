"""Notices: what others are told of letters. They wait in the ledger's outbox until somebody has them.

A herald says which notices follow from what became of a letter; the ledger puts them into its outbox in the
very commit that it happens in. Who carries them to their destination clears them afterwards, so that each
arrives at least once, under an id that never changes.

Callbacks: what carries notices to a URL, and what it reports.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.letter.identity import Identity
from postroom.ports.ledger import State

TOPIC = ""
"""The destination of notices for the status topic; every other is a callback's name."""


@dataclass(frozen=True, slots=True)
class LetterTransition:
    """What became of a letter just now."""

    row: int
    identity: Identity
    event_type: str
    state: State
    at: datetime
    attempts: int = 0
    code: str = ""
    """The problem code, where there is a problem."""
    reply: str = ""
    """The relay's answer with its code, where there is one."""
    report: Mapping[str, str] = field(default_factory=dict)
    """The report that proves it, where one does: its kind and status."""
    due: datetime | None = None
    template: str = ""
    revision: str = ""
    message_id: str = ""
    user_id: str | None = None
    request_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one destination."""

    id: str
    """The same however often it is published, and the same for every destination."""
    destination: str
    key: str
    """What belongs together: notices with one key are published in order on the topic."""
    type: str
    data: str
    """JSON."""
    at: datetime
    letter: int
    """The letter's row."""
    row: int = 0
    """Its place in the outbox; 0 before it has one."""
    attempts: int = 0


NotificationRule = Callable[[LetterTransition], Sequence[Notification]]


class NotificationOutbox(Protocol):
    """Where notices wait; a part of the ledger."""

    def announce(self, herald: NotificationRule) -> None:
        """From now on, put into the outbox what the herald says, in the commit that it is about."""
        ...

    async def pending(self, destination: str, now: datetime, limit: int) -> Sequence[Notification]:
        """The notices of a destination whose time has come, oldest first."""
        ...

    async def delivered(self, notices: Sequence[Notification]) -> None:
        """Clear notices that arrived, or that are given up."""
        ...

    async def postpone(self, until: Sequence[tuple[Notification, datetime]]) -> None:
        """Come back to each at its time; it counts as a try."""
        ...

    async def abandon(self, destinations: Collection[str]) -> int:
        """Drop the notices of this profile to all other destinations; how many went."""
        ...


class StatusEventPublisher(Protocol):
    """What carries notices to the status topic."""

    async def publish(self, notices: Sequence[Notification]) -> Sequence[bool]:
        """Publish in order and wait for the acknowledgements; True for each that came."""
        ...

    @property
    def last_error(self) -> str | None:
        """Why the last one did not get through; empty when it did, None before the first."""
        ...


@dataclass(frozen=True, slots=True)
class CallbackResponse:
    """What came of one call."""

    status: int = 0
    """The HTTP status; 0 where none came."""
    reason: str = ""
    """Why none came, for people; without anything that a server said."""
    blocked: bool = False
    """The address is not allowed."""
    retry_after: float = 0.0
    """Seconds that the server asks to wait."""


class CallbackClient(Protocol):
    """Calls one URL."""

    async def call(self, notice: Notification, keys: Sequence[bytes], now: datetime) -> CallbackResponse:
        """Send a notice, signed with each of the keys."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
