"""The one place of the operator that reads the clock and draws chance."""

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """Wall time, monotonic seconds, chance."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def chance(self) -> float:
        """A number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, nothing secret
