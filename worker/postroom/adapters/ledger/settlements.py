"""Settlements, returns and the retry queue: the statements that end or postpone an attempt.

Each function runs inside a group's transaction. A row that is no longer the claim's keeps its state; what
the relay said is kept all the same, as an attempt.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import String, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import leases, notices, reports, suppressions
from postroom.adapters.ledger.deadletters import outbox_row
from postroom.adapters.ledger.fates import fate_of, fate_of_row, is_news
from postroom.adapters.ledger.holder import Holder
from postroom.adapters.ledger.mine import ours
from postroom.adapters.ledger.reports import Scene
from postroom.adapters.ledger.rows import legible, moment, stamp
from postroom.adapters.ledger.schema import attempt, letter, outbox
from postroom.adapters.ledger.strays import DEATH
from postroom.letter.event import pack_record, unpack_record
from postroom.letter.identity import Identity
from postroom.letter.problems import Code
from postroom.ports.ledger import Attempt, Claimed, DeadLetter, Recalled, Settlement, State
from postroom.ports.suppression import Reason

DOUBT = Code.CONNECTION_LOST_AT_END_OF_DATA.value

_ENDED: dict[str, Any] = {
    column: bindparam(column)
    for column in (
        *("state", "answers", "tries", "doubts", "due", "code", "reason", "reply", "template", "revision"),
        *("message_id", "event"),
    )
}
_SETTLE = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.generation == bindparam("g"))
    .values(**_ENDED, updated_at=bindparam("now"))
)
# the doubt that is on the row is about this very attempt, and nobody has sent the letter again since
_RESOLVE = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.state == State.IN_DOUBT.value,
        letter.c.doubts == bindparam("before") + 1,
    )
    .values(**_ENDED, updated_at=bindparam("now"))
)
_STANDING = select(letter.c.row, letter.c.generation).where(
    letter.c.row.in_(bindparam("rows", expanding=True))
)
_ATTEMPT = insert(attempt)
_BURY = insert_or_ignore(outbox).on_conflict_do_nothing()

_RELEASE = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.generation == bindparam("g"))
    .values(state=State.CLAIMED.value, generation=0)
)

_DUE = (
    select(letter)
    .where(
        letter.c.due <= bindparam("now"),
        letter.c.state.in_([State.DEFERRED.value, State.SCHEDULED.value]),
    )
    .order_by(letter.c.due)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)  # workers share the queue: what one is taking, another passes over
)
# a condition of its own, and none where the ledger has one profile: an index serves no "or"
_DUE_OF_PROFILE = _DUE.where(letter.c.profile == bindparam("profile", type_=String))
_RECALL = (
    update(letter)
    .where(letter.c.row == bindparam("r"))
    .values(state=State.CLAIMED.value, generation=bindparam("g"), due=None, updated_at=bindparam("now"))
)


def settle(connection: Connection, settlements: Sequence[Settlement], holder: Holder, now: datetime) -> int:
    """End attempts; returns how many came too late to change their row."""
    at = stamp(now)
    done = connection.execute(_SETTLE, [_row(one, at) for one in settlements])
    notes = [_note(one, at) for one in settlements if one.attempt]
    if notes:
        connection.execute(_ATTEMPT, notes)
    late = _late(connection, settlements, at) if done.rowcount < len(settlements) else ()
    # what somebody else is sending by now is not dead
    ended = [one.dead_letter for one in settlements if one.dead_letter and one.claimed not in late]
    bury(connection, ended, holder)
    suppressions.add(connection, [one.suppress for one in settlements if one.suppress])
    if holder.heralds:
        news = [one for one in settlements if one.claimed not in late and is_news(one)]
        notices.put(connection, holder, [fate_of(one, now) for one in news])
    return len(late)


def _late(connection: Connection, settlements: Sequence[Settlement], at: float) -> Collection[Claimed]:
    """Those whose row is somebody else's, after the answers among them have resolved what is in doubt."""
    rows = [one.claimed.row for one in settlements]
    standing = {row.row: row.generation for row in connection.execute(_STANDING, {"rows": rows})}
    late = [one for one in settlements if standing.get(one.claimed.row) != one.claimed.generation]
    return {one.claimed for one in late if not _resolves(connection, one, at)}


def _resolves(connection: Connection, one: Settlement, at: float) -> bool:
    if one.attempt is None or not one.attempt.code:
        return False
    return connection.execute(_RESOLVE, _row(one, at) | {"before": one.claimed.doubts}).rowcount == 1


def bury(connection: Connection, dead_letters: Sequence[DeadLetter], holder: Holder) -> None:
    """Put dead letters into the outbox, once each; end what a dead process had made of these records."""
    if dead_letters:
        mine = {"generation": holder.generation}
        connection.execute(_BURY, [outbox_row(one) | mine for one in dead_letters])
        fates = holder.strays.end(connection, dead_letters, holder.generation)
        notices.put(connection, holder, fates)


