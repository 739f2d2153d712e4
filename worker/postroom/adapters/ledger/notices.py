"""The outbox of notices: written in the commit that they are about, cleared when they have arrived.

Each function runs inside a group's transaction. Where nobody wants notices nothing is done for them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.leases import database_time
from postroom.adapters.ledger.rows import legible, moment, stamp
from postroom.adapters.ledger.schema import notice, worker
from postroom.ports.notices import Fate, Herald, Notice

# a worker's own, and those of its dead kin: other profiles' workers have other destinations
_OURS = or_(
    notice.c.generation == bindparam("mine"),
    notice.c.generation.not_in(
        select(worker.c.generation).where(
            or_(worker.c.lease_until > database_time(), worker.c.process.not_like(bindparam("kin")))
        )
    ),
)
_PENDING = (
    select(notice)
    .where(notice.c.destination == bindparam("destination"), notice.c.due <= bindparam("now"), _OURS)
    .order_by(notice.c.due, notice.c.row)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_ADOPT = update(notice).where(notice.c.row == bindparam("r")).values(generation=bindparam("mine"))
_DELIVERED = delete(notice).where(notice.c.row == bindparam("r"))
_POSTPONE = (
    update(notice)
    .where(notice.c.row == bindparam("r"))
    .values(due=bindparam("until"), tries=notice.c.tries + 1)
)
_ABANDON = delete(notice).where(notice.c.destination.not_in(bindparam("wanted", expanding=True)), _OURS)
_PUT = insert(notice)


def put(connection: Connection, holder: Holder, fates: Sequence[Fate]) -> None:
    """Put down what others are to be told of these."""
    tell(connection, holder.heralds, holder.generation, fates)


def tell(connection: Connection, heralds: Sequence[Herald], generation: int, fates: Sequence[Fate]) -> None:
    """The same for somebody else's letters: the worker of this generation carries it, or its kin."""
    for herald in heralds:
        rows = [_row(one, generation) for fate in fates for one in herald(fate)]
        if rows:
            connection.execute(_PUT, rows)


def pending(
    connection: Connection, holder: Holder, destination: str, now: datetime, limit: int
) -> list[Notice]:
    """See the port."""
    mine = holder.generation
    asked = {"mine": mine, "kin": holder.kin, "limit": limit}
    rows = connection.execute(_PENDING, asked | {"destination": destination, "now": stamp(now)}).all()
    if adopted := [{"r": row.row, "mine": mine} for row in rows if row.generation != mine]:
        connection.execute(_ADOPT, adopted)
    return [_notice(row) for row in rows]


def delivered(connection: Connection, notices: Sequence[Notice]) -> None:
    """See the port."""
    if notices:
        connection.execute(_DELIVERED, [{"r": one.row} for one in notices])


def postpone(connection: Connection, until: Sequence[tuple[Notice, datetime]]) -> None:
    """See the port."""
    if until:
        connection.execute(_POSTPONE, [{"r": one.row, "until": stamp(at)} for one, at in until])


def abandon(connection: Connection, holder: Holder, destinations: Collection[str]) -> int:
    """See the port."""
    asked = {"wanted": list(destinations), "mine": holder.generation, "kin": holder.kin}
    return connection.execute(_ABANDON, asked).rowcount


def _row(one: Notice, generation: int) -> dict[str, Any]:
    at = stamp(one.at)
    return {
        "destination": one.destination,
        "notice_id": one.id,
        "key": legible(one.key),
        "type": one.type,
        "data": legible(one.data),
        "letter": one.letter,
        "at": at,
        "due": at,
        "tries": 0,
        "generation": generation,
    }


def _notice(row: Any) -> Notice:
    return Notice(
        id=row.notice_id,
        destination=row.destination,
        key=row.key,
        type=row.type,
        data=row.data,
        at=moment(row.at),
        letter=row.letter,
        row=row.row,
        tries=row.tries,
    )
