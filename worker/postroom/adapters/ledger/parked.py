"""Letters in doubt that nobody decided about: they end, and their events leave the ledger as dead letters.

Runs inside a group's transaction. Row keys are in time order, so what is old is found at the front of the
table without an index; there is little else, since letters that ended are forgotten sooner.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import notices, settlements
from postroom.adapters.ledger.fates import fate_of_row
from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.mine import ours
from postroom.adapters.ledger.rows import first_key, legible, stamp
from postroom.adapters.ledger.schema import letter
from postroom.letter.event import unpack_record
from postroom.letter.problems import Problem
from postroom.ports.deadletter import DeadLetter
from postroom.ports.state import State

BATCH = 200
"""Letters that are ended in one commit: small, so that those under way never wait for it."""

_END = (
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


def retire(connection: Connection, holder: Holder, before: datetime, why: Problem, at: datetime) -> int:
    """End letters that are in doubt since before then, for this reason; how many of them there were."""
    rows = connection.execute(_undecided(holder.profile, stamp(before))).all()
    if rows:
        ended = {"why": why.code.value, "said": legible(str(why)), "now": stamp(at)}
        connection.execute(_END, [ended | {"r": row.row} for row in rows])
        settlements.bury(connection, [_dead_letter(row, why, at) for row in rows], holder)
        fates = [fate_of_row(row, State.FAILED, why.code.value, stamp(at)) for row in rows]
        notices.put(connection, holder, fates)
    return len(rows)


def _undecided(profile: str | None, before: float) -> Select[Any]:
    return (
        select(letter)
        .where(
            letter.c.row < first_key(before),
            letter.c.state == State.IN_DOUBT.value,
            letter.c.updated_at < before,
            letter.c.event.is_not(None),
            ours(profile),
        )
        .order_by(letter.c.row)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )


def _dead_letter(row: Any, why: Problem, at: datetime) -> DeadLetter:
    """Under an id of its own: the record may have had a dead letter before, for another reason."""
    record = unpack_record(row.event)
    id_ = f"{record.topic}/{record.partition}/{record.offset}/{why.code.value}"
    return DeadLetter(id_, record, (why,), at, row.tries)