def release(connection: Connection, claimed: Sequence[Claimed]) -> None:
    """Let go of rows whose content never left: generation 0 is nobody's."""
    if not claimed:
        return
    connection.execute(_RELEASE, [{"r": one.row, "g": one.generation} for one in claimed])


def due(connection: Connection, holder: Holder, now: datetime, limit: int) -> list[Recalled]:
    """Claim the letters whose time has come, longest due first."""
    at, mine = stamp(now), holder.generation
    # what is recalled under a lease that ended would be nobody's for ever
    if not leases.hold(connection, mine):
        return []
    wanted = {"now": at, "limit": limit}
    if holder.profile is None:
        rows = connection.execute(_DUE, wanted).all()
    else:
        rows = connection.execute(_DUE_OF_PROFILE, wanted | {"profile": holder.profile}).all()
    if rows:
        connection.execute(_RECALL, [{"r": row.row, "g": mine, "now": at} for row in rows])
    identities = [Identity(row.profile, row.source, row.event_id, row.recipient) for row in rows]
    barred = suppressions.barred(connection, identities)
    return [_recalled(row, one, mine, barred.get(one, ())) for row, one in zip(rows, identities, strict=True)]


def _recalled(row: Any, identity: Identity, mine: int, barred: Collection[Reason]) -> Recalled:
    return Recalled(
        row=row.row,
        identity=identity,
        event_type=row.event_type,
        record=unpack_record(row.event),
        received=moment(row.received_at),
        answers=row.answers,
        tries=row.tries,
        doubts=row.doubts,
        generation=mine,
        barred=barred,
    )


def recover(connection: Connection, holder: Holder, now: datetime, resend: bool) -> tuple[int, int]:
    """Dead workers' recalled letters (the event is in the row): due again, or in doubt.

    Returns how many became due and how many are in doubt. Letters that came from the topic need nothing:
    their offsets were never committed, so they come again and are met by their claim.
    """
    dead = leases.clear(connection, holder.generation, holder.kin)
    if not dead:
        return 0, 0
    at = stamp(now)
    left = letter.c.generation.in_(dead) & letter.c.event.is_not(None)
    doubtful = left & (letter.c.state == State.DOTTING.value)
    rows = connection.execute(select(letter).where(doubtful)).all()
    if rows:
        note = {"at": at, "result": "in_doubt", "text": DEATH}
        connection.execute(_ATTEMPT, [note | {"row": row.row, "generation": row.generation} for row in rows])
        after = State.DEFERRED if resend else State.IN_DOUBT
        connection.execute(
            update(letter)
            .where(doubtful)
            .values(
                state=after.value,
                due=at if resend else None,
                doubts=letter.c.doubts + 1,
                code=DOUBT,
                updated_at=at,
            )
        )
        notices.put(connection, holder, [fate_of_row(row, after, DOUBT, at) for row in rows])
    recalled = connection.execute(
        update(letter)
        .where(left, letter.c.state == State.CLAIMED.value)
        .values(state=State.DEFERRED.value, due=at, updated_at=at)
    )
    # what came back about them meanwhile says that the relay has them: they are not tried again
    reports.sweep(Scene(connection, lambda _: holder.heralds, at, holder.kin), ours(holder.profile))
    return recalled.rowcount, len(rows)


def _row(one: Settlement, at: float) -> dict[str, Any]:
    carried = one.claimed.letter
    return {
        "r": one.claimed.row,
        "g": one.claimed.generation,
        "state": one.state.value,
        "answers": one.answers,
        "tries": one.tries,
        "doubts": one.doubts,
        "due": stamp(one.due) if one.due else None,
        "code": one.problem.code.value if one.problem else None,
        "reason": legible(str(one.problem)) if one.problem else None,
        "reply": _reply(one.attempt),
        "template": carried.template,
        "revision": carried.revision,
        "message_id": carried.message_id,
        "event": pack_record(carried.record) if one.keeps_event else None,
        "now": at,
    }


def _reply(attempt: Attempt | None) -> str | None:
    return legible(f"{attempt.code} {attempt.text}") if attempt and attempt.code else None


def _note(one: Settlement, at: float) -> dict[str, Any]:
    assert one.attempt is not None
    return {
        "row": one.claimed.row,
        "generation": one.claimed.generation,
        "at": at,
        "result": one.attempt.result,
        "stage": one.attempt.stage,
        "code": one.attempt.code,
        "text": legible(one.attempt.text),
        "revision": one.claimed.letter.revision,
        "relay": one.attempt.relay or None,
    }
