"""Replays: records that a person published again, each of which counts once.

Each function runs inside a group's transaction. In: letters whose record is a replay. Out: which of these
replays were taken now for the first time; a letter that is opened again by one.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.identities import Known
from postroom.adapters.ledger.rows import legible, moment, stamp
from postroom.adapters.ledger.schema import attempt, letter, replay
from postroom.ports.ledger import REOPENS, REPLAYS_KEPT, Claimed, Letter, State

_TAKE = insert_or_ignore(replay).on_conflict_do_nothing().returning(replay.c.id)
_TAKEN = select(replay.c.id).where(replay.c.id.in_(bindparam("ids", expanding=True)))
_REOPEN = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.state.in_([state.value for state in REOPENS]))
    .values(
        {
            "state": State.CLAIMED.value,
            "generation": bindparam("mine"),
            "answers": 0,
            "tries": 0,
            "due": None,
            "code": None,
            "reason": None,
            "reply": None,
            "event": None,
            "topic": bindparam("t"),
            "partition": bindparam("p"),
            "offset": bindparam("o"),
            "received_at": bindparam("now"),
            "updated_at": bindparam("now"),
        }
    )
)
_NOTE = insert(attempt)


def take(connection: Connection, letters: Sequence[Letter], now: datetime) -> set[str]:
    """Put the ids of these letters' replays on record; returns those that were not there."""
    digests = {_digest(one.replay): one.replay for one in letters if one.replay}
    if not digests:
        return set()
    ids = sorted(digests)  # in one order, so that two workers never wait for each other
    known = set(connection.execute(_TAKEN, {"ids": ids}).scalars())
    fresh = set[str]()
    for each in ids:
        # one by one: of two workers that take the same one, the second waits for the first and then has none
        if each not in known and connection.execute(_TAKE, {"id": each, "at": stamp(now)}).first():
            fresh.add(digests[each])
    return fresh


def reopen(connection: Connection, met: Known, one: Letter, mine: int, now: datetime) -> Claimed | None:
    """Claim a letter that had ended without reaching anybody, anew; None where it had not."""
    record = one.record
    done = connection.execute(
        _REOPEN,
        {
            "r": met.row,
            "mine": mine,
            "t": record.topic,
            "p": record.partition,
            "o": record.offset,
            "now": stamp(now),
        },
    )
    if done.rowcount != 1:
        return None
    note = {"row": met.row, "generation": mine, "at": stamp(now), "result": "reopened"}
    connection.execute(_NOTE, note | {"text": legible(f"replay {one.replay}")})
    return Claimed(one, met.row, moment(stamp(now)), doubts=met.doubts, generation=mine)


def taken_over(met: Known, mine: int) -> Known:
    """What the next letter meets where one was opened again."""
    return replace(met, state=State.CLAIMED, generation=mine)


def forget(connection: Connection, now: float) -> None:
    """Forget the ids of long ago."""
    connection.execute(delete(replay).where(replay.c.at < now - REPLAYS_KEPT.total_seconds()))


def _digest(id_: str) -> str:
    return blake2b(id_.encode(errors="replace"), digest_size=16, person=b"replay").hexdigest()
