"""Letters in doubt that nobody decided about: they end, and their events leave the ledger as dead letters.

Runs inside a group's transaction. Row keys are in time order, so what is old is found at the front of the
table without an index; there is little else, since letters that ended are forgotten sooner.

Forgetting: letters that ended before the dedupe window, and their identities.

Runs inside a group's transaction. Row keys are in time order, so the oldest letters are found at the front
of the table without an index; those among them that wait or ended late are passed over.
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
"""Letters that are ended in one commit: small, so that those under way never wait for it."""

_EXPIRE = (
    update(letter)
    .where(letter.c.row == bindparam("r"))
    .values(
        state=State.FAILED.value,
        code=bindparam("why"),
        reason=bindparam("said"),
        event=None,
        updated_at=bindparam("now"),
    )
)


def expire_in_doubt(
    connection: Connection, writer: WriterIdentity, before: datetime, why: Problem, at: datetime
) -> int:
    """End letters that are in doubt since before then, for this reason; how many of them there were."""
    rows = connection.execute(_select_undecided(writer.profile, stamp(before))).all()
    if rows:
        ended = {"why": why.code.value, "said": storable(str(why)), "now": stamp(at)}
        connection.execute(_EXPIRE, [ended | {"r": row.row} for row in rows])
        deliveries.add_dead_letters(connection, [_expired_dead_letter(row, why, at) for row in rows], writer)
        fates = [transition_of_row(row, State.FAILED, why.code.value, stamp(at)) for row in rows]
        outbox.add_notifications(connection, writer, fates)
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
    """Under an id of its own: the record may have had a dead letter before, for another reason."""
    record = unpack_record(row.event)
    id_ = f"{record.topic}/{record.partition}/{record.offset}/{why.code.value}"
    return DeadLetter(id_, record, (why,), at, row.attempts)


_DEAD_WORKER = worker.alias("dead")
# workers of long ago whose letters were taken up: a worker_epoch that is not there is dead. The newest stays,
# since it says at the next start whether the end before was in order
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
    """Delete up to `limit` letters that ended before then, with all that hangs on them; how many went."""
    at = stamp(before)
    shared_state.delete_expired(connection)
    buckets = dedupe.all_buckets(connection)
    gone = _select_ended(connection, writer.profile, at, limit)
    if gone:
        rows = [row for row, _ in gone]
        connection.execute(delete(attempt).where(attempt.c.row.in_(rows)))
        connection.execute(delete(report).where(report.c.letter.in_(rows)))
        connection.execute(delete(letter).where(letter.c.row.in_(rows)))
        dedupe.delete_identities(connection, buckets, gone)
    today = writer.buckets.current(connection, at + writer.dedupe_window)
    if len(gone) < limit:
        deliveries.delete_old_replays(connection, at + writer.dedupe_window)
        connection.execute(_DELETE_OLD_WORKERS, {"profile_workers": writer.profile_workers, "before": at})
        dedupe.compact_buckets(connection, dedupe.bucket_of(at), today, limit)
    writer.buckets.known = buckets | {today}
    return len(gone)


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
