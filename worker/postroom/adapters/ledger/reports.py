"""Reports in the ledger: stored with their letter, and what they prove applied to its state.

In: received reports with the tag of their return path. Out: one result for each: a duplicate, stored, applied
or waiting. Each function runs inside one transaction. No row is locked before it is changed: if the letter
changed meanwhile, the update matches no row, and the report waits for the next `apply_pending`.

`SqlReportStore` is the store of the bounce intake, which opens a ledger beside its workers. The workers use
the functions of this module when they take over or recover a letter.
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
        code=bindparam("code"),
        reason=bindparam("bounce_reason"),
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
    """A stored report entry and its effect, as it is applied to the letter."""

    row: int
    entry: ReportEntry
    effect: ReportEffect


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What the functions of one transaction share."""

    connection: Connection
    notification_rules: Callable[[str], Sequence[NotificationRule]]
    """Profile → the rules that make notifications of its transitions."""
    at: float
    profile_workers: str | None = None
    """LIKE pattern of the processes that publish the notifications; None: those of the letter's profile."""

    def carrier_epoch(self, profile: str) -> int:
        """The epoch that owns the notifications of a profile: the newest one.

        When that worker is dead, another one of the profile adopts them.
        """
        profile_workers = self.profile_workers or f"{profile} %"
        return self.connection.execute(_SELECT_CARRIER, {"profile_workers": profile_workers}).scalar() or 0


def store_reports(
    context: ReportContext, reports: Sequence[ReceivedReport], configs: Mapping[str, BounceConfig]
) -> list[ReportResult]:
    """Store each report with its letter and apply its effects; one result each, in order."""
    buckets = sorted(dedupe.all_buckets(context.connection))
    return [
        _store_report(context, report_, _find(context.connection, report_.tag, buckets), configs)
        for report_ in reports
    ]


def _find(connection: Connection, tag: bytes, buckets: Sequence[int]) -> Any | None:
    """The letter's row: in the slot of its hash, or in a following one if another identity has that."""
    slot = hash_of_tag(tag)
    while rows := connection.execute(_AT_SLOT, {"buckets": buckets, "hash": slot}).all():
        for row in rows:
            if tag_matches(tag, _identity(row)):
                return row
        slot = (slot + 1) % dedupe.HASH_SPACE
    return None


def _store_report(
    context: ReportContext, received: ReceivedReport, row: Any | None, configs: Mapping[str, BounceConfig]
) -> ReportResult:
    if row is None or row.profile not in configs:
        return ReportResult()
    result = ReportResult(profile=row.profile)
    if context.connection.execute(_COUNT, {"letter": row.row}).scalar_one() >= MAX_REPORTS_PER_LETTER:
        return replace(result, limit_reached=True)
    if is_pseudonym(row.recipient):  # the texts may name the person, who was erased
        received = replace(
            received, entries=[replace(entry, text="") for entry in received.entries], content=b""
        )
    stored: list[StoredEffect] = []
    for number, entry in enumerate(received.entries):
        effect = configs[row.profile].policy(entry, row.recipient)
        values = _values(received, entry, effect) | {"letter": row.row, "at": context.at}
        values |= {"fingerprint": f"{received.fingerprint}-{number}"}
        if (row_id := context.connection.execute(_INSERT_REPORT, values).scalar()) is not None:
            stored.append(StoredEffect(row_id, entry, effect))
    if not stored:
        return replace(result, is_duplicate=True)
    return _apply_all(context, result, row, [proof_ for proof_ in stored if _has_effect(proof_.effect)])


def apply_pending(context: ReportContext, letters: ColumnElement[bool]) -> list[ReportResult]:
    """Apply the pending reports of letters that no worker owns any more, within this filter."""
    rows = context.connection.execute(_SELECT_PENDING_OF_SETTLED.where(letters)).all()
    return [
        _apply_all(context, ReportResult(row.profile), row, [_stored_effect(row)])
        for row in _oldest_per_letter(rows)
    ]


def apply_for_dead_workers(context: ReportContext, rows: Sequence[int], dead: Collection[int]) -> int:
    """Apply the pending reports of those of these letters whose worker is dead; returns how many changed.

    Called before the letters are taken over: a letter that the relay has must not be sent again.
    """
    if not rows:
        return 0
    found = context.connection.execute(_SELECT_PENDING_OF_LETTERS, {"rows": list(rows)}).all()
    changed = 0
    for row in _oldest_per_letter([row for row in found if row.worker_epoch in dead]):
        changed += bool(
            _apply_all(
                context, ReportResult(row.profile), row, [_stored_effect(row)], of_the_dead=True
            ).changes
        )
    return changed


def _oldest_per_letter(rows: Sequence[Any]) -> list[Any]:
    """The oldest report of each letter: it may change the state for the next one."""
    return list({row.row: row for row in reversed(rows)}.values())


