"""The outbox and the careful attempts: records on their way out, and records under suspicion.

Each function runs inside a group's transaction.

The outbox of notices: written in the commit that they are about, cleared when they have arrived.

Each function runs inside a group's transaction. Where nobody wants notices nothing is done for them.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.rows import moment, stamp, storable
from postroom.adapters.ledger.schema import (
    database_time,
    dead_letter_outbox,
    notification_outbox,
    poison_marks,
    worker,
)
from postroom.adapters.ledger.writer import WriterIdentity
from postroom.letter.event import Record, pack_record, unpack_record
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import DeadLetter, PendingDeadLetter
from postroom.ports.notifications import LetterTransition, Notification, NotificationRule

_SELECT_DEAD_LETTERS = (
    select(dead_letter_outbox)
    .where(
        or_(
            dead_letter_outbox.c.worker_epoch == bindparam("mine"),
            dead_letter_outbox.c.worker_epoch.not_in(
                select(worker.c.worker_epoch).where(
                    or_(
                        worker.c.lease_until > database_time(),
                        worker.c.process.not_like(bindparam("profile_workers")),
                    )
                )
            ),
        )
    )
    .order_by(dead_letter_outbox.c.row)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_ADOPT_DEAD_LETTER = (
    update(dead_letter_outbox)
    .where(dead_letter_outbox.c.row == bindparam("r"))
    .values(worker_epoch=bindparam("mine"))
)
_DELETE_DEAD_LETTER = delete(dead_letter_outbox).where(dead_letter_outbox.c.row == bindparam("r"))

_SELECT_SUSPECT = select(poison_marks.c.attempts).where(
    poison_marks.c.topic == bindparam("t"),
    poison_marks.c.partition == bindparam("p"),
    poison_marks.c.offset == bindparam("o"),
)
_MARK_SUSPECT = (
    insert_or_ignore(poison_marks)
    .values(topic=bindparam("t"), partition=bindparam("p"), offset=bindparam("o"), attempts=1)
    .on_conflict_do_nothing()
)
_COUNT_SUSPECT_ATTEMPT = (
    insert_or_ignore(poison_marks)
    .values(topic=bindparam("t"), partition=bindparam("p"), offset=bindparam("o"), attempts=2)
    .on_conflict_do_update(
        index_elements=["topic", "partition", "offset"], set_={"attempts": poison_marks.c.attempts + 1}
    )
    .returning(poison_marks.c.attempts)
)
_CLEAR_SUSPECT = delete(poison_marks).where(
    poison_marks.c.topic == bindparam("t"),
    poison_marks.c.partition == bindparam("p"),
    poison_marks.c.offset == bindparam("o"),
)


def dead_letter_row(one: DeadLetter) -> dict[str, Any]:
    """A dead letter as its outbox row."""
    problems = [[p.code.value, storable(p.field), storable(p.message), p.line] for p in one.problems]
    return {
        "dead_letter": one.id,
        "record": pack_record(one.record),
        "problems": json.dumps(problems),
        "at": stamp(one.at),
        "attempts": one.attempts,
    }


def pending_dead_letters(
    connection: Connection, writer: WriterIdentity, limit: int
) -> list[PendingDeadLetter]:
    """The oldest dead letters that the broker has not acknowledged: this worker's and those of dead workers.

    Another profile's workers may have other brokers, so theirs wait for their own.
    """
    mine = writer.worker_epoch
    rows = connection.execute(
        _SELECT_DEAD_LETTERS, {"mine": mine, "profile_workers": writer.profile_workers, "limit": limit}
    ).all()
    if adopted := [{"r": row.row, "mine": mine} for row in rows if row.worker_epoch != mine]:
        connection.execute(_ADOPT_DEAD_LETTER, adopted)
    return [PendingDeadLetter(row.row, _dead_letter(row)) for row in rows]


def _dead_letter(row: Any) -> DeadLetter:
    problems = tuple(
        Problem(Code(code), field, message, line) for code, field, message, line in json.loads(row.problems)
    )
    return DeadLetter(row.dead_letter, unpack_record(row.record), problems, moment(row.at), row.attempts)


def delete_dead_letters(connection: Connection, rows: Sequence[int]) -> None:
    """Clear what the broker acknowledged."""
    if rows:
        connection.execute(_DELETE_DEAD_LETTER, [{"r": row} for row in rows])


def mark_suspects(connection: Connection, records: Sequence[Record]) -> list[int]:
    """Mark records as under suspicion; returns the counts found, 0 where there was no mark."""
    found = [connection.execute(_SELECT_SUSPECT, _position(one)).scalar() or 0 for one in records]
    connection.execute(_MARK_SUSPECT, [_position(one) for one in records])
    return found


def count_suspect_attempt(connection: Connection, record: Record) -> int:
    """Count a try at one record on its own; the mark itself is the first count and no try."""
    tries: int = connection.execute(_COUNT_SUSPECT_ATTEMPT, _position(record)).scalar_one()
    return tries - 1


def clear_suspects(connection: Connection, records: Sequence[Record]) -> None:
    """Forget records that proved harmless."""
    if records:
        connection.execute(_CLEAR_SUSPECT, [_position(one) for one in records])


def _position(record: Record) -> dict[str, Any]:
    return {"t": record.topic, "p": record.partition, "o": record.offset}


# a worker's own, and those of dead workers of its profile: other profiles' workers have other destinations
_ADOPTABLE = or_(
    notification_outbox.c.worker_epoch == bindparam("mine"),
    notification_outbox.c.worker_epoch.not_in(
        select(worker.c.worker_epoch).where(
            or_(
                worker.c.lease_until > database_time(),
                worker.c.process.not_like(bindparam("profile_workers")),
            )
        )
    ),
)
_SELECT_NOTIFICATIONS = (
    select(notification_outbox)
    .where(
        notification_outbox.c.destination == bindparam("destination"),
        notification_outbox.c.due <= bindparam("now"),
        _ADOPTABLE,
    )
    .order_by(notification_outbox.c.due, notification_outbox.c.row)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_ADOPT_NOTIFICATION = (
    update(notification_outbox)
    .where(notification_outbox.c.row == bindparam("r"))
    .values(worker_epoch=bindparam("mine"))
)
_DELETE_NOTIFICATION = delete(notification_outbox).where(notification_outbox.c.row == bindparam("r"))
_POSTPONE_NOTIFICATION = (
    update(notification_outbox)
    .where(notification_outbox.c.row == bindparam("r"))
    .values(due=bindparam("until"), attempts=notification_outbox.c.attempts + 1)
)
_DROP_NOTIFICATIONS = delete(notification_outbox).where(
    notification_outbox.c.destination.not_in(bindparam("wanted", expanding=True)), _ADOPTABLE
)
_ADD_NOTIFICATION = insert(notification_outbox)


def add_notifications(
    connection: Connection, writer: WriterIdentity, fates: Sequence[LetterTransition]
) -> None:
    """Put down what others are to be told of these."""
    add_notifications_for(connection, writer.notification_rules, writer.worker_epoch, fates)


def add_notifications_for(
    connection: Connection,
    heralds: Sequence[NotificationRule],
    worker_epoch: int,
    fates: Sequence[LetterTransition],
) -> None:
    """The same for another worker's letters: the worker with this epoch carries it."""
    for herald in heralds:
        rows = [_notification_row(one, worker_epoch) for fate in fates for one in herald(fate)]
        if rows:
            connection.execute(_ADD_NOTIFICATION, rows)


