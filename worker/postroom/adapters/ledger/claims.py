"""Claims and fences: the statements that say who may send a letter.

Each function runs inside a group's transaction. In: letters, or claimed letters. Out: a fresh claim or the
row that was met, or those that the fence let through. A hash that matches is compared with the whole
identity, never trusted.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.rows import RowKeys, moment, stamp
from postroom.adapters.ledger.schema import attempt, identity, letter
from postroom.ports.ledger import Claimed, Existing, Letter, State

BUCKET_SECONDS = 86_400
HASH_SPACE = 1 << 63

_INSERT_LETTER = insert(letter)
_INSERT_IDENTITY = insert(identity)
_INSERT_ATTEMPT = insert(attempt)

_COLUMNS = (
    letter.c.row,
    letter.c.profile,
    letter.c.source,
    letter.c.event_id,
    letter.c.recipient,
    letter.c.digest,
    letter.c.state,
    letter.c.generation,
    letter.c.received_at,
    letter.c.answers,
    letter.c.tries,
    letter.c.doubts,
)

_KNOWN = (
    select(identity.c.hash, *_COLUMNS)
    .join(letter, letter.c.row == identity.c.row)
    .where(
        identity.c.bucket.in_(bindparam("buckets", expanding=True)),
        identity.c.hash.in_(bindparam("hashes", expanding=True)),
    )
)

_TAKE = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.state == bindparam("s"),
        letter.c.generation == bindparam("g"),
    )
    .values(
        state=State.CLAIMED.value,
        generation=bindparam("mine"),
        doubts=letter.c.doubts + bindparam("doubt"),
        updated_at=bindparam("now"),
    )
)

_FENCE = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.generation == bindparam("g"),
        # spelled out: an IN list cannot be used for many rows at once
        or_(letter.c.state == State.CLAIMED.value, letter.c.state == State.DOTTING.value),
    )
    .values(state=State.DOTTING.value, updated_at=bindparam("now"))
)

_MINE = select(letter.c.row).where(
    letter.c.row.in_(bindparam("rows", expanding=True)),
    letter.c.generation == bindparam("g"),
    letter.c.state == bindparam("s"),
)


@dataclass(frozen=True, slots=True)
class Holder:
    """This process as the ledger knows it: its generation, its row keys, how far identities reach back."""

    generation: int
    keys: RowKeys
    window: float
    """Seconds that identities are remembered (dedupe.window)."""


def claim(
    connection: Connection, letters: Sequence[Letter], holder: Holder, now: datetime
) -> list[Claimed | Existing]:
    """Insert what is new; meet what is known. One answer a letter, in order."""
    at = stamp(now)
    known = _Known(connection, [one.identity.hash64() for one in letters], holder, at)
    answers: list[Claimed | Existing] = []
    fresh: list[tuple[Claimed, int]] = []
    for one in letters:
        met, slot = known.meet(one)
        if met is not None:
            answers.append(_existing(met, one, holder))
            continue
        claimed = Claimed(one, holder.keys.next(at), now)
        known.add(slot, _Fresh(claimed, holder.generation))
        fresh.append((claimed, slot))
        answers.append(claimed)
    if fresh:
        bucket = int(at // BUCKET_SECONDS)
        connection.execute(_INSERT_LETTER, [_letter_row(one, holder, at) for one, _ in fresh])
        connection.execute(
            _INSERT_IDENTITY, [{"bucket": bucket, "hash": slot, "row": one.row} for one, slot in fresh]
        )
    return answers


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A claim made by this very call: the same identity twice in one batch meets it."""

    claimed: Claimed
    generation: int


_Met = Any
"""A row of `_KNOWN`, or a claim of this very call."""


