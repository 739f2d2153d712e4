"""The outbox and the careful attempts: records on their way out, and records under suspicion.

Each function runs inside a group's transaction.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.leases import database_time
from postroom.adapters.ledger.rows import legible, moment, stamp
from postroom.adapters.ledger.schema import outbox, suspect, worker
from postroom.letter.event import Record, pack_record, unpack_record
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import DeadLetter, Waiting

_WAITING = (
    select(outbox)
    .where(
        or_(
            outbox.c.generation == bindparam("mine"),
            outbox.c.generation.not_in(
                select(worker.c.generation).where(
                    or_(worker.c.lease_until > database_time(), worker.c.process.not_like(bindparam("kin")))
                )
            ),
        )
    )
    .order_by(outbox.c.row)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_ADOPT = update(outbox).where(outbox.c.row == bindparam("r")).values(generation=bindparam("mine"))
_PUBLISHED = delete(outbox).where(outbox.c.row == bindparam("r"))

_COUNT = select(suspect.c.tries).where(
    suspect.c.topic == bindparam("t"),
    suspect.c.partition == bindparam("p"),
    suspect.c.offset == bindparam("o"),
)
_MARK = (
    insert(suspect)
    .values(topic=bindparam("t"), partition=bindparam("p"), offset=bindparam("o"), tries=1)
    .on_conflict_do_nothing()
)
_ACCUSE = (
    insert(suspect)
    .values(topic=bindparam("t"), partition=bindparam("p"), offset=bindparam("o"), tries=2)
    .on_conflict_do_update(
        index_elements=["topic", "partition", "offset"], set_={"tries": suspect.c.tries + 1}
    )
    .returning(suspect.c.tries)
)
_ABSOLVE = delete(suspect).where(
    suspect.c.topic == bindparam("t"),
    suspect.c.partition == bindparam("p"),
    suspect.c.offset == bindparam("o"),
)


def outbox_row(one: DeadLetter) -> dict[str, Any]:
    """A dead letter as its outbox row."""
    problems = [[p.code.value, legible(p.field), legible(p.message), p.line] for p in one.problems]
    return {
        "dead_letter": one.id,
        "record": pack_record(one.record),
        "problems": json.dumps(problems),
        "at": stamp(one.at),
        "attempts": one.attempts,
    }


def waiting(connection: Connection, holder: Holder, limit: int) -> list[Waiting]:
    """The oldest dead letters that the broker has not acknowledged: this worker's, and its dead kin's.

    Another profile's workers may have other brokers, so theirs wait for their own.
    """
    mine = holder.generation
    rows = connection.execute(_WAITING, {"mine": mine, "kin": holder.kin, "limit": limit}).all()
    if adopted := [{"r": row.row, "mine": mine} for row in rows if row.generation != mine]:
        connection.execute(_ADOPT, adopted)
    return [Waiting(row.row, _dead_letter(row)) for row in rows]


def _dead_letter(row: Any) -> DeadLetter:
    problems = tuple(
        Problem(Code(code), field, message, line) for code, field, message, line in json.loads(row.problems)
    )
    return DeadLetter(row.dead_letter, unpack_record(row.record), problems, moment(row.at), row.attempts)


def published(connection: Connection, rows: Sequence[int]) -> None:
    """Clear what the broker acknowledged."""
    if rows:
        connection.execute(_PUBLISHED, [{"r": row} for row in rows])


def mark(connection: Connection, records: Sequence[Record]) -> list[int]:
    """Mark records as under suspicion; returns the counts found, 0 where there was no mark."""
    found = [connection.execute(_COUNT, _position(one)).scalar() or 0 for one in records]
    connection.execute(_MARK, [_position(one) for one in records])
    return found


def accuse(connection: Connection, record: Record) -> int:
    """Count a try at one record on its own; the mark itself is the first count and no try."""
    tries: int = connection.execute(_ACCUSE, _position(record)).scalar_one()
    return tries - 1


def absolve(connection: Connection, records: Sequence[Record]) -> None:
    """Forget records that proved harmless."""
    if records:
        connection.execute(_ABSOLVE, [_position(one) for one in records])


def _position(record: Record) -> dict[str, Any]:
    return {"t": record.topic, "p": record.partition, "o": record.offset}
