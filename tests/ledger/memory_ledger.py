"""A ledger in memory, for tests that need no disk. It passes the contract of the real ledgers.

`MemoryStore` is what survives a process; each `MemoryLedger` on it is one life of a worker.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from postroom.adapters.ledger.rows import is_notifiable, transition_of_settlement
from postroom.letter.event import Record
from postroom.letter.identity import Identity
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import (
    FINAL_STATES,
    REOPENABLE,
    Attempt,
    Claimed,
    DeadLetter,
    ExistingRow,
    LedgerTime,
    Letter,
    PendingDeadLetter,
    Recalled,
    ReplayConsumed,
    Settlement,
    State,
    Suppression,
    SuppressionReason,
    Update,
    address_hash,
)
from postroom.ports.notifications import LetterTransition, Notification, NotificationRule
from postroom.ports.world import LedgerHealth, Recovery
from tests.ledger.memory_reports import MemoryReport, MemoryReportStore

DEATH = Attempt("in_doubt", None, 0, "the worker died after the end of the data may have been sent")


@dataclass
class MemoryRow:
    """One letter of the memory ledger."""

    row: int
    letter: Letter
    state: State
    worker_epoch: int
    received: datetime
    updated: datetime
    replies: int = 0
    attempts: int = 0
    in_doubt_count: int = 0
    due: datetime | None = None
    stored: Record | None = None
    history: list[Attempt] = field(default_factory=list)


@dataclass
class MemoryStore:
    """The stored content, which survives a process."""

    rows: dict[int, MemoryRow] = field(default_factory=dict)
    outbox: list[PendingDeadLetter] = field(default_factory=list)
    replays: set[str] = field(default_factory=set)
    suppressions: list[Suppression] = field(default_factory=list)
    notices: list[tuple[datetime, Notification]] = field(default_factory=list)
    reports: list[MemoryReport] = field(default_factory=list)
    suspects: dict[tuple[str, int, int], int] = field(default_factory=dict)
    worker_epoch: int = 0
    clean: bool = True
    numbers: int = 0
    shared_states: dict[str, str] = field(default_factory=dict)
    time: Callable[[], float] = time.time
    """The store's own clock."""

    def number(self) -> int:
        self.numbers += 1
        return self.numbers


def _fate(row: MemoryRow, now: datetime) -> LetterTransition:
    code = Code.CONNECTION_LOST_AT_END_OF_DATA.value
    return LetterTransition(
        row.row, row.letter.identity, row.letter.event.type, row.state, now, attempts=row.attempts, code=code
    )


