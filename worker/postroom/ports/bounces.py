"""What comes back about letters, into the ledger: reports by return path, and what they prove.

A report is kept with its letter. What it proves changes the letter's state in the same commit, with the
notices that follow; while a worker has the letter in hand it waits for the worker's own word and is applied
after it.
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
"""What a report can prove, and the states that it takes a letter out of. A letter that waits for another
try is not tried again once a report says that the relay had it all along."""
IN_PROGRESS = frozenset({State.CLAIMED, State.SENDING})
"""States in which a worker has the last word still to say."""
MAX_REPORTS_PER_LETTER = 64
"""A letter's reports; more are not kept, since anybody who got the letter can write to its return path."""


@dataclass(frozen=True, slots=True)
class ReportEffect:
    """What a report means for its letter."""

    proves: State | None = None
    """One of PROVES."""
    suppress: SuppressionReason | None = None


ReportPolicy = Callable[[ReportEntry, str], ReportEffect]
"""What somebody said, and the letter's recipient → what it means. Pure."""


@dataclass(frozen=True, slots=True)
class BounceConfig:
    """How a profile has its reports taken."""

    policy: ReportPolicy
    notification_rules: Sequence[NotificationRule] = ()


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """A report that came to a return path of ours."""

    tag: bytes
    """The letter's, from the return path: see letter.returnpath."""
    fingerprint: str
    said: Sequence[ReportEntry]
    content: bytes = b""
    """The message, where no program can read it."""


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What a report came to."""

    profile: str = ""
    """Whose letter it is about; empty where no letter is known (any more)."""
    known: bool = False
    """It was here before."""
    full: bool = False
    """Its letter has all the reports that are kept."""
    changes: tuple[State, ...] = ()
    """The states that the letter came to by it."""
    suppressed: tuple[SuppressionReason, ...] = ()
    """New entries of the suppression list."""
    waits: bool = False
    """The letter is in a worker's hand: it is applied afterwards."""


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
    """One ledger, opened by the side of its workers. Calls block; each is durable when it returns.

    Raises ports.health.Unreachable while the ledger is away.
    """

    def add(
        self, returned: Sequence[ReceivedReport], houses: dict[str, BounceConfig], now: datetime
    ) -> Sequence[ReportResult]:
        """Keep reports and apply what they prove; one answer each, in order. The same report twice is one.

        `houses`: the profiles whose return paths are read here; a letter of another's is not known.
        """
        ...

    def apply_pending(self, houses: dict[str, BounceConfig], now: datetime) -> Sequence[ReportResult]:
        """Apply what waited for a worker that has settled its letter since; one answer for each report."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
