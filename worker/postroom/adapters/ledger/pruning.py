"""Forgetting: letters that ended before the dedupe window, and their identities.

Runs inside a group's transaction. Row keys are in time order, so the oldest letters are found at the front
of the table without an index; those among them that wait or ended late are passed over.
"""

from datetime import datetime

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import accords, identities, replays
from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.mine import ours
from postroom.adapters.ledger.rows import first_key, stamp
from postroom.adapters.ledger.schema import attempt, letter, report, worker
from postroom.letter.identity import Identity
from postroom.ports.ledger import FINAL

_DEAD = worker.alias("dead")
# workers of long ago whose letters were taken up: a generation that is not there is dead. The newest stays,
# since it says at the next start whether the end before was in order
_BURY = delete(worker).where(
    worker.c.process.like(bindparam("kin")),
    worker.c.cleared.is_(True),
    worker.c.started_at < bindparam("before"),
    worker.c.generation
    < select(func.max(_DEAD.c.generation))
    .where(_DEAD.c.process.like(bindparam("kin")), _DEAD.c.lease_until <= 0)
    .scalar_subquery(),
)


def prune(connection: Connection, holder: Holder, before: datetime, limit: int) -> int:
    """Delete up to `limit` letters that ended before then, with all that hangs on them; how many went."""
    at = stamp(before)
    accords.forget(connection)
    buckets = identities.buckets(connection)
    gone = _ended(connection, holder.profile, at, limit)
    if gone:
        rows = [row for row, _ in gone]
        connection.execute(delete(attempt).where(attempt.c.row.in_(rows)))
        connection.execute(delete(report).where(report.c.letter.in_(rows)))
        connection.execute(delete(letter).where(letter.c.row.in_(rows)))
        identities.forget(connection, buckets, gone)
    today = holder.buckets.current(connection, at + holder.window)
    if len(gone) < limit:
        replays.forget(connection, at + holder.window)
        connection.execute(_BURY, {"kin": holder.kin, "before": at})
        identities.tidy(connection, identities.bucket_of(at), today, limit)
    holder.buckets.known = buckets | {today}
    return len(gone)


def _ended(connection: Connection, profile: str | None, at: float, limit: int) -> list[tuple[int, Identity]]:
    found = connection.execute(
        select(letter.c.row, letter.c.profile, letter.c.source, letter.c.event_id, letter.c.recipient)
        .where(
            letter.c.row < first_key(at),
            letter.c.state.in_([state.value for state in FINAL]),
            letter.c.updated_at < at,
            ours(profile),
        )
        .order_by(letter.c.row)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(row.row, Identity(row.profile, row.source, row.event_id, row.recipient)) for row in found]
