"""Who works on a ledger: a process as its statements know it."""

from dataclasses import dataclass, field

from postroom.adapters.ledger.dedupe import DedupeBuckets
from postroom.adapters.ledger.leases import ALL_WORKERS
from postroom.adapters.ledger.orphans import Orphans
from postroom.adapters.ledger.rows import RowKeys
from postroom.ports.notifications import NotificationRule


@dataclass(frozen=True, slots=True)
class WriterIdentity:
    """This process as the ledger knows it: its worker_epoch, its row keys, where identities are."""

    worker_epoch: int
    row_keys: RowKeys
    dedupe_window: float
    """Seconds that ended letters are remembered (dedupe.window)."""
    buckets: DedupeBuckets
    orphans: Orphans
    profile: str | None = None
    """Whose letters are this process's, where a database holds those of several profiles."""
    profile_workers: str = ALL_WORKERS
    """The processes of the same letters, as leases know them."""
    notification_rules: list[NotificationRule] = field(default_factory=list)
    """Who says what others are told; nobody where nobody is told anything."""
