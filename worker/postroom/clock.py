"""The one place that reads the clock and draws chance, for the programs of both halves."""

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """Implements ports.world.Clock."""

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See the port."""
        return time.monotonic()

    def random(self) -> float:
        """See the port."""
        return random.random()  # noqa: S311 - jitter, nothing secret