def _apply_all(
    context: ReportContext,
    result: ReportResult,
    row: Any,
    proofs: Sequence[StoredEffect],
    of_the_dead: bool = False,
) -> ReportResult:
    state = State(row.state)
    if proofs and state in IN_PROGRESS and not of_the_dead:
        return replace(result, is_pending=True)
    changes: list[State] = []
    suppressed: list[SuppressionReason] = []
    for proof in proofs:
        after = proof.effect.proves
        if after is not None and (state in PROVABLE_STATES[after] or (of_the_dead and state in IN_PROGRESS)):
            if not _change_state(context, row, state, proof):
                return replace(result, is_pending=True)  # a worker owns it now
            state = after
            changes.append(after)
        if _suppress(context, row, proof):
            assert proof.effect.suppress is not None
            suppressed.append(proof.effect.suppress)
        context.connection.execute(_MARK_APPLIED, {"r": proof.row})
    return replace(result, changes=tuple(changes), suppressed=tuple(suppressed))


def _change_state(context: ReportContext, row: Any, before: State, proof: StoredEffect) -> bool:
    after, entry = proof.effect.proves, proof.entry
    assert after is not None
    bounced = after is State.BOUNCED
    values = {"r": row.row, "g": row.worker_epoch, "before": before.value, "after": after.value}
    values |= {"now": context.at}
    values |= {
        "code": Code.BOUNCED.value if bounced else None,
        "bounce_reason": _bounce_reason(entry) if bounced else None,
    }
    if context.connection.execute(_CHANGE_STATE, values).rowcount != 1:
        return False
    if rules := context.notification_rules(row.profile):
        transition = transition_of_row(row, after, Code.BOUNCED.value if bounced else "", context.at)
        report_ = {"kind": entry.kind.value} | ({"status": entry.status} if entry.status else {})
        transition = replace(transition, report=report_, reply=entry.text if bounced else "")
        outbox.add_notifications_for(
            context.connection, rules, context.carrier_epoch(row.profile), [transition]
        )
    return True


def _suppress(context: ReportContext, row: Any, proof: StoredEffect) -> bool:
    """Add the entry; not for captured letters, whose reports are simulated, or erased recipients."""
    reason = proof.effect.suppress
    if (
        reason is None
        or is_pseudonym(row.recipient)
        or context.connection.execute(_CAPTURED, {"r": row.row}).first()
    ):
        return False
    note = f"{proof.entry.mta}: {proof.entry.text}" if proof.entry.mta else proof.entry.text
    entry = Suppression(row.profile, row.recipient, reason, moment(context.at), note)
    return suppressions.add_suppressions(context.connection, [entry]) == 1


def _bounce_reason(entry: ReportEntry) -> str:
    reporter, text = entry.mta or "a mail system", entry.text or entry.status or "it gave no reason"
    return storable(str(Problem(Code.BOUNCED, "recipient", f"{reporter} could not deliver it: {text}")))


def _values(received: ReceivedReport, entry: ReportEntry, effect: ReportEffect) -> dict[str, Any]:
    unread = entry.kind is ReportKind.UNPARSED
    return {
        "kind": entry.kind.value,
        "status": entry.status,
        "text": storable(entry.text),
        "mta": storable(entry.mta),
        "proves": effect.proves.value if effect.proves else None,
        "suppress": effect.suppress.value if effect.suppress else None,
        "pending": _has_effect(effect),
        "content": received.content[:MAX_CONTENT_BYTES] if unread else None,
    }


def _has_effect(effect: ReportEffect) -> bool:
    return effect.proves is not None or effect.suppress is not None


def _stored_effect(row: Any) -> StoredEffect:
    effect = ReportEffect(
        State(row.proves) if row.proves else None, SuppressionReason(row.suppress) if row.suppress else None
    )
    entry = ReportEntry(
        ReportKind(row.report_kind), row.report_status, row.report_text or "", row.report_mta or ""
    )
    return StoredEffect(row.report_row, entry, effect)


def _identity(row: Any) -> Identity:
    return Identity(row.profile, row.source, row.event_id, row.recipient)


T = TypeVar("T")


class SqlReportStore(LedgerConnection):
    """Implements ports.bounces.ReportStore on a file or a server."""

    def add(
        self, received: Sequence[ReceivedReport], configs: Mapping[str, BounceConfig], now: datetime
    ) -> Sequence[ReportResult]:
        """Store reports and apply what they prove."""
        return self._in_context(configs, now, lambda context: store_reports(context, received, configs))

    def apply_pending(self, configs: Mapping[str, BounceConfig], now: datetime) -> Sequence[ReportResult]:
        """Apply the reports that waited for a worker."""
        letters = letter.c.profile.in_(sorted(configs))
        return self._in_context(configs, now, lambda context: apply_pending(context, letters))

    def _in_context(
        self, configs: Mapping[str, BounceConfig], now: datetime, work: Callable[[ReportContext], T]
    ) -> T:
        def rules(profile: str) -> Sequence[NotificationRule]:
            return configs[profile].notification_rules

        def run(connection: Connection) -> T:
            is_file = self._file is not None
            at = stamp(now) if is_file else leases.database_now(connection)
            return work(ReportContext(connection, rules, at, leases.ALL_WORKERS if is_file else None))

        return self.transaction(run)
