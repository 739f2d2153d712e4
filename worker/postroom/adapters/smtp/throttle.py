"""A token bucket over letters handed to connections: never more than the rate in any window of its period.

Time is an argument. What the bucket holds at once is taken off what it is filled with, so that a burst and
the letters after it stay within the rate together.
"""

import math

from postroom.ports.relay import Rate

ONE = 1.0 - 1e-9
"""A letter's worth: pieces of time don't add up exactly."""
STEP_SECONDS = 0.02
"""The pool wakes up this often at most: at a higher rate it lets a few letters through each time."""


class Throttle:
    """Lets `rate.count` letters through in `rate.seconds`, spread evenly."""

    __slots__ = ("_at", "_capacity", "_per_second", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._at = now
        self._tokens = 0.0
        self._set(rate)
        self._tokens = min(1.0, self._capacity)

    def change(self, rate: Rate, now: float) -> None:
        """Another rate from now on."""
        self._fill(now)
        self._set(rate)
        self._tokens = min(self._tokens, self._capacity)

    def pass_one(self, now: float) -> bool:
        """Whether one more letter may go now; True counts it."""
        self._fill(now)
        if self._tokens < ONE:
            return False
        self._tokens -= 1.0
        return True

    def wait(self) -> float:
        """Seconds from the last question until the next letter may go; endless where none may."""
        return max(0.0, (1.0 - self._tokens) / self._per_second) if self._per_second else math.inf

    def _fill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._per_second)
        self._at = now

    def _set(self, rate: Rate) -> None:
        if rate.count:
            burst = min(2 * STEP_SECONDS * rate.count / rate.seconds, rate.count / 2)
            self._capacity = max(1.0, burst)
            self._per_second = (rate.count - (self._capacity - 1.0)) / rate.seconds
        else:
            self._capacity = self._per_second = 0.0
