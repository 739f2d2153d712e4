"""Who is told when a letter arrives: the event streams of open pages, and the callers that wait for a letter.

Everything happens on the event loop; nobody who listens can slow down a capture. A listener that falls behind
is told so, instead of being sent what it can read from the list.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from postroom.sandbox.summary import Summary

BACKLOG = 500


@dataclass(frozen=True, slots=True)
class Changed:
    """Letters were marked, deleted or restored: what a page shows may be old."""


@dataclass(frozen=True, slots=True)
class Behind:
    """More arrived than the listener took: read the list again."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The sandbox is closing."""


News = Summary | Changed | Behind | Closed


class Listener:
    """One queue of news, of bounded length."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[News] = asyncio.Queue()

    async def next(self, seconds: float) -> News | None:
        """The next piece of news, or None when there was none for so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        except TimeoutError:
            return None

    def drain(self) -> None:
        """Forget what has queued up: the caller is about to look for itself."""
        while not self._queue.empty():
            news = self._queue.get_nowait()
            if isinstance(news, Closed):
                self._queue.put_nowait(news)
                return

    def tell(self, news: News) -> None:
        """Queue news; past the bound everything is replaced by `Behind`."""
        if self._queue.qsize() >= BACKLOG:
            self.drain()
            news = news if isinstance(news, Closed) else Behind()
        self._queue.put_nowait(news)


class Arrivals:
    """Tells every listener."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._closed = False

    def tell(self, news: News) -> None:
        """Pass news to all who listen now."""
        for listener in self._listeners:
            listener.tell(news)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Hear of everything that arrives from here on."""
        listener = Listener()
        if self._closed:
            listener.tell(Closed())
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """Send everybody home, also those who come later."""
        self._closed = True
        self.tell(Closed())

    def __len__(self) -> int:
        return len(self._listeners)