class MemoryLedger:
    """Implements ports.ledger.Ledger and NotificationOutbox: one process of a worker on a store."""

    def __init__(self, store: MemoryStore, window: float) -> None:
        self.health = LedgerHealth()
        self._notification_rules: list[NotificationRule] = []
        self.store = store
        self._was_clean, store.clean = store.clean, False
        store.worker_epoch += 1
        self.worker_epoch = store.worker_epoch

    def now(self, wall: datetime) -> datetime:
        return wall

    @property
    def lease_until(self) -> float:
        return math.inf

    async def recover(self, now: datetime, resend: bool) -> Recovery:
        recalled = in_doubt = 0
        for row in self.store.rows.values():
            if row.worker_epoch == self.worker_epoch or row.stored is None:
                continue
            if row.state is State.CLAIMED:
                row.state, row.due = State.DEFERRED, now
                recalled += 1
            elif row.state is State.SENDING:
                row.state, row.due = (State.DEFERRED, now) if resend else (State.IN_DOUBT, None)
                row.in_doubt_count += 1
                row.history.append(DEATH)
                in_doubt += 1
                self._tell(_fate(row, now))
        MemoryReportStore(self.store).sweep_all(lambda _: self._notification_rules, now)
        return Recovery(self._was_clean, recalled, in_doubt)

    async def claim(
        self, letters: Sequence[Letter], now: datetime
    ) -> Sequence[Claimed | ExistingRow | ReplayConsumed]:
        fresh = {one.replay for one in letters if one.replay} - self.store.replays
        self.store.replays |= fresh
        answers = [self._claim(one, now, fresh) for one in letters]
        for answer in answers:
            if isinstance(answer, Claimed):
                answer.suppressions = self._barred(answer.letter.identity)
        return answers

    def _barred(self, identity: Identity) -> Collection[SuppressionReason]:
        place = identity.profile, address_hash(identity.recipient)
        return {
            one.reason
            for one in self.store.suppressions
            if (one.profile, address_hash(one.address or "")) == place
        }

    def _claim(self, one: Letter, now: datetime, fresh: set[str]) -> Claimed | ExistingRow | ReplayConsumed:
        row = next((row for row in self.store.rows.values() if row.letter.identity == one.identity), None)
        if row is None and one.replay and one.replay not in fresh:
            return ReplayConsumed(one)
        if row is None:
            row = MemoryRow(self.store.number(), one, State.CLAIMED, self.worker_epoch, now, now)
            self.store.rows[row.row] = row
            return Claimed(one, row.row, now, worker_epoch=self.worker_epoch)
        if one.replay in fresh and row.state in REOPENABLE and row.letter.digest == one.digest:
            fresh.discard(one.replay)
            row.letter, row.state, row.worker_epoch, row.received, row.updated = (
                one,
                State.CLAIMED,
                self.worker_epoch,
                now,
                now,
            )
            row.replies = row.attempts = 0
            row.history.append(Attempt("reopened", None, 0, f"replay {one.replay}"))
            return Claimed(
                one, row.row, now, in_doubt_count=row.in_doubt_count, worker_epoch=self.worker_epoch
            )
        living, same = row.worker_epoch == self.worker_epoch, row.letter.digest == one.digest
        history = (row.received, row.replies, row.attempts, row.in_doubt_count)
        return ExistingRow(one, row.row, row.state, row.worker_epoch, living, same, *history)

    async def take_over(self, rows: Sequence[ExistingRow], now: datetime) -> Sequence[Claimed | None]:
        for one in rows:
            row = self.store.rows[one.row]
            if row.state is State.SENDING and row.worker_epoch == one.worker_epoch != self.worker_epoch:
                MemoryReportStore(self.store).resolve(row, lambda _: self._notification_rules, now)
        return [self._take_over(one) for one in rows]

    def _take_over(self, found: ExistingRow) -> Claimed | None:
        row = self.store.rows[found.row]
        if (row.state, row.worker_epoch) != (found.state, found.worker_epoch):
            return None
        doubt = row.state is State.SENDING
        row.in_doubt_count += doubt
        if doubt:
            row.history.append(DEATH)
        row.state, row.worker_epoch = State.CLAIMED, self.worker_epoch
        history = (row.received, row.replies, row.attempts, row.in_doubt_count)
        taken = Claimed(found.letter, row.row, *history, was_sending=doubt, worker_epoch=self.worker_epoch)
        taken.suppressions = self._barred(found.letter.identity)
        return taken

    def _ours(self, one: Claimed) -> MemoryRow | None:
        row = self.store.rows[one.row]
        return row if row.worker_epoch == one.worker_epoch else None

    async def fence(self, claimed: Sequence[Claimed], now: datetime) -> Collection[Claimed]:
        granted = []
        for one in claimed:
            row = self._ours(one) if one.worker_epoch == self.worker_epoch else None
            if row and row.state in (State.CLAIMED, State.SENDING):
                row.state = State.SENDING
                granted.append(one)
        return granted

    async def settle(self, settlements: Sequence[Settlement], now: datetime) -> None:
        for one in settlements:
            row = self.store.rows[one.claimed.row]
            if one.attempt:
                row.history.append(one.attempt)
            if one.suppress:
                self.store.suppressions.append(one.suppress)
            if self._ours(one.claimed) or self._resolves(row, one):
                row.state, row.due = one.state, one.due
                row.updated = now
                row.replies, row.attempts, row.in_doubt_count = one.replies, one.attempts, one.in_doubt_count
                row.stored = one.claimed.letter.record if one.keeps_event else None
                await self.add_dead_letters([one.dead_letter] if one.dead_letter else [])
                if is_notifiable(one):
                    self._tell(transition_of_settlement(one, now))
            else:
                self.health.late_settlements += 1

    def _resolves(self, row: MemoryRow, one: Settlement) -> bool:
        answered = one.attempt is not None and one.attempt.code > 0
        return (
            answered and row.state is State.IN_DOUBT and row.in_doubt_count == one.claimed.in_doubt_count + 1
        )

    async def release(self, claimed: Sequence[Claimed]) -> None:
        for row in filter(None, map(self._ours, claimed)):
            row.state, row.worker_epoch = State.CLAIMED, 0

    async def add_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        for one in dead_letters:
            if all(waiting.dead_letter.id != one.id for waiting in self.store.outbox):
                self.store.outbox.append(PendingDeadLetter(self.store.number(), one))
            for row in self._strays(one.record):
                self._end(row, one)

    def _strays(self, record: Record) -> list[MemoryRow]:
        """End the letters that dead processes had made of this record."""
        place = (record.topic, record.partition, record.offset)
        return [
            row
            for row in self.store.rows.values()
            if (row.letter.record.topic, row.letter.record.partition, row.letter.record.offset) == place
            and row.worker_epoch != self.worker_epoch
            and row.state in (State.CLAIMED, State.SENDING)
            and row.stored is None
        ]

    def _end(self, row: MemoryRow, dead: DeadLetter) -> None:
        row.updated = dead.at
        if row.state is State.SENDING:
            row.state, row.stored = State.IN_DOUBT, dead.record
            row.in_doubt_count += 1
            row.history.append(DEATH)
        else:
            poison = dead.problems[0].code is Code.POISON
            row.state = State.RENDER_FAILED if poison else State.FAILED
        self._tell(replace(_fate(row, dead.at), code=dead.problems[0].code.value))

    async def claim_due(self, now: datetime, limit: int) -> Sequence[Recalled]:
        ready = [row for row in self.store.rows.values() if row.due is not None and row.due <= now]
        ready = sorted(ready, key=lambda row: row.due or now)[:limit]
        for row in ready:
            row.state, row.worker_epoch, row.due = State.CLAIMED, self.worker_epoch, None
        return [self._recalled(row) for row in ready]

    def _recalled(self, row: MemoryRow) -> Recalled:
        assert row.stored is not None
        history = (row.received, row.replies, row.attempts, row.in_doubt_count)
        return Recalled(
            row.row,
            row.letter.identity,
            row.letter.event.type,
            row.stored,
            *history,
            self.worker_epoch,
            suppressions=self._barred(row.letter.identity),
        )

    async def pending_dead_letters(self, limit: int) -> Sequence[PendingDeadLetter]:
        return self.store.outbox[:limit]

    async def delete_dead_letters(self, waiting: Sequence[PendingDeadLetter]) -> None:
        gone = {one.row for one in waiting}
        self.store.outbox = [one for one in self.store.outbox if one.row not in gone]

    def announce(self, rule: NotificationRule) -> None:
        self._notification_rules.append(rule)

    def _tell(self, fate: LetterTransition) -> None:
        for herald in self._notification_rules:
            for one in herald(fate):
                self.store.notices.append((one.at, replace(one, row=self.store.number())))

    async def pending(self, destination: str, now: datetime, limit: int) -> Sequence[Notification]:
        ready = [(due, one) for due, one in self.store.notices if due <= now]
        ready = [(due, one) for due, one in ready if one.destination == destination]
        return [one for _, one in sorted(ready, key=lambda each: (each[0], each[1].row))][:limit]

    async def delivered(self, notices: Sequence[Notification]) -> None:
        gone = {one.row for one in notices}
        self.store.notices = [each for each in self.store.notices if each[1].row not in gone]

    async def postpone(self, until: Sequence[tuple[Notification, datetime]]) -> None:
        await self.delivered([one for one, _ in until])
        self.store.notices += [(due, replace(one, attempts=one.attempts + 1)) for one, due in until]

    async def abandon(self, destinations: Collection[str]) -> int:
        gone = [one for _, one in self.store.notices if one.destination not in destinations]
        await self.delivered(gone)
        return len(gone)

    async def mark_suspects(self, records: Sequence[Record]) -> Sequence[int]:
        places = [(one.topic, one.partition, one.offset) for one in records]
        found = [self.store.suspects.get(place, 0) for place in places]
        for place in places:
            self.store.suspects.setdefault(place, 1)
        return found

    async def count_suspect_attempt(self, record: Record) -> int:
        place = (record.topic, record.partition, record.offset)
        self.store.suspects[place] = self.store.suspects.get(place, 1) + 1
        return self.store.suspects[place] - 1

    async def clear_suspects(self, records: Sequence[Record]) -> None:
        for one in records:
            self.store.suspects.pop((one.topic, one.partition, one.offset), None)

    async def update_shared(self, subjects: Sequence[str], change: Update) -> Sequence[str]:
        at, shared_states = LedgerTime(self.store.time(), self.worker_epoch), self.store.shared_states
        shared_states |= {each: change(each, shared_states.get(each, ""), at).text for each in set(subjects)}
        return [shared_states[each] for each in subjects]

    async def prune(self, before: datetime, limit: int) -> int:
        old = [
            one.row for one in self.store.rows.values() if one.updated < before and one.state in FINAL_STATES
        ]
        for row in old[:limit]:
            del self.store.rows[row]
        self.store.reports = [each for each in self.store.reports if each.letter in self.store.rows]
        return len(old[:limit])

    async def expire_in_doubt(self, before: datetime, why: Problem, at: datetime) -> int:
        old = [
            row
            for row in self.store.rows.values()
            if row.state is State.IN_DOUBT and row.updated < before and row.stored
        ]
        for row in old[:2]:
            assert row.stored is not None
            place = f"{row.stored.topic}/{row.stored.partition}/{row.stored.offset}/{why.code.value}"
            await self.add_dead_letters([DeadLetter(place, row.stored, (why,), at, row.attempts)])
            row.state, row.stored, row.updated = State.FAILED, None, at
            self._tell(replace(_fate(row, at), code=why.code.value))
        return len(old[:2])

    async def close(self, *, in_order: bool = True) -> None:
        self.store.clean = in_order
