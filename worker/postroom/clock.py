"""The one place that reads the clock and draws chance, for the programs of both halves."""

import random
import time
from datetime import UTC, datetime

from postroom.ports.ledger import Ledger


class SystemClock:
    """Implements ports.world.Clock."""

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See the port."""
        return time.monotonic()

    def chance(self) -> float:
        """See the port."""
        return random.random()  # noqa: S311 - jitter, nothing secret


class LedgerClock(SystemClock):
    """The wall clock that all workers of a ledger share."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def now(self) -> datetime:
        """See the port."""
        return self._ledger.now(super().now())
