"""The clock of all who share a ledger: see ports.ledger.Ledger.now."""

from datetime import datetime

from postroom.ports.ledger import Ledger
from postroom.ports.world import Clock


class LedgerClock:
    """Implements ports.world.Clock in the ledger's time; `here` is this machine's clock."""

    def __init__(self, here: Clock, ledger: Ledger) -> None:
        self._here = here
        self._ledger = ledger

    def now(self) -> datetime:
        """See the port."""
        return self._ledger.now(self._here.now())

    def monotonic(self) -> float:
        """See the port."""
        return self._here.monotonic()

    def random(self) -> float:
        """See the port."""
        return self._here.random()
