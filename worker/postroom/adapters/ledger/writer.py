"""The identity of the process that writes to a ledger, as every statement needs it."""

from dataclasses import dataclass, field

from postroom.adapters.ledger.dedupe import DedupeBuckets
from postroom.adapters.ledger.leases import ALL_WORKERS
from postroom.adapters.ledger.orphans import Orphans
from postroom.adapters.ledger.rows import RowKeys
from postroom.ports.notifications import NotificationRule


@dataclass(frozen=True, slots=True)
class WriterIdentity:
    """The epoch of this process, its row keys, and what it needs to know of the database."""

    worker_epoch: int
    row_keys: RowKeys
    dedupe_window: float
    """Seconds for which ended letters are kept (dedupe.window)."""
    buckets: DedupeBuckets
    orphans: Orphans
    profile: str | None = None
    """The profile whose letters this process sends, where a database holds several; None: all letters."""
    profile_workers: str = ALL_WORKERS
    """The LIKE pattern for the processes that send the same letters (see leases)."""
    notification_rules: list[NotificationRule] = field(default_factory=list)
    """The rules that make notifications of transitions; empty: no notifications."""
