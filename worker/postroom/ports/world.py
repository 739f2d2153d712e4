"""Ports for templates, time, the health of the ledger and the isolated renderer."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.letter.catalog import TemplateCatalog


class Templates(Protocol):
    """The live templates; `current` is cheap and may change between two batches."""

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
    """The letters that dead workers left, and whether the previous worker exited cleanly."""

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
    """The ledger's server is unreachable or rejects the login at present; the message is the reason."""


class IsolatedRenderer(Protocol):
    """Renders records in a separate process, which may crash without harm."""

    last_error: str
    """Why the process does not start; empty if it does."""

    async def ready(self) -> bool:
        """Start the process if necessary; False if it does not start, which counts against no record."""
        ...

    async def renders_safely(self, payload: bytes) -> bool:
        """Whether the process survived this packed record; call `ready` first."""
        ...

    async def close(self) -> None:
        """End the process."""
        ...
