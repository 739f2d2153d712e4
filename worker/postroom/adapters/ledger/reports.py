"""Reports that came back, in the ledger: kept with their letter, and what they prove applied to it.

Each function runs inside one transaction. Nothing is locked before it is changed: a letter that changed hands
meanwhile is met as it was not expected, and its report waits for the next sweep.

Taking reports into a ledger by the side of its workers, on a file and on a server alike.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import dedupe, leases, outbox, suppressions
from postroom.adapters.ledger.connection import LedgerConnection
from postroom.adapters.ledger.rows import moment, stamp, storable, transition_of_row
from postroom.adapters.ledger.schema import attempt, identity, letter, report, worker
from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.letter.identity import Identity, is_pseudonym
from postroom.letter.problems import Code, Problem
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
from postroom.ports.ledger import State, Suppression, SuppressionReason
from postroom.ports.notifications import NotificationRule

MAX_CONTENT_BYTES = 65_536
APPLY_BATCH = 250

_AT_SLOT = (
    select(letter)
    .join(identity, letter.c.row == identity.c.row)
    .where(identity.c.bucket.in_(bindparam("buckets", expanding=True)), identity.c.hash == bindparam("hash"))
)
_COUNT = select(func.count()).where(report.c.letter == bindparam("letter"))
_INSERT_REPORT = (
    insert_or_ignore(report)
    .on_conflict_do_nothing(index_elements=["letter", "fingerprint"])
    .returning(report.c.row)
)
_REPORT_COLUMNS = ("row", "kind", "status", "text", "mta")
_SELECT_PENDING = (
    select(letter, report.c.proves, report.c.suppress)
    .add_columns(*(report.c[name].label(f"report_{name}") for name in _REPORT_COLUMNS))
    .join(report, report.c.letter == letter.c.row)
    .where(report.c.pending)
    .order_by(report.c.row)
)
_SELECT_PENDING_OF_SETTLED = _SELECT_PENDING.where(
    letter.c.state.not_in([state.value for state in IN_PROGRESS])
).limit(APPLY_BATCH)
_SELECT_PENDING_OF_LETTERS = _SELECT_PENDING.where(letter.c.row.in_(bindparam("rows", expanding=True)))
_CHANGE_STATE = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.state == bindparam("before"),
        letter.c.worker_epoch == bindparam("g"),
    )
    .values(
        state=bindparam("after"),
        code=bindparam("told"),
        reason=bindparam("why"),
        due=None,
        event=None,
        updated_at=bindparam("now", type_=letter.c.updated_at.type),
    )
)
_CAPTURED = select(attempt.c.id).where(
    attempt.c.row == bindparam("r"), attempt.c.result == State.CAPTURED.value
)
_MARK_APPLIED = update(report).where(report.c.row == bindparam("r")).values(pending=False)
_SELECT_CARRIER = select(func.max(worker.c.worker_epoch)).where(
    worker.c.process.like(bindparam("profile_workers"))
)


@dataclass(frozen=True, slots=True)
class StoredEffect:
    """A report as it is applied to its letter."""

    row: int
    said: ReportEntry
    meaning: ReportEffect


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What the statements of one transaction share."""

    connection: Connection
    notification_rules: Callable[[str], Sequence[NotificationRule]]
    """By profile."""
    at: float
    profile_workers: str | None = None
    """The processes that carry the notices; None: those of the letter's profile."""

    def carrier_epoch(self, profile: str) -> int:
        """The worker that the notices of a profile are given to: its newest, or another when that one is
        dead.
        """
        profile_workers = self.profile_workers or f"{profile} %"
        return self.connection.execute(_SELECT_CARRIER, {"profile_workers": profile_workers}).scalar() or 0


def store_reports(
    context: ReportContext, returned: Sequence[ReceivedReport], houses: Mapping[str, BounceConfig]
) -> list[ReportResult]:
    """Keep each report with its letter; see ports.returns."""
    buckets = sorted(dedupe.all_buckets(context.connection))
    return [
        _store_report(context, one, _find(context.connection, one.tag, buckets), houses) for one in returned
    ]


