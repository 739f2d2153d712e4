"""What is on its way from the polling thread to the event loop, counted.

A busy loop takes its time, and a full topic is read faster than that: without a bound, what was read piles
up before anybody can ask for a pause.
"""

import threading


class Crossing:
    """Counts records handed on and not yet taken; safe on both threads."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._on_the_way = 0
        self._moved = threading.Condition()

    def begin(self, count: int) -> None:
        """So many were handed on."""
        with self._moved:
            self._on_the_way += count

    def end(self, count: int) -> None:
        """So many were taken."""
        with self._moved:
            self._on_the_way -= count
            self._moved.notify()

    def clear(self, seconds: float) -> bool:
        """Whether no more than there is room for is on the way, or will be within the time."""
        with self._moved:
            return self._moved.wait_for(lambda: self._on_the_way <= self._room, seconds)
