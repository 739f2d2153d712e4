"""Reports in memory, beside a memory ledger. They pass the contract of the real store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from postroom.letter.dsn import ReportEntry
from postroom.letter.problems import Code
from postroom.letter.verp import hash_of_tag, tag_matches
from postroom.ports.bounces import (
    IN_PROGRESS,
    MAX_REPORTS_PER_LETTER,
    PROVABLE_STATES,
    BounceConfig,
    ReceivedReport,
    ReportEffect,
    ReportResult,
)
from postroom.ports.ledger import State, Suppression, address_hash
from postroom.ports.notifications import LetterTransition, NotificationRule

if TYPE_CHECKING:
    from tests.ledger.memory_ledger import MemoryRow, MemoryStore


@dataclass
class MemoryReport:
    letter: int
    fingerprint: str
    entry: ReportEntry
    meaning: ReportEffect
    pending: bool


Heralds = Callable[[str], Sequence[NotificationRule]]


@dataclass
class MemoryReportStore:
    """Implements ports.bounces.ReportStore in memory."""

    store: "MemoryStore"

    def add(
        self, returned: Sequence[ReceivedReport], houses: Mapping[str, BounceConfig], now: datetime
    ) -> Sequence[ReportResult]:
        return [self._take(one, houses, now) for one in returned]

    def _take(self, one: ReceivedReport, houses: Mapping[str, BounceConfig], now: datetime) -> ReportResult:
        row = next((row for row in self.store.rows.values() if self._is(row, one.tag)), None)
        if row is None or row.letter.identity.profile not in houses:
            return ReportResult()
        profile = row.letter.identity.profile
        theirs = [each for each in self.store.reports if each.letter == row.row]
        if len(theirs) >= MAX_REPORTS_PER_LETTER:
            return ReportResult(profile, limit_reached=True)
        fresh = []
        for number, entry in enumerate(one.entries):
            name = f"{one.fingerprint}-{number}"
            if all(each.fingerprint != name for each in theirs):
                meaning = houses[profile].policy(entry, row.letter.identity.recipient)
                fresh.append(MemoryReport(row.row, name, entry, meaning, meaning != ReportEffect()))
        self.store.reports += fresh
        if not fresh:
            return ReportResult(profile, is_duplicate=True)
        return self._apply(
            ReportResult(profile), row, fresh, lambda each: houses[each].notification_rules, now
        )

    def _is(self, row: "MemoryRow", tag: bytes) -> bool:
        return row.letter.identity.hash64() == hash_of_tag(tag) and tag_matches(tag, row.letter.identity)

    def apply_pending(self, houses: Mapping[str, BounceConfig], now: datetime) -> Sequence[ReportResult]:
        return self.sweep_all(lambda each: houses[each].notification_rules, now)

    def sweep_all(self, heralds: Heralds, now: datetime) -> Sequence[ReportResult]:
        found = []
        for one in [each for each in self.store.reports if each.pending]:
            row = self.store.rows[one.letter]
            if row.state not in IN_PROGRESS:
                found.append(self._apply(ReportResult(row.letter.identity.profile), row, [one], heralds, now))
        return found

    def resolve(self, row: "MemoryRow", heralds: Heralds, now: datetime) -> None:
        for one in [each for each in self.store.reports if each.pending and each.letter == row.row][:1]:
            self._apply(ReportResult(), row, [one], heralds, now, of_the_dead=True)

    def _apply(  # noqa: PLR0917 - a fake
        self,
        taken: ReportResult,
        row: "MemoryRow",
        reports: Sequence[MemoryReport],
        heralds: Heralds,
        now: datetime,
        of_the_dead: bool = False,
    ) -> ReportResult:
        meaningful = [one for one in reports if one.meaning != ReportEffect()]
        if meaningful and row.state in IN_PROGRESS and not of_the_dead:
            return replace(taken, is_pending=True)
        captured = any(one.result == State.CAPTURED.value for one in row.history)
        for one in meaningful:
            after, one.pending = one.meaning.proves, False
            if after and (row.state in PROVABLE_STATES[after] or (of_the_dead and row.state in IN_PROGRESS)):
                row.state, row.due, row.stored, row.updated = after, None, None, now
                self._tell(row, one, heralds, now)
                taken = replace(taken, changes=(*taken.changes, after))
            reason = one.meaning.suppress
            if reason and not captured:
                identity = row.letter.identity
                entry = Suppression(identity.profile, identity.recipient, reason, now, one.entry.text)
                if all(
                    (each.profile, address_hash(each.address or ""), each.reason)
                    != (entry.profile, address_hash(identity.recipient), reason)
                    for each in self.store.suppressions
                ):
                    self.store.suppressions.append(entry)
                    taken = replace(taken, suppressed=(*taken.suppressed, reason))
        return taken

    def _tell(self, row: "MemoryRow", one: MemoryReport, heralds: Heralds, now: datetime) -> None:
        code = Code.BOUNCED.value if row.state is State.BOUNCED else ""
        report = {"kind": one.entry.kind.value, "status": one.entry.status}
        fate = LetterTransition(
            row.row, row.letter.identity, row.letter.event.type, row.state, now, attempts=row.attempts
        )
        fate = replace(fate, code=code, report={name: each for name, each in report.items() if each})
        for herald in heralds(row.letter.identity.profile):
            for notice in herald(fate):
                self.store.notices.append((notice.at, replace(notice, row=self.store.number())))

    def close(self) -> None:
        pass
