"""What workers agree on, in rows: read, changed by a pure function, written back under the row's lock.

Runs inside a group's transaction. An accord that a look leaves as it is costs no lock and no write.
"""

from collections.abc import Sequence

from sqlalchemy import Select, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.leases import database_time
from postroom.adapters.ledger.schema import accord
from postroom.ports.accord import Accord, Change, Moment

_NOW = select(database_time())
_LOOK = select(accord.c.subject, accord.c.text).where(
    accord.c.subject.in_(bindparam("subjects", expanding=True))
)
# in one order for everybody: two that want the same rows wait and don't block each other
_HOLD = _LOOK.order_by(accord.c.subject).with_for_update()
_MAKE = insert(accord).values(subject=bindparam("s"), text="", until=0.0).on_conflict_do_nothing()
_WRITE = (
    update(accord)
    .where(accord.c.subject == bindparam("s"))
    .values(text=bindparam("new"), until=bindparam("end"))
)
_FORGET = delete(accord).where(accord.c.until < database_time())


def agree(connection: Connection, subjects: Sequence[str], change: Change, me: int) -> list[str]:
    """The texts of these subjects after `change`, in order."""
    at = _moment(connection, me)
    wanted = sorted(set(subjects))
    found = _texts(connection, _LOOK, wanted)
    agreed = {each: change(each, found.get(each, ""), at) for each in wanted}
    moved = [each for each in wanted if agreed[each].text != found.get(each, "")]
    if moved:
        agreed |= _write(connection, moved, change, me)
    return [agreed[each].text for each in subjects]


def forget(connection: Connection) -> None:
    """Delete what need not be kept any longer."""
    connection.execute(_FORGET)


def _write(connection: Connection, moved: Sequence[str], change: Change, me: int) -> dict[str, Accord]:
    connection.execute(_MAKE, [{"s": each} for each in moved])
    held = _texts(connection, _HOLD, moved)
    at = _moment(connection, me)  # only now: others may have had the lock for a while
    agreed = {each: change(each, held[each], at) for each in moved}
    rows = [{"s": each, "new": one.text, "end": at.now + one.keep} for each, one in agreed.items()]
    connection.execute(_WRITE, rows)
    return agreed


def _texts(connection: Connection, look: Select[tuple[str, str]], subjects: Sequence[str]) -> dict[str, str]:
    return {row.subject: row.text for row in connection.execute(look, {"subjects": subjects})}


def _moment(connection: Connection, me: int) -> Moment:
    return Moment(connection.execute(_NOW).scalar_one(), me)