class _Known:
    """The identities of the window by slot. A slot is a hash, or where a foreign identity has it, the next.

    The next slots are read when a letter comes to them, which two equal hashes make a matter of centuries.
    """

    def __init__(self, connection: Connection, hashes: list[int], holder: Holder, at: float) -> None:
        self._connection = connection
        newest = int(at // BUCKET_SECONDS)
        oldest = int((at - holder.window) // BUCKET_SECONDS)
        # one bucket ahead, for a clock that was set back since
        self._buckets = list(range(oldest, newest + 2))
        self._slots: dict[int, list[_Met]] = {}
        self._read(hashes)

    def meet(self, one: Letter) -> "tuple[_Met | None, int]":
        """The row of this very identity, or None and the slot to use."""
        slot = one.identity.hash64()
        while found := self._at(slot):
            for met in found:
                if _same_identity(met, one):
                    return met, slot
            slot = (slot + 1) % HASH_SPACE
        return None, slot

    def add(self, slot: int, fresh: _Fresh) -> None:
        """Have the next letter meet a claim of this call."""
        self._slots[slot].append(fresh)

    def _at(self, slot: int) -> "list[_Met]":
        if slot not in self._slots:
            self._read([slot])
        return self._slots[slot]

    def _read(self, hashes: list[int]) -> None:
        self._slots |= {each: [] for each in hashes}
        for row in self._connection.execute(_KNOWN, {"buckets": self._buckets, "hashes": hashes}):
            self._slots[row.hash].append(row)


def _same_identity(met: "_Met", one: Letter) -> bool:
    if isinstance(met, _Fresh):
        return met.claimed.letter.identity == one.identity
    mine = one.identity
    return (met.profile, met.source, met.event_id, met.recipient) == (
        mine.profile,
        mine.source,
        mine.id,
        mine.recipient,
    )


def _existing(met: "_Met", one: Letter, holder: Holder) -> Existing:
    if isinstance(met, _Fresh):
        held, first = met.claimed, met.claimed.letter
        return Existing(
            one,
            held.row,
            State.CLAIMED,
            met.generation,
            True,
            first.digest == one.digest,
            held.received,
            0,
            0,
            0,
        )
    return Existing(
        letter=one,
        row=met.row,
        state=State(met.state),
        generation=met.generation,
        living=met.generation == holder.generation,
        same_payload=bytes(met.digest) == one.digest,
        received=moment(met.received_at),
        answers=met.answers,
        tries=met.tries,
        doubts=met.doubts,
    )


def take_over(
    connection: Connection, rows: Sequence[Existing], holder: Holder, now: datetime
) -> list[Claimed | None]:
    """Claim each row that is still as it was met."""
    at = stamp(now)
    taken: list[Claimed | None] = []
    for row in rows:
        doubt = int(row.state is State.DOTTING)
        done = connection.execute(
            _TAKE,
            {
                "r": row.row,
                "s": row.state.value,
                "g": row.generation,
                "mine": holder.generation,
                "doubt": doubt,
                "now": at,
            },
        )
        if done.rowcount != 1:
            taken.append(None)
            continue
        if doubt:
            note = {"row": row.row, "generation": row.generation, "at": at, "result": "in_doubt"}
            connection.execute(
                _INSERT_ATTEMPT, note | {"text": "the worker died after the dot may have left"}
            )
        taken.append(
            Claimed(
                row.letter, row.row, row.received, row.answers, row.tries, row.doubts + doubt, bool(doubt)
            )
        )
    return taken


def fence(
    connection: Connection, claimed: Sequence[Claimed], holder: Holder, now: datetime
) -> Collection[Claimed]:
    """Mark `dotting` what is still ours; the letters it returns may be sent once the commit is durable."""
    at = stamp(now)
    done = connection.execute(_FENCE, [{"r": one.row, "g": holder.generation, "now": at} for one in claimed])
    if done.rowcount == len(claimed):
        return claimed
    mine = connection.execute(
        _MINE,
        {"rows": [one.row for one in claimed], "g": holder.generation, "s": State.DOTTING.value},
    )
    rows = {row.row for row in mine}
    return [one for one in claimed if one.row in rows]


def _letter_row(one: Claimed, holder: Holder, at: float) -> dict[str, Any]:
    carried, event, record = one.letter, one.letter.event, one.letter.record
    return {
        "row": one.row,
        "profile": carried.identity.profile,
        "source": carried.identity.source,
        "event_id": carried.identity.id,
        "recipient": carried.identity.recipient,
        "event_type": event.type,
        "digest": carried.digest,
        "state": State.CLAIMED.value,
        "generation": holder.generation,
        "template": carried.template,
        "revision": carried.revision,
        "message_id": carried.message_id,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "user_id": event.user_id,
        "request_id": event.request_id,
        "metadata": json.dumps(dict(event.metadata)) if event.metadata else None,
        "received_at": at,
        "updated_at": at,
    }
