"""Maintenance: ends letters that stayed in doubt for too long, and deletes what the dedupe window has passed.

In: a time before which letters are old, and how many to handle in one commit. Out: how many were handled. Row
keys are in time order, so that old letters are found at the front of the table without an index; those that
wait or ended late are skipped. Runs inside a transaction of the group commit.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import dedupe, deliveries, outbox, shared_state
from postroom.adapters.ledger.rows import first_key, profile_filter, stamp, storable, transition_of_row
from postroom.adapters.ledger.schema import attempt, letter, report, worker
from postroom.adapters.ledger.writer import WriterIdentity
from postroom.letter.event import unpack_record
from postroom.letter.identity import Identity
from postroom.letter.problems import Problem
from postroom.ports.ledger import FINAL_STATES, DeadLetter, State

EXPIRE_BATCH = 200
"""Letters that are ended in one commit; small, so that sending never waits for it."""

_EXPIRE = (
    update(letter)
    .where(letter.c.row == bindparam("r"))
    .values(
        state=State.FAILED.value,
        code=bindparam("problem"),
        reason=bindparam("reason"),
        event=None,
        updated_at=bindparam("now"),
    )
)


def expire_in_doubt(
    connection: Connection, writer: WriterIdentity, before: datetime, why: Problem, at: datetime
) -> int:
    """Fail letters that are in doubt since before then; returns how many."""
    rows = connection.execute(_select_undecided(writer.profile, stamp(before))).all()
    if rows:
        values = {"problem": why.code.value, "reason": storable(str(why)), "now": stamp(at)}
        connection.execute(_EXPIRE, [values | {"r": row.row} for row in rows])
        deliveries.add_dead_letters(connection, [_expired_dead_letter(row, why, at) for row in rows], writer)
        transitions = [transition_of_row(row, State.FAILED, why.code.value, stamp(at)) for row in rows]
        outbox.add_notifications(connection, writer, transitions)
    return len(rows)


def _select_undecided(profile: str | None, before: float) -> Select[Any]:
    return (
        select(letter)
        .where(
            letter.c.row < first_key(before),
            letter.c.state == State.IN_DOUBT.value,
            letter.c.updated_at < before,
            letter.c.event.is_not(None),
            profile_filter(profile),
        )
        .order_by(letter.c.row)
        .limit(EXPIRE_BATCH)
        .with_for_update(skip_locked=True)
    )


def _expired_dead_letter(row: Any, why: Problem, at: datetime) -> DeadLetter:
    """With an id of its own, because the record may have had a dead letter for another reason before."""
    record = unpack_record(row.event)
    id_ = f"{record.topic}/{record.partition}/{record.offset}/{why.code.value}"
    return DeadLetter(id_, record, (why,), at, row.attempts)


_DEAD_WORKER = worker.alias("dead")
# old workers that are recovered: an epoch without a row is dead. The newest dead worker stays, because the
# next start reads from it whether the last end was in order
_DELETE_OLD_WORKERS = delete(worker).where(
    worker.c.process.like(bindparam("profile_workers")),
    worker.c.recovered.is_(True),
    worker.c.started_at < bindparam("before"),
    worker.c.worker_epoch
    < select(func.max(_DEAD_WORKER.c.worker_epoch))
    .where(_DEAD_WORKER.c.process.like(bindparam("profile_workers")), _DEAD_WORKER.c.lease_until <= 0)
    .scalar_subquery(),
)


def prune(connection: Connection, writer: WriterIdentity, before: datetime, limit: int) -> int:
    """Delete up to `limit` letters that ended before then, with their attempts, reports and identities."""
    at = stamp(before)
    shared_state.delete_expired(connection)
    buckets = dedupe.all_buckets(connection)
    ended = _select_ended(connection, writer.profile, at, limit)
    if ended:
        rows = [row for row, _ in ended]
        connection.execute(delete(attempt).where(attempt.c.row.in_(rows)))
        connection.execute(delete(report).where(report.c.letter.in_(rows)))
        connection.execute(delete(letter).where(letter.c.row.in_(rows)))
        dedupe.delete_identities(connection, buckets, ended)
    today = writer.buckets.current(connection, at + writer.dedupe_window)
    if len(ended) < limit:
        deliveries.delete_old_replays(connection, at + writer.dedupe_window)
        connection.execute(_DELETE_OLD_WORKERS, {"profile_workers": writer.profile_workers, "before": at})
        dedupe.compact_buckets(connection, dedupe.bucket_of(at), today, limit)
    writer.buckets.known = buckets | {today}
    return len(ended)


def _select_ended(
    connection: Connection, profile: str | None, at: float, limit: int
) -> list[tuple[int, Identity]]:
    found = connection.execute(
        select(letter.c.row, letter.c.profile, letter.c.source, letter.c.event_id, letter.c.recipient)
        .where(
            letter.c.row < first_key(at),
            letter.c.state.in_([state.value for state in FINAL_STATES]),
            letter.c.updated_at < at,
            profile_filter(profile),
        )
        .order_by(letter.c.row)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(row.row, Identity(row.profile, row.source, row.event_id, row.recipient)) for row in found]
