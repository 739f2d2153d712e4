"""What workers agree on, in rows: read, changed by a pure function, written back under the row's lock.

Runs inside a group's transaction. An accord that a look leaves as it is costs no lock and no write.
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
# in one order for everybody: two that want the same rows wait and don't block each other
_SELECT_FOR_UPDATE = _SELECT.order_by(shared_states.c.subject).with_for_update()
_INSERT = insert(shared_states).values(subject=bindparam("s"), text="", until=0.0).on_conflict_do_nothing()
_WRITE = (
    update(shared_states)
    .where(shared_states.c.subject == bindparam("s"))
    .values(text=bindparam("new"), until=bindparam("end"))
)
_DELETE_EXPIRED = delete(shared_states).where(shared_states.c.until < database_time())


def update_shared(connection: Connection, subjects: Sequence[str], change: Update, me: int) -> list[str]:
    """The texts of these subjects after `change`, in order."""
    at = _ledger_time(connection, me)
    wanted = sorted(set(subjects))
    found = _texts(connection, _SELECT, wanted)
    agreed = {each: change(each, found.get(each, ""), at) for each in wanted}
    moved = [each for each in wanted if agreed[each].text != found.get(each, "")]
    if moved:
        agreed |= _write(connection, moved, change, me)
    return [agreed[each].text for each in subjects]


def delete_expired(connection: Connection) -> None:
    """Delete what need not be kept any longer."""
    connection.execute(_DELETE_EXPIRED)


def _write(connection: Connection, moved: Sequence[str], change: Update, me: int) -> dict[str, SharedState]:
    connection.execute(_INSERT, [{"s": each} for each in moved])
    held = _texts(connection, _SELECT_FOR_UPDATE, moved)
    at = _ledger_time(connection, me)  # only now: others may have had the lock for a while
    agreed = {each: change(each, held[each], at) for each in moved}
    rows = [{"s": each, "new": one.text, "end": at.now + one.keep_seconds} for each, one in agreed.items()]
    connection.execute(_WRITE, rows)
    return agreed


def _texts(connection: Connection, look: Select[tuple[str, str]], subjects: Sequence[str]) -> dict[str, str]:
    return {row.subject: row.text for row in connection.execute(look, {"subjects": subjects})}


def _ledger_time(connection: Connection, me: int) -> LedgerTime:
    return LedgerTime(connection.execute(_NOW).scalar_one(), me)
