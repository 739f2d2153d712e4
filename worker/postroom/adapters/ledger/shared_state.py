"""Shared states in rows: read, changed by a pure function, written back under the row's lock.

Runs inside a transaction of the group commit. A state that the function leaves unchanged costs no lock and no
write.
"""

from collections.abc import Sequence

from sqlalchemy import Select, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.schema import database_time, shared_states
from postroom.ports.ledger import LedgerTime, SharedState, Update

_NOW = select(database_time())
_SELECT = select(shared_states.c.subject, shared_states.c.text).where(
    shared_states.c.subject.in_(bindparam("subjects", expanding=True))
)
# in one order for all workers, so that they cannot deadlock
_SELECT_FOR_UPDATE = _SELECT.order_by(shared_states.c.subject).with_for_update()
_INSERT = insert(shared_states).values(subject=bindparam("s"), text="", until=0.0).on_conflict_do_nothing()
_WRITE = (
    update(shared_states)
    .where(shared_states.c.subject == bindparam("s"))
    .values(text=bindparam("new"), until=bindparam("end"))
)
_DELETE_EXPIRED = delete(shared_states).where(shared_states.c.until < database_time())


def update_shared(
    connection: Connection, subjects: Sequence[str], change: Update, worker_epoch: int
) -> list[str]:
    """Apply `change` to these subjects; returns their texts, in order."""
    at = _ledger_time(connection, worker_epoch)
    unique = sorted(set(subjects))
    found = _texts(connection, _SELECT, unique)
    states = {subject: change(subject, found.get(subject, ""), at) for subject in unique}
    changed = [subject for subject in unique if states[subject].text != found.get(subject, "")]
    if changed:
        states |= _write(connection, changed, change, worker_epoch)
    return [states[subject].text for subject in subjects]


def delete_expired(connection: Connection) -> None:
    """Delete states whose time to keep has passed."""
    connection.execute(_DELETE_EXPIRED)


def _write(
    connection: Connection, changed: Sequence[str], change: Update, worker_epoch: int
) -> dict[str, SharedState]:
    connection.execute(_INSERT, [{"s": subject} for subject in changed])
    texts = _texts(connection, _SELECT_FOR_UPDATE, changed)
    at = _ledger_time(
        connection, worker_epoch
    )  # read after the lock was granted: another worker may have held it for a while
    states = {subject: change(subject, texts[subject], at) for subject in changed}
    rows = [
        {"s": subject, "new": state.text, "end": at.now + state.keep_seconds}
        for subject, state in states.items()
    ]
    connection.execute(_WRITE, rows)
    return states


def _texts(
    connection: Connection, statement: Select[tuple[str, str]], subjects: Sequence[str]
) -> dict[str, str]:
    return {row.subject: row.text for row in connection.execute(statement, {"subjects": subjects})}


def _ledger_time(connection: Connection, worker_epoch: int) -> LedgerTime:
    return LedgerTime(connection.execute(_NOW).scalar_one(), worker_epoch)
