"""Orphans: letters that a dead worker owned and whose record is refused when it comes again.

No worker will claim such a letter, because its record becomes a dead letter before it is claimed. So the rows
that a dead worker had made of a record end with the record: `claimed` fails, `sending` is in doubt. In: the
dead letters that are being added. Out: the transitions of the letters that ended. Runs inside a transaction
of the group commit.
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
"""Topic, partition and offset of a record."""

WORKER_DIED = "the worker died after the end of the data may have been sent"
"""The text of the attempt that records a doubt."""

_OPEN = letter.c.state.in_([State.CLAIMED.value, State.SENDING.value])
# a row that holds its event comes back from the retry queue, not from the topic
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
    """Finds the letters of dead workers by the position of their record."""

    def end(
        self, connection: Connection, dead_letters: Sequence[DeadLetter], mine: int
    ) -> list[LetterTransition]:
        """End the letters that dead workers had made of these records; `mine` is the caller's epoch.

        Returns the transition of each letter.
        """
        ...


class InMemoryOrphans:
    """The orphans of a file, which has one worker: read once when the file is opened.

    SQLite has no index on positions; a malformed record costs one look into a dictionary.
    """

    def __init__(self, connection: Connection) -> None:
        """Read them before this process claims a letter: the file lock proves that every owner is dead."""
        self._rows: dict[RecordPosition, list[int]] = {}
        for row in connection.execute(_IN_PROGRESS):
            self._rows.setdefault((row.topic, row.partition, row.offset), []).append(row.row)

    def end(
        self, connection: Connection, dead_letters: Sequence[DeadLetter], mine: int
    ) -> list[LetterTransition]:
        """See Orphans."""
        orphans = [
            (row, dead_letter)
            for dead_letter in dead_letters
            if (rows := self._rows.get(_position(dead_letter)))
            for row in connection.execute(_ROWS, {"rows": rows}).all()
            if row.worker_epoch != mine
        ]
        return [_end_orphan(connection, row, dead_letter) for row, dead_letter in orphans]


class IndexedOrphans:
    """The orphans of a shared ledger, where workers die at any time: an index on offsets finds them."""

    def end(
        self, connection: Connection, dead_letters: Sequence[DeadLetter], mine: int
    ) -> list[LetterTransition]:
        """See Orphans."""
        by_position = {_position(dead_letter): dead_letter for dead_letter in dead_letters}
        offsets = [offset for _, _, offset in by_position]
        rows = connection.execute(_OFFSETS, {"offsets": offsets}).all()
        found = [row for row in rows if (row.topic, row.partition, row.offset) in by_position]
        others = {row.worker_epoch for row in found} - {mine}
        dead = leases.declare_dead(connection, others) if others else ()
        orphans = [row for row in found if row.worker_epoch in dead]
        return [
            _end_orphan(connection, row, by_position[row.topic, row.partition, row.offset]) for row in orphans
        ]


def _position(dead_letter: DeadLetter) -> RecordPosition:
    return dead_letter.record.topic, dead_letter.record.partition, dead_letter.record.offset


def _end_orphan(connection: Connection, row: Any, dead_letter: DeadLetter) -> LetterTransition:
    problem, at = dead_letter.problems[0], stamp(dead_letter.at)
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
            "event": pack_record(dead_letter.record) if doubt else None,
            "now": at,
        },
    )
    return transition_of_row(row, state, problem.code.value, at)
