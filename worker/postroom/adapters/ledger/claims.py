"""Claims and fences: the statements that say who may send a letter.

Each function runs inside a group's transaction. In: letters, or claimed letters. Out: a fresh claim or the
row that was met, or those that the fence let through.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import identities, leases, replays, reports, suppressions
from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.identities import Known, Lookup
from postroom.adapters.ledger.reports import Scene
from postroom.adapters.ledger.rows import stamp
from postroom.adapters.ledger.schema import attempt, letter
from postroom.adapters.ledger.strays import DEATH
from postroom.ports.ledger import REOPENS, Claimed, Existing, Letter, Spent, State

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


Answer = Claimed | Existing | Spent


def claim(connection: Connection, letters: Sequence[Letter], holder: Holder, now: datetime) -> list[Answer]:
    """Insert what is new; meet what is known. One answer a letter, in order."""
    bucket = holder.buckets.current(connection, stamp(now))
    answers: dict[Letter, Answer] = {}
    search = _Search(connection, holder, now, replays.take(connection, letters, now))
    while missing := [one for one in letters if one not in answers]:
        found, fresh = search.look_up(missing)
        won = (
            identities.put(connection, bucket, {slot: one.row for slot, one in fresh.items()})
            if fresh
            else ()
        )
        if won:
            rows = [_letter_row(one, holder, stamp(now)) for slot, one in fresh.items() if slot in won]
            connection.execute(_INSERT_LETTER, rows)
        # another worker was quicker with these: they are met the next time round
        lost = {one.row for slot, one in fresh.items() if slot not in won}
        answers |= {one: it for one, it in found.items() if isinstance(it, Spent) or it.row not in lost}
    _bar(connection, [one for one in answers.values() if isinstance(one, Claimed)])
    return [answers[one] for one in letters]


class _Search:
    """What the letters of one call meet."""

    def __init__(self, connection: Connection, holder: Holder, now: datetime, fresh: set[str]) -> None:
        """`fresh`: ids of replays that were taken by this very call; each opens one letter again."""
        self._connection, self._holder, self._now = connection, holder, now
        self._replays = fresh
        self._living = _Living(connection, holder.generation)

    def look_up(self, letters: Sequence[Letter]) -> tuple[dict[Letter, Answer], dict[int, Claimed]]:
        """What each letter meets; where it meets nobody, a claim for the slot that it needs."""
        known, mine, at = self._holder.buckets.known, self._holder.generation, stamp(self._now)
        lookup = Lookup(self._connection, known, [one.identity.hash64() for one in letters])
        found: dict[Letter, Answer] = {}
        fresh: dict[int, Claimed] = {}
        for one in letters:
            met, slot = lookup.meet(one.identity)
            if met is not None:
                found[one] = self._meet(lookup, met, slot, one)
            elif one.replay and one.replay not in self._replays:
                found[one] = Spent(one)
            else:
                claimed = Claimed(one, self._holder.keys.next(at), self._now, generation=mine)
                lookup.add(slot, Known(one.identity, one.digest, claimed.row, State.CLAIMED, mine, self._now))
                found[one] = fresh[slot] = claimed
        return found, fresh

    def _meet(self, lookup: Lookup, met: Known, slot: int, one: Letter) -> Answer:
        opens = one.replay in self._replays and met.state in REOPENS and met.digest == one.digest
        if opens and not met.erased:
            self._replays.discard(one.replay)
            if again := replays.reopen(self._connection, met, one, self._holder.generation, self._now):
                lookup.replace(slot, met, replays.taken_over(met, self._holder.generation))
                return again
        return _existing(met, one, self._living)


def _bar(connection: Connection, claimed: Sequence[Claimed]) -> None:
    """Note on fresh claims what the suppression list says of their recipients."""
    barred = suppressions.barred(connection, [one.letter.identity for one in claimed])
    for one in claimed if barred else ():
        one.barred = barred.get(one.letter.identity, ())


class _Living:
    """Which generations live; asked of the database only where a letter in hand is another's."""

    def __init__(self, connection: Connection, mine: int) -> None:
        self._connection = connection
        self._mine = mine
        self._others: set[int] | None = None

    def has(self, met: Known) -> bool:
        """Whether the holder of this row lives."""
        if met.generation == self._mine:
            return True
        if met.state not in (State.CLAIMED, State.DOTTING) or not met.generation:
            return False
        if self._others is None:
            self._others = leases.living(self._connection)
        return met.generation in self._others


def _existing(met: Known, one: Letter, living: _Living) -> Existing:
    return Existing(
        letter=one,
        row=met.row,
        state=met.state,
        generation=met.generation,
        living=living.has(met),
        same_payload=met.digest == one.digest,
        received=met.received,
        answers=met.answers,
        tries=met.tries,
        doubts=met.doubts,
    )


def take_over(
    connection: Connection, rows: Sequence[Existing], holder: Holder, now: datetime
) -> list[Claimed | None]:
    """Claim each row that is still as it was met and whose holder is dead."""
    free = _free(connection, rows, holder)
    at = stamp(now)
    # what a report says the relay has is nobody's to send: it changes here, and is met as it is then
    scene = Scene(connection, lambda _: holder.heralds, at, holder.kin)
    reports.resolve(scene, [row.row for row in rows if row.state is State.DOTTING], free)
    taken = [_take(connection, row, holder, at) if row.generation in free else None for row in rows]
    _bar(connection, [one for one in taken if one is not None])
    return taken


def _free(connection: Connection, rows: Sequence[Existing], holder: Holder) -> set[int]:
    """The generations among these that may be taken from, if this worker may take at all."""
    wanted = {row.generation for row in rows}
    if not wanted or not leases.hold(connection, holder.generation):
        return set()
    # its own letters are its own to take: it asks only for those it let go of
    return leases.declare_dead(connection, wanted - {holder.generation}) | {holder.generation}


def _take(connection: Connection, row: Existing, holder: Holder, at: float) -> Claimed | None:
    doubt = int(row.state is State.DOTTING)
    mine = holder.generation
    done = connection.execute(
        _TAKE,
        {"r": row.row, "s": row.state.value, "g": row.generation, "mine": mine, "doubt": doubt, "now": at},
    )
    if done.rowcount != 1:
        return None
    if doubt:
        note = {"row": row.row, "generation": row.generation, "at": at, "result": "in_doubt"}
        connection.execute(_INSERT_ATTEMPT, note | {"text": DEATH})
    return Claimed(
        row.letter,
        row.row,
        row.received,
        row.answers,
        row.tries,
        row.doubts + doubt,
        found_dotting=bool(doubt),
        generation=mine,
    )


def fence(
    connection: Connection, claimed: Sequence[Claimed], holder: Holder, now: datetime
) -> Collection[Claimed]:
    """Mark `dotting` what is still ours; the letters it returns may be sent once the commit is durable."""
    at, mine = stamp(now), holder.generation
    ours = [one for one in claimed if one.generation == mine]
    if not ours:
        return ()
    done = connection.execute(_FENCE, [{"r": one.row, "g": mine, "now": at} for one in ours])
    if done.rowcount == len(claimed):
        return claimed
    found = connection.execute(
        _MINE, {"rows": [one.row for one in ours], "g": mine, "s": State.DOTTING.value}
    )
    rows = {row.row for row in found}
    return [one for one in ours if one.row in rows]


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
