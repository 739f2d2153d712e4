"""Whose question is proved next: those that somebody waits for first, and of them each namespace in its turn.

A namespace that asks a hundred questions at once, each as slow as a proof may be, is not before one that asks
a single one a moment later: the first of each goes before the second of any (start-time fair queueing).
"""

import asyncio
from itertools import count

_Turn = tuple[bool, int, int, "asyncio.Future[int]"]
"""Whether others go before it, its round, its place in it, and the process that it gets."""


class Turns:
    """The questions that wait for a process."""

    def __init__(self) -> None:
        self._waiting: asyncio.PriorityQueue[_Turn] = asyncio.PriorityQueue()
        self._places = count()
        self._round = {False: 0, True: 0}
        """Of the turn that was given last, by whether others go first."""
        self._last: dict[tuple[bool, str], int] = {}
        """The round in which a namespace's newest question stands."""

    def ask(self, namespace: str, *, first: bool) -> "asyncio.Future[int]":
        """Stand in line; the future becomes the number of a process."""
        turn = asyncio.get_running_loop().create_future()
        whose = (not first, namespace)
        mine = max(self._round[not first], self._last.get(whose, -1) + 1)
        self._last[whose] = mine
        self._waiting.put_nowait((not first, mine, next(self._places), turn))
        return turn

    async def next(self) -> "asyncio.Future[int]":
        """Whose turn it is, once there is somebody."""
        later, mine, _, turn = await self._waiting.get()
        self._round[later] = mine
        if self._waiting.empty():
            self._last.clear()  # nobody waits whom anybody could come before
        return turn
