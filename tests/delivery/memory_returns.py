"""Reports in memory, beside a memory ledger. They keep the contract of the real ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from postroom.letter.dsn import ReportEntry
from postroom.letter.problems import Code
from postroom.letter.verp import hash_of_tag, tag_matches
from postroom.ports.notices import Fate, Herald
from postroom.ports.returns import IN_HAND, MOST_REPORTS, PROVES, House, Meaning, Returned, Taken
from postroom.ports.state import State
from postroom.ports.suppression import Suppression, address_hash

if TYPE_CHECKING:
    from tests.delivery.memory_ledger import MemoryRow, MemoryStore


@dataclass
class MemoryReport:
    letter: int
    fingerprint: str
    said: ReportEntry
    meaning: Meaning
    pending: bool


Heralds = Callable[[str], Sequence[Herald]]


@dataclass
class MemoryReturns:
    """Implements ports.returns.Returns."""

    store: "MemoryStore"

    def take(
        self, returned: Sequence[Returned], houses: Mapping[str, House], now: datetime
    ) -> Sequence[Taken]:
        return [self._take(one, houses, now) for one in returned]

    def _take(self, one: Returned, houses: Mapping[str, House], now: datetime) -> Taken:
        row = next((row for row in self.store.rows.values() if self._is(row, one.tag)), None)
        if row is None or row.letter.identity.profile not in houses:
            return Taken()
        profile = row.letter.identity.profile
        theirs = [each for each in self.store.reports if each.letter == row.row]
        if len(theirs) >= MOST_REPORTS:
            return Taken(profile, full=True)
        fresh = []
        for number, said in enumerate(one.said):
            name = f"{one.fingerprint}-{number}"
            if all(each.fingerprint != name for each in theirs):
                meaning = houses[profile].judge(said, row.letter.identity.recipient)
                fresh.append(MemoryReport(row.row, name, said, meaning, meaning != Meaning()))
        self.store.reports += fresh
        if not fresh:
            return Taken(profile, known=True)
        return self._apply(Taken(profile), row, fresh, lambda each: houses[each].heralds, now)

    def _is(self, row: "MemoryRow", tag: bytes) -> bool:
        return row.letter.identity.hash64() == hash_of_tag(tag) and tag_matches(tag, row.letter.identity)

    def sweep(self, houses: Mapping[str, House], now: datetime) -> Sequence[Taken]:
        return self.sweep_all(lambda each: houses[each].heralds, now)

    def sweep_all(self, heralds: Heralds, now: datetime) -> Sequence[Taken]:
        found = []
        for one in [each for each in self.store.reports if each.pending]:
            row = self.store.rows[one.letter]
            if row.state not in IN_HAND:
                found.append(self._apply(Taken(row.letter.identity.profile), row, [one], heralds, now))
        return found

    def resolve(self, row: "MemoryRow", heralds: Heralds, now: datetime) -> None:
        for one in [each for each in self.store.reports if each.pending and each.letter == row.row][:1]:
            self._apply(Taken(), row, [one], heralds, now, of_the_dead=True)

    def _apply(  # noqa: PLR0917 - a fake
        self,
        taken: Taken,
        row: "MemoryRow",
        reports: Sequence[MemoryReport],
        heralds: Heralds,
        now: datetime,
        of_the_dead: bool = False,
    ) -> Taken:
        meaningful = [one for one in reports if one.meaning != Meaning()]
        if meaningful and row.state in IN_HAND and not of_the_dead:
            return replace(taken, waits=True)
        captured = any(one.result == State.CAPTURED.value for one in row.attempts)
        for one in meaningful:
            after, one.pending = one.meaning.proves, False
            if after and (row.state in PROVES[after] or (of_the_dead and row.state in IN_HAND)):
                row.state, row.due, row.stored, row.updated = after, None, None, now
                self._tell(row, one, heralds, now)
                taken = replace(taken, changes=(*taken.changes, after))
            reason = one.meaning.suppress
            if reason and not captured:
                identity = row.letter.identity
                entry = Suppression(identity.profile, identity.recipient, reason, now, one.said.text)
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
        report = {"kind": one.said.kind.value, "status": one.said.status}
        fate = Fate(row.row, row.letter.identity, row.letter.event.type, row.state, now, tries=row.tries)
        fate = replace(fate, code=code, report={name: each for name, each in report.items() if each})
        for herald in heralds(row.letter.identity.profile):
            for notice in herald(fate):
                self.store.notices.append((notice.at, replace(notice, row=self.store.number())))

    def close(self) -> None:
        pass
