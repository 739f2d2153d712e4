"""A token bucket over letters handed to connections. Time is an argument."""

from postroom.adapters.smtp.settings import Rate


class Throttle:
    """Lets `rate.count` letters through in `rate.seconds`, spread evenly after a first burst of a tenth."""

    __slots__ = ("_at", "_capacity", "_per_second", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_second = rate.count / rate.seconds
        self._capacity = max(1.0, rate.count / 10)
        self._tokens = self._capacity
        self._at = now

    def pass_one(self, now: float) -> bool:
        """Whether one more letter may go now; True counts it."""
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self) -> float:
        """Seconds from the last question until the next letter may go."""
        return max(0.0, (1.0 - self._tokens) / self._per_second)
