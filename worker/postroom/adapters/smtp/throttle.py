"""How fast letters are handed to connections: spread evenly, and never more than the rate in any window.

A bucket of tokens spreads them. It cannot see how long a letter is on its way: some that were taken one after
the other wait for one fence and reach the relay together. So a letter counts from the moment it is taken
until a period after its answer, and no more than the rate's count may count at once; whenever it arrives in
between, no window of the period holds one too many. Time is an argument.
"""

import math
from collections import deque

from postroom.ports.relay import Rate

ONE_LETTER = 1.0 - 1e-9
"""A letter's worth: pieces of time don't add up exactly."""
STEP_SECONDS = 0.02
"""The pool wakes up this often at most: at a higher rate it lets a few letters through each time."""


class Throttle:
    """Lets `rate.count` letters through in `rate.seconds`."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._at = now
        self._in_flight = 0
        self._released: deque[float] = deque()
        """When letters were answered that count still, oldest first."""
        self._set(rate)
        self._tokens = min(1.0, self._capacity)

    def change(self, rate: Rate, now: float) -> None:
        """Another rate from now on; what has left counts on."""
        self._fill(now)
        self._set(rate)
        self._tokens = min(self._tokens, self._capacity)

    def try_acquire(self, now: float) -> bool:
        """Whether one more letter may go now; True counts it."""
        self._fill(now)
        if self._tokens < ONE_LETTER or self._in_flight + len(self._released) >= self._rate.count:
            return False
        self._tokens -= 1.0
        self._in_flight += 1
        return True

    def release(self, now: float) -> None:
        """A letter that was counted has its answer."""
        self._in_flight = max(0, self._in_flight - 1)
        self._released.append(now)

    def delay(self) -> float:
        """Seconds from the last question until the next letter may go; endless where none may."""
        if not self._rate.count:
            return math.inf
        spread = max(0.0, (1.0 - self._tokens) / self._per_second)
        if self._in_flight + len(self._released) < self._rate.count:
            return spread
        oldest = self._released[0] + self._rate.seconds - self._at if self._released else STEP_SECONDS
        return max(spread, oldest)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        while self._released and self._released[0] + self._rate.seconds <= now:
            self._released.popleft()

    def _set(self, rate: Rate) -> None:
        self._rate = rate
        self._per_second = rate.count / rate.seconds
        self._capacity = max(1.0, 2 * STEP_SECONDS * self._per_second) if rate.count else 0.0
