"""Reports about letters that were sent: stored in the ledger by return path, with what they prove.

A report is stored with its letter. What it proves changes the letter's state in the same commit, with the
notifications that follow. While a worker owns the letter, the report waits and is applied after the worker's
settlement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.ports.ledger import State, SuppressionReason
from postroom.ports.notifications import NotificationRule

PROVABLE_STATES: dict[State, frozenset[State]] = {
    State.BOUNCED: frozenset(
        {State.ACCEPTED, State.DELIVERED, State.CAPTURED, State.IN_DOUBT, State.DEFERRED}
    ),
    State.DELIVERED: frozenset({State.ACCEPTED, State.IN_DOUBT, State.DEFERRED}),
    State.ACCEPTED: frozenset({State.IN_DOUBT, State.DEFERRED}),
}
"""State that a report can prove → states that it replaces.

A letter that waits for an attempt is not sent again once a report proves that the relay has it."""
IN_PROGRESS = frozenset({State.CLAIMED, State.SENDING})
"""States in which a worker owns the letter and will settle it."""
MAX_REPORTS_PER_LETTER = 64
"""Reports that are stored for one letter; bounded, because every recipient can write to its return path."""


@dataclass(frozen=True, slots=True)
class ReportEffect:
    """What a report entry does to its letter."""

    proves: State | None = None
    """A key of PROVABLE_STATES."""
    suppress: SuppressionReason | None = None


ReportPolicy = Callable[[ReportEntry, str], ReportEffect]
"""Report entry and the letter's recipient → its effect. Pure."""


@dataclass(frozen=True, slots=True)
class BounceConfig:
    """How the reports of one profile are handled."""

    policy: ReportPolicy
    notification_rules: Sequence[NotificationRule] = ()


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """A report that arrived at a return path of a profile."""

    tag: bytes
    """Identifies the letter; from the return path (see letter.verp)."""
    fingerprint: str
    entries: Sequence[ReportEntry]
    content: bytes = b""
    """The message, where it could not be parsed."""


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What storing a report did."""

    profile: str = ""
    """The profile of the letter; empty where no letter is known (any more)."""
    is_duplicate: bool = False
    """The report was stored before."""
    limit_reached: bool = False
    """Its letter has MAX_REPORTS_PER_LETTER reports; this one was not stored."""
    changes: tuple[State, ...] = ()
    """The states that the letter moved to, in order."""
    suppressed: tuple[SuppressionReason, ...] = ()
    """New entries of the suppression list."""
    is_pending: bool = False
    """A worker owns the letter; the report is applied after its settlement."""


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report as the ledger has it."""

    at: datetime
    kind: ReportKind
    status: str
    text: str
    mta: str
    content: bytes = field(default=b"", repr=False)


class ReportStore(Protocol):
    """One ledger, opened beside its workers. Calls block; each is durable when it returns.

    Raises ports.health.Unreachable while the server is away.
    """

    def add(
        self, received: Sequence[ReceivedReport], configs: dict[str, BounceConfig], now: datetime
    ) -> Sequence[ReportResult]:
        """Store reports and apply what they prove; one result each, in order. A duplicate is not stored.

        `configs`: the profiles whose return paths are handled; letters of other profiles are unknown.
        """
        ...

    def apply_pending(self, configs: dict[str, BounceConfig], now: datetime) -> Sequence[ReportResult]:
        """Apply pending reports whose letter was settled meanwhile; one result for each report."""
        ...

    def close(self) -> None:
        """Close the connections to the ledger."""
        ...
