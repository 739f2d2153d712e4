"""Templates and time, as the programs ask for them.

How a ledger is: what was found when it was opened, whether it takes writes, that it is away.

A rehearsal: try a record where it can do no harm.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.letter.catalog import TemplateCatalog


class Templates(Protocol):
    """The live templates; `current` is cheap and may answer differently between two batches."""

    def current(self) -> TemplateCatalog:
        """The catalog to render with now; one batch uses one catalog throughout."""
        ...


class Clock(Protocol):
    """Wall time, aware UTC, monotonic seconds, and chance for jitter."""

    def now(self) -> datetime:
        """The wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class Recovery:
    """What dead workers left in hand, and whether the last one before this had ended in order."""

    clean: bool
    recalled: int
    in_doubt: int


@dataclass(slots=True)
class LedgerHealth:
    """Facts for /readyz: whether writes work, and why not."""

    ok: bool = True
    reason: str = ""
    commits: int = 0
    rows: int = 0
    late_settlements: int = field(default=0)
    clock_ahead: float = 0.0
    """Seconds that this machine's clock is ahead of the ledger's; negative where it is behind."""


class LedgerUnavailable(Exception):
    """The ledger's server is not there, or lets nobody in, at present; the reason is its message."""


class IsolatedRenderer(Protocol):
    """Renders a record in a process of its own."""

    last_error: str
    """Why no process starts; empty while one does."""

    async def ready(self) -> bool:
        """Have a process to try records in; False when none starts, which speaks against no record."""
        ...

    async def renders_safely(self, payload: bytes) -> bool:
        """Whether the process, once it is ready, outlived this record; `payload` is a packed record."""
        ...

    async def close(self) -> None:
        """End the process."""
        ...
