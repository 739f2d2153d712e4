"""Letters that a dead worker had in hand and whose record is now refused: nobody will claim them again.

In: dead letters that are being buried. What a dead worker had made of their records ends with them; a
letter in `dotting` is in doubt. Each function runs inside a group's transaction.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import leases
from postroom.adapters.ledger.fates import fate_of_row
from postroom.adapters.ledger.rows import legible, stamp
from postroom.adapters.ledger.schema import attempt, letter
from postroom.letter.event import pack_record
from postroom.letter.problems import Code
from postroom.ports.ledger import DeadLetter, State
from postroom.ports.notices import Fate

Place = tuple[str, int, int]
"""Where a record stands: topic, partition, offset."""

DEATH = "the worker died after the dot may have left"

_OPEN = letter.c.state.in_([State.CLAIMED.value, State.DOTTING.value])
# a row that holds its event comes back by the retry queue, not by its position
_IN_HAND = select(letter).where(_OPEN, letter.c.event.is_(None))
_ROWS = _IN_HAND.where(letter.c.row.in_(bindparam("rows", expanding=True)))
_OFFSETS = _IN_HAND.where(letter.c.offset.in_(bindparam("offsets", expanding=True)))
_END = (
    update(letter)
    .where(letter.c.row == bindparam("r"))
    .values(
        state=bindparam("state"),
        doubts=letter.c.doubts + bindparam("doubt"),
        code=bindparam("code"),
        reason=bindparam("reason"),
        event=bindparam("event"),
        updated_at=bindparam("now"),
    )
)
_NOTE = insert(attempt)


class Strays(Protocol):
    """How the letters of a dead worker are found by the position of their record."""

    def end(self, connection: Connection, buried: Sequence[DeadLetter], mine: int) -> list[Fate]:
        """End what dead workers had made of these records; `mine` is the generation that asks.

        Returns what became of each letter.
        """
        ...


class RememberedStrays:
    """The strays of a file: its table has no index on positions, so they are read once, when it is opened.

    A malformed record that is none of them costs a look into a dictionary.
    """

    def __init__(self, connection: Connection) -> None:
        """To be made before this process claims anything: the lock says that all there is is strays."""
        self._rows: dict[Place, list[int]] = {}
        for row in connection.execute(_IN_HAND):
            self._rows.setdefault((row.topic, row.partition, row.offset), []).append(row.row)

    def end(self, connection: Connection, buried: Sequence[DeadLetter], mine: int) -> list[Fate]:
        """See the protocol."""
        left = [
            (row, one)
            for one in buried
            if (rows := self._rows.get(_place(one)))
            for row in connection.execute(_ROWS, {"rows": rows}).all()
            if row.generation != mine
        ]
        return [_end(connection, row, one) for row, one in left]


class SoughtStrays:
    """The strays of a shared ledger, where workers die at any time: an index on offsets finds them."""

    def end(self, connection: Connection, buried: Sequence[DeadLetter], mine: int) -> list[Fate]:
        """See the protocol."""
        by_place = {_place(one): one for one in buried}
        offsets = [offset for _, _, offset in by_place]
        rows = connection.execute(_OFFSETS, {"offsets": offsets}).all()
        found = [row for row in rows if (row.topic, row.partition, row.offset) in by_place]
        others = {row.generation for row in found} - {mine}
        dead = leases.declare_dead(connection, others) if others else ()
        left = [row for row in found if row.generation in dead]
        return [_end(connection, row, by_place[row.topic, row.partition, row.offset]) for row in left]


def _place(one: DeadLetter) -> Place:
    return one.record.topic, one.record.partition, one.record.offset


def _end(connection: Connection, row: Any, buried: DeadLetter) -> Fate:
    problem, at = buried.problems[0], stamp(buried.at)
    doubt = row.state == State.DOTTING.value
    if doubt:
        note = {"row": row.row, "generation": row.generation, "at": at, "result": "in_doubt", "text": DEATH}
        connection.execute(_NOTE, note)
        state = State.IN_DOUBT
    else:
        state = State.RENDER_FAILED if problem.code is Code.POISON else State.FAILED
    connection.execute(
        _END,
        {
            "r": row.row,
            "state": state.value,
            "doubt": int(doubt),
            "code": problem.code.value,
            "reason": legible(str(problem)),
            "event": pack_record(buried.record) if doubt else None,
            "now": at,
        },
    )
    return fate_of_row(row, state, problem.code.value, at)
