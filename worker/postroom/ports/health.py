"""How a ledger is: what was found when it was opened, whether it takes writes, that it is away."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recovery:
    """What dead workers left in hand, and whether the last one before this had ended in order."""

    clean: bool
    recalled: int
    in_doubt: int


@dataclass(slots=True)
class Health:
    """Facts for /readyz: whether writes work, and why not."""

    ok: bool = True
    reason: str = ""
    commits: int = 0
    rows: int = 0
    late_settlements: int = field(default=0)
    clock_ahead: float = 0.0
    """Seconds that this machine's clock is ahead of the ledger's; negative where it is behind."""


class Unreachable(Exception):
    """The ledger's server is not there, or lets nobody in, at present; the reason is its message."""
