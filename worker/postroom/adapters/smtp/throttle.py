"""Limits the rate at which connections take letters: evenly spread, and at most the rate in any window.

In: a `Rate`, and the monotonic time as an argument. Out: whether the next letter may be taken, and the delay
until then.

A token bucket spreads the letters. It does not bound a window by itself: letters that were taken one after
another can wait for the same fence call and reach the relay together. Therefore a letter occupies a slot from
the time it is taken until one period after its reply, and there are as many slots as the rate's count. At
whatever time between these the relay receives it, no window of the period contains more letters than the
rate allows.
"""

import math
from collections import deque

from postroom.ports.relay import Rate

ONE_LETTER = 1.0 - 1e-9
"""The tokens for a letter, with tolerance for rounding errors."""
STEP_SECONDS = 0.02
"""The shortest interval of the pool's timer; higher rates release several letters each time."""


class Throttle:
    """Admits at most `rate.count` letters in any window of `rate.seconds`."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._at = now
        self._in_flight = 0
        self._released: deque[float] = deque()
        """The times of the replies whose slots are still occupied, oldest first."""
        self._set(rate)
        self._tokens = min(1.0, self._capacity)

    def change(self, rate: Rate, now: float) -> None:
        """Apply another rate from now on; letters already taken still count."""
        self._fill(now)
        self._set(rate)
        self._tokens = min(self._tokens, self._capacity)

    def try_acquire(self, now: float) -> bool:
        """Take a token and a slot for a letter; False when the rate does not allow it now."""
        self._fill(now)
        if self._tokens < ONE_LETTER or self._in_flight + len(self._released) >= self._rate.count:
            return False
        self._tokens -= 1.0
        self._in_flight += 1
        return True

    def release(self, now: float) -> None:
        """Note that a counted letter has its reply; its slot is free a period later."""
        self._in_flight = max(0, self._in_flight - 1)
        self._released.append(now)

    def delay(self) -> float:
        """Seconds from the last `try_acquire` until the next letter may be taken; a count of 0: infinite."""
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
