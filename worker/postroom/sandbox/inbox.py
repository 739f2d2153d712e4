"""The inbox that every HTTP route works with: the stored letters, and the subscriptions to its events.

`Inbox` reads and changes letters; each change publishes an `InboxEvent` to the event streams of open pages
and to the calls that wait for a letter. Everything runs on the event loop, and a slow subscriber does not
delay a capture: when its queue is full, one `Lagged` replaces the queued events. Failure: `HttpProblem` 404
for a letter that does not exist.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from postroom.http.endpoint import Endpoint
from postroom.http.problems import HttpProblem
from postroom.sandbox.mime import ParsedLetter, StoredLetter, parse_letter
from postroom.sandbox.mta import CaptureStats
from postroom.sandbox.store import LetterStore, RetentionLimits

MAX_QUEUED_EVENTS = 500


@dataclass(frozen=True, slots=True)
class LettersChanged:
    """Letters were marked, deleted or restored: an open page may be out of date."""


@dataclass(frozen=True, slots=True)
class Lagged:
    """The subscriber's queue overflowed and events were dropped: it must read the list again."""


@dataclass(frozen=True, slots=True)
class InboxClosed:
    """The sandbox is shutting down."""


InboxEvent = StoredLetter | LettersChanged | Lagged | InboxClosed
"""A `StoredLetter` is a letter that was just captured."""


class Subscription:
    """The queue of one subscriber, of at most `MAX_QUEUED_EVENTS`."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[InboxEvent] = asyncio.Queue()

    async def next(self, seconds: float) -> InboxEvent | None:
        """The next event, or None when there was none within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        except TimeoutError:
            return None

    def drain(self) -> None:
        """Discard queued events, except `InboxClosed`: the caller is about to read the letters itself."""
        while not self._queue.empty():
            event = self._queue.get_nowait()
            if isinstance(event, InboxClosed):
                self._queue.put_nowait(event)
                return

    def publish(self, event: InboxEvent) -> None:
        """Queue an event; when the queue is full, `Lagged` replaces its contents."""
        if self._queue.qsize() >= MAX_QUEUED_EVENTS:
            self.drain()
            event = event if isinstance(event, InboxClosed) else Lagged()
        self._queue.put_nowait(event)


class Subscriptions:
    """Publishes events to all subscribers."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def publish(self, event: InboxEvent) -> None:
        """Queue an event for every current subscriber."""
        for subscription in self._subscriptions:
            subscription.publish(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Receive every event that is published within the block."""
        subscription = Subscription()
        if self._closed:
            subscription.publish(InboxClosed())
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Publish `InboxClosed` to all subscribers, and to those that subscribe later."""
        self._closed = True
        self.publish(InboxClosed())

    def __len__(self) -> int:
        return len(self._subscriptions)


def no_such_letter(letter: int) -> HttpProblem:
    """Status 404: the letter does not exist, or was deleted or erased."""
    detail = f"There is no letter {letter}. It may have been deleted, or erased to make room."
    return HttpProblem(404, detail)


@dataclass(slots=True)
class Inbox:
    """Reads and changes letters, and publishes the changes. `smtp` is the endpoint of the mail server."""

    store: LetterStore
    smtp: Endpoint
    limits: RetentionLimits = field(default_factory=RetentionLimits)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    stats: CaptureStats = field(default_factory=CaptureStats)
    studio: str = ""
    """URL of the template studio; empty where there is none."""

    def summary(self, letter: int) -> StoredLetter:
        """A letter's row of the list; raises HttpProblem 404."""
        found = self.store.letter(letter)
        if found is None:
            raise no_such_letter(letter)
        return found

    def raw(self, letter: int) -> bytes:
        """A letter's bytes; raises HttpProblem 404."""
        found = self.store.raw(letter)
        if found is None:
            raise no_such_letter(letter)
        return found

    def letter(self, letter: int) -> ParsedLetter:
        """A letter's headers and parts; raises HttpProblem 404."""
        return parse_letter(self.raw(letter))

    async def mark(self, letter: int, *, read: bool) -> bool:
        """Mark a letter as read or unread; false when it does not exist."""
        found = await asyncio.wrap_future(self.store.mark(letter, read=read))
        if found:
            self.subscriptions.publish(LettersChanged())
        return found

    async def mark_all_read(self) -> int:
        """Mark all letters as read; returns how many were unread."""
        number = await asyncio.wrap_future(self.store.mark_all_read())
        self.subscriptions.publish(LettersChanged())
        return number

    async def delete(self, letter: int | None = None) -> tuple[int, int]:
        """Delete one letter or all; returns the id of the deletion and the number of letters."""
        deletion, number = await asyncio.wrap_future(self.store.delete(letter))
        self.subscriptions.publish(LettersChanged())
        return deletion, number

    async def erase(self, address: str) -> int:
        """Erase the letters to a recipient for good; returns their number."""
        number = await asyncio.wrap_future(self.store.erase(address))
        self.subscriptions.publish(LettersChanged())
        return number

    async def restore(self, deletion: int) -> int:
        """Undo a deletion; returns the number of restored letters."""
        number = await asyncio.wrap_future(self.store.restore(deletion))
        self.subscriptions.publish(LettersChanged())
        return number


def _inbox_of_app(request: Request) -> Inbox:
    inbox: Inbox = request.app.state.inbox
    return inbox


InboxDep = Annotated[Inbox, Depends(_inbox_of_app)]
"""The type of a route's parameter that receives the application's inbox."""
