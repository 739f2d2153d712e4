"""Letters that a dead worker had in hand and whose record is now refused: nobody will claim them again.

In: dead letters that are being buried. What a dead worker had made of their records ends with them; a
letter in `sending` is in doubt. Each function runs inside a group's transaction.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import leases
from postroom.adapters.ledger.rows import stamp, storable, transition_of_row
from postroom.adapters.ledger.schema import attempt, letter
from postroom.letter.event import pack_record
from postroom.letter.problems import Code
from postroom.ports.ledger import DeadLetter, State
from postroom.ports.notifications import LetterTransition

RecordPosition = tuple[str, int, int]
"""Where a record stands: topic, partition, offset."""

WORKER_DIED = "the worker died after the dot may have left"

_OPEN = letter.c.state.in_([State.CLAIMED.value, State.SENDING.value])
# a row that holds its event comes back by the retry queue, not by its position
_IN_PROGRESS = select(letter).where(_OPEN, letter.c.event.is_(None))
_ROWS = _IN_PROGRESS.where(letter.c.row.in_(bindparam("rows", expanding=True)))
_OFFSETS = _IN_PROGRESS.where(letter.c.offset.in_(bindparam("offsets", expanding=True)))
_END_ORPHAN = (
    update(letter)
    .where(letter.c.row == bindparam("r"))
    .values(
        state=bindparam("state"),
        in_doubt_count=letter.c.in_doubt_count + bindparam("doubt"),
        code=bindparam("code"),
        reason=bindparam("reason"),
        event=bindparam("event"),
        updated_at=bindparam("now"),
    )
)
_ADD_ATTEMPT = insert(attempt)


class Orphans(Protocol):
    """How the letters of a dead worker are found by the position of their record."""

    def end(self, connection: Connection, buried: Sequence[DeadLetter], mine: int) -> list[LetterTransition]:
        """End what dead workers had made of these records; `mine` is the worker_epoch that asks.

        Returns what became of each letter.
        """
        ...


class InMemoryOrphans:
    """The strays of a file: its table has no index on positions, so they are read once, when it is opened.

    A malformed record that is none of them costs a look into a dictionary.
    """

    def __init__(self, connection: Connection) -> None:
        """To be made before this process claims anything: the lock says that all there is is strays."""
        self._rows: dict[RecordPosition, list[int]] = {}
        for row in connection.execute(_IN_PROGRESS):
            self._rows.setdefault((row.topic, row.partition, row.offset), []).append(row.row)

    def end(self, connection: Connection, buried: Sequence[DeadLetter], mine: int) -> list[LetterTransition]:
        """See the protocol."""
        left = [
            (row, one)
            for one in buried
            if (rows := self._rows.get(_position(one)))
            for row in connection.execute(_ROWS, {"rows": rows}).all()
            if row.worker_epoch != mine
        ]
        return [_end_orphan(connection, row, one) for row, one in left]


class IndexedOrphans:
    """The strays of a shared ledger, where workers die at any time: an index on offsets finds them."""

    def end(self, connection: Connection, buried: Sequence[DeadLetter], mine: int) -> list[LetterTransition]:
        """See the protocol."""
        by_place = {_position(one): one for one in buried}
        offsets = [offset for _, _, offset in by_place]
        rows = connection.execute(_OFFSETS, {"offsets": offsets}).all()
        found = [row for row in rows if (row.topic, row.partition, row.offset) in by_place]
        others = {row.worker_epoch for row in found} - {mine}
        dead = leases.declare_dead(connection, others) if others else ()
        left = [row for row in found if row.worker_epoch in dead]
        return [_end_orphan(connection, row, by_place[row.topic, row.partition, row.offset]) for row in left]


def _position(one: DeadLetter) -> RecordPosition:
    return one.record.topic, one.record.partition, one.record.offset


def _end_orphan(connection: Connection, row: Any, buried: DeadLetter) -> LetterTransition:
    problem, at = buried.problems[0], stamp(buried.at)
    doubt = row.state == State.SENDING.value
    if doubt:
        note = {
            "row": row.row,
            "worker_epoch": row.worker_epoch,
            "at": at,
            "result": "in_doubt",
            "text": WORKER_DIED,
        }
        connection.execute(_ADD_ATTEMPT, note)
        state = State.IN_DOUBT
    else:
        state = State.RENDER_FAILED if problem.code is Code.POISON else State.FAILED
    connection.execute(
        _END_ORPHAN,
        {
            "r": row.row,
            "state": state.value,
            "doubt": int(doubt),
            "code": problem.code.value,
            "reason": storable(str(problem)),
            "event": pack_record(buried.record) if doubt else None,
            "now": at,
        },
    )
    return transition_of_row(row, state, problem.code.value, at)
