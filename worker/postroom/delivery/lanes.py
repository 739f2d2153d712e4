"""Lanes: letters with one record key go one after the other, others side by side.

In: letters and batches in the order they came. Out: which may go now.

A letter without a key has no lane. The next of a lane may go when the one before has an answer, whatever
it is: a deferred letter does not hold back the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from postroom.ports.ledger import Claimed
from postroom.ports.relay import Report

Waiting = tuple[Claimed, Report]
"""A letter and whom to tell of its Result."""


class Lanes:
    """Who must wait for whom."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, deque[Waiting]] = {}

    def enter(self, one: Claimed, report: Report) -> bool:
        """True: it may go now. False: it waits here for the one before it."""
        key = one.letter.record.key
        if key is None:
            return True
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque()
            return True
        lane.append((one, report))
        return False

    def leave(self, one: Claimed) -> Waiting | None:
        """The letter that went has its answer; returns the next of its lane, which may go now."""
        key = one.letter.record.key
        if key is None:
            return None
        lane = self._lanes[key]
        if lane:
            return lane.popleft()
        del self._lanes[key]
        return None

    def remove(self, unwanted: Callable[[Claimed], bool]) -> list[Waiting]:
        """Take the unwanted out of all waiting lines; those that went already are not here."""
        gone: list[Waiting] = []
        for key, lane in self._lanes.items():
            self._lanes[key], out = split(lane, unwanted)
            gone.extend(out)
        return gone


def split(
    line: Iterable[Waiting], unwanted: Callable[[Claimed], bool]
) -> tuple[deque[Waiting], list[Waiting]]:
    """One line into those that stay, in order, and those that don't."""
    stay: deque[Waiting] = deque()
    gone: list[Waiting] = []
    for entry in line:
        (gone if unwanted(entry[0]) else stay).append(entry)
    return stay, gone


class Procession:
    """Batches are claimed side by side and enter their lanes in the order they came.

    Without it a batch that waits for one commit more, to take over a dead claim, would be overtaken, and
    with it letters of one key.
    """

    def __init__(self) -> None:
        self._last = asyncio.Event()
        self._last.set()

    @contextmanager
    def join(self) -> Iterator[asyncio.Event]:
        """A place at the end; the event is set when those before have left theirs, in whatever way."""
        before, self._last = self._last, asyncio.Event()
        mine = self._last
        try:
            yield before
        finally:
            mine.set()
