"""Who works on a ledger: a process as its statements know it."""

from dataclasses import dataclass, field

from postroom.adapters.ledger.identities import Buckets
from postroom.adapters.ledger.leases import EVERYBODY
from postroom.adapters.ledger.rows import RowKeys
from postroom.adapters.ledger.strays import Strays
from postroom.ports.notices import Herald


@dataclass(frozen=True, slots=True)
class Holder:
    """This process as the ledger knows it: its generation, its row keys, where identities are."""

    generation: int
    keys: RowKeys
    window: float
    """Seconds that ended letters are remembered (dedupe.window)."""
    buckets: Buckets
    strays: Strays
    profile: str | None = None
    """Whose letters are this process's, where a database holds those of several profiles."""
    kin: str = EVERYBODY
    """The processes of the same letters, as leases know them."""
    heralds: list[Herald] = field(default_factory=list)
    """Who says what others are told; nobody where nobody is told anything."""
