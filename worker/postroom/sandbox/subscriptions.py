"""Who is told when a letter arrives: the event streams of open pages, and the callers that wait for a letter.

Everything happens on the event loop; nobody who listens can slow down a capture. A listener that falls behind
is told so, instead of being sent what it can read from the list.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from postroom.sandbox.mime import StoredLetter

MAX_QUEUED_EVENTS = 500


@dataclass(frozen=True, slots=True)
class LettersChanged:
    """Letters were marked, deleted or restored: what a page shows may be old."""


@dataclass(frozen=True, slots=True)
class Lagged:
    """More arrived than the listener took: read the list again."""


@dataclass(frozen=True, slots=True)
class InboxClosed:
    """The sandbox is closing."""


InboxEvent = StoredLetter | LettersChanged | Lagged | InboxClosed


class Subscription:
    """One queue of news, of bounded length."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[InboxEvent] = asyncio.Queue()

    async def next(self, seconds: float) -> InboxEvent | None:
        """The next piece of news, or None when there was none for so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        except TimeoutError:
            return None

    def drain(self) -> None:
        """Forget what has queued up: the caller is about to look for itself."""
        while not self._queue.empty():
            event = self._queue.get_nowait()
            if isinstance(event, InboxClosed):
                self._queue.put_nowait(event)
                return

    def publish(self, event: InboxEvent) -> None:
        """Queue news; past the bound everything is replaced by `Behind`."""
        if self._queue.qsize() >= MAX_QUEUED_EVENTS:
            self.drain()
            event = event if isinstance(event, InboxClosed) else Lagged()
        self._queue.put_nowait(event)


class Subscriptions:
    """Tells every listener."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def publish(self, event: InboxEvent) -> None:
        """Pass news to all who listen now."""
        for subscription in self._subscriptions:
            subscription.publish(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Hear of everything that arrives from here on."""
        subscription = Subscription()
        if self._closed:
            subscription.publish(InboxClosed())
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Send everybody home, also those who come later."""
        self._closed = True
        self.publish(InboxClosed())

    def __len__(self) -> int:
        return len(self._subscriptions)