def _find(connection: Connection, tag: bytes, buckets: Sequence[int]) -> Any | None:
    """The letter's row. A foreign identity may have its slot: then it has the next."""
    slot = hash_of_tag(tag)
    while rows := connection.execute(_AT_SLOT, {"buckets": buckets, "hash": slot}).all():
        for row in rows:
            if tag_matches(tag, _identity(row)):
                return row
        slot = (slot + 1) % dedupe.HASH_SPACE
    return None


def _store_report(
    context: ReportContext, one: ReceivedReport, row: Any | None, houses: Mapping[str, BounceConfig]
) -> ReportResult:
    if row is None or row.profile not in houses:
        return ReportResult()
    taken = ReportResult(profile=row.profile)
    if context.connection.execute(_COUNT, {"letter": row.row}).scalar_one() >= MAX_REPORTS_PER_LETTER:
        return replace(taken, full=True)
    if is_pseudonym(row.recipient):  # words may name the person, who was erased
        one = replace(one, said=[replace(said, text="") for said in one.said], content=b"")
    kept: list[StoredEffect] = []
    for number, said in enumerate(one.said):
        meaning = houses[row.profile].policy(said, row.recipient)
        values = _values(one, said, meaning) | {"letter": row.row, "at": context.at}
        values |= {"fingerprint": f"{one.fingerprint}-{number}"}
        if (made := context.connection.execute(_INSERT_REPORT, values).scalar()) is not None:
            kept.append(StoredEffect(made, said, meaning))
    if not kept:
        return replace(taken, known=True)
    return _apply_all(context, taken, row, [proof for proof in kept if _has_effect(proof.meaning)])


def apply_pending(context: ReportContext, whose: ColumnElement[bool]) -> list[ReportResult]:
    """Apply what waited for a worker that is done with its letter; of these letters."""
    rows = context.connection.execute(_SELECT_PENDING_OF_SETTLED.where(whose)).all()
    return [
        _apply_all(context, ReportResult(row.profile), row, [_stored_effect(row)])
        for row in _oldest_per_letter(rows)
    ]


def apply_for_dead_workers(context: ReportContext, rows: Sequence[int], dead: Collection[int]) -> int:
    """Apply what waits for those of these letters whose worker has died; how many changed by it.

    Called before anybody takes one of them up: it was in the relay's hands, so that it is not sent again.
    """
    if not rows:
        return 0
    found = context.connection.execute(_SELECT_PENDING_OF_LETTERS, {"rows": list(rows)}).all()
    changed = 0
    for row in _oldest_per_letter([one for one in found if one.worker_epoch in dead]):
        changed += bool(
            _apply_all(
                context, ReportResult(row.profile), row, [_stored_effect(row)], of_the_dead=True
            ).changes
        )
    return changed


def _oldest_per_letter(rows: Sequence[Any]) -> list[Any]:
    """One report of a letter at a time, the oldest: it may change what the next one meets."""
    return list({row.row: row for row in reversed(rows)}.values())


def _apply_all(
    context: ReportContext,
    taken: ReportResult,
    row: Any,
    proofs: Sequence[StoredEffect],
    of_the_dead: bool = False,
) -> ReportResult:
    state = State(row.state)
    if proofs and state in IN_PROGRESS and not of_the_dead:
        return replace(taken, waits=True)
    changes: list[State] = []
    suppressed: list[SuppressionReason] = []
    for proof in proofs:
        after = proof.meaning.proves
        if after is not None and (state in PROVABLE_STATES[after] or (of_the_dead and state in IN_PROGRESS)):
            if not _change_state(context, row, state, proof):
                return replace(taken, waits=True)  # somebody has it in hand now
            state = after
            changes.append(after)
        if _suppress(context, row, proof):
            assert proof.meaning.suppress is not None
            suppressed.append(proof.meaning.suppress)
        context.connection.execute(_MARK_APPLIED, {"r": proof.row})
    return replace(taken, changes=tuple(changes), suppressed=tuple(suppressed))


