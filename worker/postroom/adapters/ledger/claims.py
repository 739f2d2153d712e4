"""Claims and fences: the statements that say who may send a letter.

Each function runs inside a group's transaction. In: letters, or claimed letters. Out: a fresh claim or the
row that was met, or those that the fence let through.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import identities
from postroom.adapters.ledger.identities import Known, Lookup
from postroom.adapters.ledger.rows import RowKeys, stamp
from postroom.adapters.ledger.schema import attempt, letter
from postroom.adapters.ledger.strays import DEATH, Strays
from postroom.ports.ledger import Claimed, Existing, Letter, State

_INSERT_LETTER = insert(letter)
_INSERT_ATTEMPT = insert(attempt)

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
    """This process as the ledger knows it: its generation, its row keys, where identities are."""

    generation: int
    keys: RowKeys
    window: float
    """Seconds that ended letters are remembered (dedupe.window)."""
    buckets: set[int]
    """The buckets that may hold identities. Claims add to it; it is read anew when letters are forgotten."""
    strays: Strays
    """What earlier processes had in hand when this one began."""


def claim(
    connection: Connection, letters: Sequence[Letter], holder: Holder, now: datetime
) -> list[Claimed | Existing]:
    """Insert what is new; meet what is known. One answer a letter, in order."""
    at = stamp(now)
    lookup = Lookup(connection, holder.buckets, [one.identity.hash64() for one in letters])
    answers: list[Claimed | Existing] = []
    fresh: list[tuple[Claimed, int]] = []
    for one in letters:
        met, slot = lookup.meet(one.identity)
        if met is not None:
            answers.append(_existing(met, one, holder))
            continue
        claimed = Claimed(one, holder.keys.next(at), now)
        lookup.add(slot, Known(one.identity, one.digest, claimed.row, State.CLAIMED, holder.generation, now))
        fresh.append((claimed, slot))
        answers.append(claimed)
    if fresh:
        connection.execute(_INSERT_LETTER, [_letter_row(one, holder, at) for one, _ in fresh])
        bucket = identities.bucket_of(at)
        identities.put(connection, bucket, [(slot, one.row) for one, slot in fresh])
        holder.buckets.add(bucket)
    return answers


def _existing(met: Known, one: Letter, holder: Holder) -> Existing:
    return Existing(
        letter=one,
        row=met.row,
        state=met.state,
        generation=met.generation,
        living=met.generation == holder.generation,
        same_payload=met.digest == one.digest,
        received=met.received,
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
            connection.execute(_INSERT_ATTEMPT, note | {"text": DEATH})
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