def pending_notifications(
    connection: Connection, writer: WriterIdentity, destination: str, now: datetime, limit: int
) -> list[Notification]:
    """See the port."""
    mine = writer.worker_epoch
    asked = {"mine": mine, "profile_workers": writer.profile_workers, "limit": limit}
    rows = connection.execute(
        _SELECT_NOTIFICATIONS, asked | {"destination": destination, "now": stamp(now)}
    ).all()
    if adopted := [{"r": row.row, "mine": mine} for row in rows if row.worker_epoch != mine]:
        connection.execute(_ADOPT_NOTIFICATION, adopted)
    return [_notification(row) for row in rows]


def delete_notifications(connection: Connection, notices: Sequence[Notification]) -> None:
    """See the port."""
    if notices:
        connection.execute(_DELETE_NOTIFICATION, [{"r": one.row} for one in notices])


def postpone_notifications(connection: Connection, until: Sequence[tuple[Notification, datetime]]) -> None:
    """See the port."""
    if until:
        connection.execute(_POSTPONE_NOTIFICATION, [{"r": one.row, "until": stamp(at)} for one, at in until])


def drop_notifications(connection: Connection, writer: WriterIdentity, destinations: Collection[str]) -> int:
    """See the port."""
    asked = {
        "wanted": list(destinations),
        "mine": writer.worker_epoch,
        "profile_workers": writer.profile_workers,
    }
    return connection.execute(_DROP_NOTIFICATIONS, asked).rowcount


def _notification_row(one: Notification, worker_epoch: int) -> dict[str, Any]:
    at = stamp(one.at)
    return {
        "destination": one.destination,
        "notification_id": one.id,
        "key": storable(one.key),
        "type": one.type,
        "data": storable(one.data),
        "letter": one.letter,
        "at": at,
        "due": at,
        "attempts": 0,
        "worker_epoch": worker_epoch,
    }


def _notification(row: Any) -> Notification:
    return Notification(
        id=row.notification_id,
        destination=row.destination,
        key=row.key,
        type=row.type,
        data=row.data,
        at=moment(row.at),
        letter=row.letter,
        row=row.row,
        attempts=row.attempts,
    )
