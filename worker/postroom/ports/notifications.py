"""Notifications of letter transitions: ledger outbox → status topic and callbacks.

A NotificationRule builds the notifications of a transition, and the ledger stores them in its outbox in the
same commit. They are deleted after delivery, so that each arrives at least once, under a stable id.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.letter.identity import Identity
from postroom.ports.ledger import State

TOPIC = ""
"""The destination of notifications for the status topic; every other is a callback's name."""


@dataclass(frozen=True, slots=True)
class LetterTransition:
    """A change of a letter's state, with what notifications report of it."""

    row: int
    identity: Identity
    event_type: str
    state: State
    at: datetime
    attempts: int = 0
    code: str = ""
    """The problem code, if there is a problem."""
    reply: str = ""
    """The relay's reply with its code, if there is one."""
    report: Mapping[str, str] = field(default_factory=dict)
    """Kind and status of the bounce report that caused the transition, if one did."""
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
    """Stable over repeated publication, and the same for every destination."""
    destination: str
    key: str
    """The Kafka key: notifications with the same key are published in order."""
    type: str
    data: str
    """JSON."""
    at: datetime
    letter: int
    """The letter's row."""
    row: int = 0
    """The row in the outbox; 0 before it is stored."""
    attempts: int = 0


NotificationRule = Callable[[LetterTransition], Sequence[Notification]]


class NotificationOutbox(Protocol):
    """Stores pending notifications; a part of the ledger."""

    def announce(self, rule: NotificationRule) -> None:
        """From now on, store the rule's notifications in the commit of each transition."""
        ...

    async def pending(self, destination: str, now: datetime, limit: int) -> Sequence[Notification]:
        """Return the due notifications of a destination, oldest first."""
        ...

    async def delivered(self, notices: Sequence[Notification]) -> None:
        """Delete notifications that were delivered or given up."""
        ...

    async def postpone(self, until: Sequence[tuple[Notification, datetime]]) -> None:
        """Retry each at its time; counts as an attempt."""
        ...

    async def abandon(self, destinations: Collection[str]) -> int:
        """Drop this profile's notifications to all other destinations; returns how many."""
        ...


class StatusEventPublisher(Protocol):
    """Publishes notifications to the status topic."""

    async def publish(self, notices: Sequence[Notification]) -> Sequence[bool]:
        """Publish in order and wait for the acknowledgements; True for each that came."""
        ...

    @property
    def last_error(self) -> str | None:
        """Why the last publication failed; empty if it succeeded, None before the first."""
        ...


@dataclass(frozen=True, slots=True)
class CallbackResponse:
    """The response to a callback request."""

    status: int = 0
    """The HTTP status; 0 if there was no response."""
    reason: str = ""
    """Why there was no response, for people; contains no text of the server."""
    blocked: bool = False
    """The address is not allowed."""
    retry_after: float = 0.0
    """Seconds that the server asks to wait."""


class CallbackClient(Protocol):
    """Sends notifications to one URL."""

    async def call(self, notice: Notification, keys: Sequence[bytes], now: datetime) -> CallbackResponse:
        """Send a notification, signed with each of the keys."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
