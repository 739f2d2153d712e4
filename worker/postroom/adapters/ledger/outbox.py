"""The outbox: dead letters and notifications that wait to be published, and the marks of suspected records.

Rows are written in the commit of the change that they report, and deleted when their destination has
acknowledged them, so that each arrives at least once. A row belongs to the worker that wrote it; the rows of
a dead worker are adopted by the next worker of its profile that looks, because workers of other profiles have
other brokers and destinations. Each function runs inside a transaction of the group commit. Without
notification rules nothing is written or read for notifications.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, delete, insert, or_, select, update
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


def _adoptable(outbox: Table) -> ColumnElement[bool]:
    """Rows of this worker, and of dead workers of its profile."""
    others = select(worker.c.worker_epoch).where(
        or_(worker.c.lease_until > database_time(), worker.c.process.not_like(bindparam("profile_workers")))
    )
    return or_(outbox.c.worker_epoch == bindparam("mine"), outbox.c.worker_epoch.not_in(others))


_SELECT_DEAD_LETTERS = (
    select(dead_letter_outbox)
    .where(_adoptable(dead_letter_outbox))
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


def dead_letter_row(dead_letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as its outbox row."""
    problems = [[p.code.value, storable(p.field), storable(p.message), p.line] for p in dead_letter.problems]
    return {
        "dead_letter": dead_letter.id,
        "record": pack_record(dead_letter.record),
        "problems": json.dumps(problems),
        "at": stamp(dead_letter.at),
        "attempts": dead_letter.attempts,
    }


def pending_dead_letters(
    connection: Connection, writer: WriterIdentity, limit: int
) -> list[PendingDeadLetter]:
    """The oldest dead letters that the broker has not acknowledged; adopts those of dead workers."""
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
    """Delete dead letters that the broker acknowledged."""
    if rows:
        connection.execute(_DELETE_DEAD_LETTER, [{"r": row} for row in rows])


def mark_suspects(connection: Connection, records: Sequence[Record]) -> list[int]:
    """Mark records as suspected of killing workers; returns the counts found, 0 where there was no mark."""
    found = [connection.execute(_SELECT_SUSPECT, _position(record)).scalar() or 0 for record in records]
    connection.execute(_MARK_SUSPECT, [_position(record) for record in records])
    return found


def count_suspect_attempt(connection: Connection, record: Record) -> int:
    """Count an attempt at one record alone; returns the attempts. The mark itself counts 1 and is none."""
    count: int = connection.execute(_COUNT_SUSPECT_ATTEMPT, _position(record)).scalar_one()
    return count - 1


def clear_suspects(connection: Connection, records: Sequence[Record]) -> None:
    """Delete the marks of records that proved harmless."""
    if records:
        connection.execute(_CLEAR_SUSPECT, [_position(record) for record in records])


def _position(record: Record) -> dict[str, Any]:
    return {"t": record.topic, "p": record.partition, "o": record.offset}


_SELECT_NOTIFICATIONS = (
    select(notification_outbox)
    .where(
        notification_outbox.c.destination == bindparam("destination"),
        notification_outbox.c.due <= bindparam("now"),
        _adoptable(notification_outbox),
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
    notification_outbox.c.destination.not_in(bindparam("wanted", expanding=True)),
    _adoptable(notification_outbox),
)
_ADD_NOTIFICATION = insert(notification_outbox)


def add_notifications(
    connection: Connection, writer: WriterIdentity, transitions: Sequence[LetterTransition]
) -> None:
    """Write the notifications that this worker's rules make of these transitions."""
    add_notifications_for(connection, writer.notification_rules, writer.worker_epoch, transitions)


def add_notifications_for(
    connection: Connection,
    rules: Sequence[NotificationRule],
    worker_epoch: int,
    transitions: Sequence[LetterTransition],
) -> None:
    """Write the notifications that these rules make; the worker with this epoch publishes them."""
    for rule in rules:
        rows = [
            _notification_row(notification, worker_epoch)
            for transition in transitions
            for notification in rule(transition)
        ]
        if rows:
            connection.execute(_ADD_NOTIFICATION, rows)


def pending_notifications(
    connection: Connection, writer: WriterIdentity, destination: str, now: datetime, limit: int
) -> list[Notification]:
    """The notifications of a destination whose time has come, oldest first; adopts those of dead workers."""
    mine = writer.worker_epoch
    parameters = {"mine": mine, "profile_workers": writer.profile_workers, "limit": limit}
    rows = connection.execute(
        _SELECT_NOTIFICATIONS, parameters | {"destination": destination, "now": stamp(now)}
    ).all()
    if adopted := [{"r": row.row, "mine": mine} for row in rows if row.worker_epoch != mine]:
        connection.execute(_ADOPT_NOTIFICATION, adopted)
    return [_notification(row) for row in rows]


def delete_notifications(connection: Connection, notifications: Sequence[Notification]) -> None:
    """Delete notifications that arrived or were given up."""
    if notifications:
        connection.execute(_DELETE_NOTIFICATION, [{"r": notification.row} for notification in notifications])


def postpone_notifications(connection: Connection, until: Sequence[tuple[Notification, datetime]]) -> None:
    """Set when each is due again, and count the attempt."""
    if until:
        connection.execute(
            _POSTPONE_NOTIFICATION,
            [{"r": notification.row, "until": stamp(at)} for notification, at in until],
        )


def drop_notifications(connection: Connection, writer: WriterIdentity, destinations: Collection[str]) -> int:
    """Delete the notifications to all destinations but these; returns how many."""
    parameters = {
        "wanted": list(destinations),
        "mine": writer.worker_epoch,
        "profile_workers": writer.profile_workers,
    }
    return connection.execute(_DROP_NOTIFICATIONS, parameters).rowcount


def _notification_row(notification: Notification, worker_epoch: int) -> dict[str, Any]:
    at = stamp(notification.at)
    return {
        "destination": notification.destination,
        "notification_id": notification.id,
        "key": storable(notification.key),
        "type": notification.type,
        "data": storable(notification.data),
        "letter": notification.letter,
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
