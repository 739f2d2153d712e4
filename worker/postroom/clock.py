"""The system's clock and random numbers: the only module that reads them, for worker and operator."""

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """Implements ports.world.Clock."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def random(self) -> float:
        """Return a random number in [0, 1) for jitter."""
        return random.random()  # noqa: S311 - for jitter, not for secrets