def _change_state(context: ReportContext, row: Any, before: State, proof: StoredEffect) -> bool:
    after, said = proof.meaning.proves, proof.said
    assert after is not None
    bounced = after is State.BOUNCED
    values = {"r": row.row, "g": row.worker_epoch, "before": before.value, "after": after.value}
    values |= {"now": context.at}
    values |= {
        "told": Code.BOUNCED.value if bounced else None,
        "why": _bounce_reason(said) if bounced else None,
    }
    if context.connection.execute(_CHANGE_STATE, values).rowcount != 1:
        return False
    if heralds := context.notification_rules(row.profile):
        fate = transition_of_row(row, after, Code.BOUNCED.value if bounced else "", context.at)
        told = {"kind": said.kind.value} | ({"status": said.status} if said.status else {})
        fate = replace(fate, report=told, reply=said.text if bounced else "")
        outbox.add_notifications_for(context.connection, heralds, context.carrier_epoch(row.profile), [fate])
    return True


def _suppress(context: ReportContext, row: Any, proof: StoredEffect) -> bool:
    """What is captured was sent to nobody: its reports are rehearsals, and fill no list."""
    reason = proof.meaning.suppress
    if (
        reason is None
        or is_pseudonym(row.recipient)
        or context.connection.execute(_CAPTURED, {"r": row.row}).first()
    ):
        return False
    note = f"{proof.said.mta}: {proof.said.text}" if proof.said.mta else proof.said.text
    entry = Suppression(row.profile, row.recipient, reason, moment(context.at), note)
    return suppressions.add_suppressions(context.connection, [entry]) == 1


def _bounce_reason(said: ReportEntry) -> str:
    who, words = said.mta or "a mail system", said.text or said.status or "it gave no reason"
    return storable(str(Problem(Code.BOUNCED, "recipient", f"{who} could not deliver it: {words}")))


def _values(one: ReceivedReport, said: ReportEntry, meaning: ReportEffect) -> dict[str, Any]:
    unread = said.kind is ReportKind.UNPARSED
    return {
        "kind": said.kind.value,
        "status": said.status,
        "text": storable(said.text),
        "mta": storable(said.mta),
        "proves": meaning.proves.value if meaning.proves else None,
        "suppress": meaning.suppress.value if meaning.suppress else None,
        "pending": _has_effect(meaning),
        "content": one.content[:MAX_CONTENT_BYTES] if unread else None,
    }


def _has_effect(meaning: ReportEffect) -> bool:
    return meaning.proves is not None or meaning.suppress is not None


def _stored_effect(row: Any) -> StoredEffect:
    meaning = ReportEffect(
        State(row.proves) if row.proves else None, SuppressionReason(row.suppress) if row.suppress else None
    )
    said = ReportEntry(
        ReportKind(row.report_kind), row.report_status, row.report_text or "", row.report_mta or ""
    )
    return StoredEffect(row.report_row, said, meaning)


def _identity(row: Any) -> Identity:
    return Identity(row.profile, row.source, row.event_id, row.recipient)


T = TypeVar("T")


class SqlReportStore(LedgerConnection):
    """Implements ports.returns.Returns."""

    def add(
        self, returned: Sequence[ReceivedReport], houses: Mapping[str, BounceConfig], now: datetime
    ) -> Sequence[ReportResult]:
        """See the port."""
        return self._in_context(houses, now, lambda context: store_reports(context, returned, houses))

    def apply_pending(self, houses: Mapping[str, BounceConfig], now: datetime) -> Sequence[ReportResult]:
        """See the port."""
        ours = letter.c.profile.in_(sorted(houses))
        return self._in_context(houses, now, lambda context: apply_pending(context, ours))

    def _in_context(
        self, houses: Mapping[str, BounceConfig], now: datetime, work: Callable[[ReportContext], T]
    ) -> T:
        def heralds(profile: str) -> Sequence[NotificationRule]:
            return houses[profile].notification_rules

        def play(connection: Connection) -> T:
            alone = self._file is not None
            at = stamp(now) if alone else leases.database_now(connection)
            return work(ReportContext(connection, heralds, at, leases.ALL_WORKERS if alone else None))

        return self.transaction(play)
