"""Letters that a dead process had in hand and whose record is now refused: nobody will claim them again.

The table has no index on positions, so those letters are read once, when the ledger is opened; a malformed
record that is none of them costs a look into a dictionary. Each function runs inside a group's transaction.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.rows import legible, stamp
from postroom.adapters.ledger.schema import attempt, letter
from postroom.letter.event import pack
from postroom.letter.problems import Code
from postroom.ports.ledger import DeadLetter, State

Strays = dict[tuple[str, int, int], list[int]]
"""Rows by the position of their record: topic, partition, offset."""

DEATH = "the worker died after the dot may have left"

# a row that holds its event comes back by the retry queue, not by its position
_IN_HAND = select(letter.c.row, letter.c.topic, letter.c.partition, letter.c.offset).where(
    letter.c.state.in_([State.CLAIMED.value, State.DOTTING.value]), letter.c.event.is_(None)
)
_FOUND = select(letter.c.row, letter.c.state, letter.c.generation).where(
    letter.c.row.in_(bindparam("rows", expanding=True)),
    letter.c.generation != bindparam("mine"),
    letter.c.state.in_([State.CLAIMED.value, State.DOTTING.value]),
)
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


def strays(connection: Connection) -> Strays:
    """What earlier processes left in hand, to be called before this one claims anything."""
    found: Strays = {}
    for row in connection.execute(_IN_HAND):
        found.setdefault((row.topic, row.partition, row.offset), []).append(row.row)
    return found


def close(connection: Connection, known: Strays, buried: Sequence[DeadLetter], generation: int) -> None:
    """End the letters that dead processes had made of these records."""
    for one in buried:
        if rows := known.get((one.record.topic, one.record.partition, one.record.offset)):
            for row in connection.execute(_FOUND, {"rows": rows, "mine": generation}).all():
                _end(connection, row, one)


def _end(connection: Connection, row: Any, buried: DeadLetter) -> None:
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
            "event": pack(buried.record) if doubt else None,
            "now": at,
        },
    )
