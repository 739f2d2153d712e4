"""Claims and fences: the statements that say who may send a letter.

Each function runs inside a group's transaction. In: letters, or claimed letters. Out: a fresh claim or the
row that was met, or those that the fence let through.

Replays: records that a person published again, each of which counts once.

Each function runs inside a group's transaction. In: letters whose record is a replay. Out: which of these
replays were taken now for the first time; a letter that is opened again by one.

Settlements, returns and the retry queue: the statements that end or postpone an attempt.

Each function runs inside a group's transaction. A row that is no longer the claim's keeps its state; what
the relay said is kept all the same, as an attempt.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import String, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import dedupe, leases, outbox, reports, suppressions
from postroom.adapters.ledger.dedupe import IdentityLookup, KnownLetter
from postroom.adapters.ledger.orphans import WORKER_DIED
from postroom.adapters.ledger.outbox import dead_letter_row
from postroom.adapters.ledger.reports import ReportContext
from postroom.adapters.ledger.rows import (
    is_notifiable,
    moment,
    profile_filter,
    stamp,
    storable,
    transition_of_row,
    transition_of_settlement,
)
from postroom.adapters.ledger.schema import attempt, dead_letter_outbox, letter, replay
from postroom.adapters.ledger.writer import WriterIdentity
from postroom.letter.event import pack_record, unpack_record
from postroom.letter.identity import Identity
from postroom.letter.problems import Code
from postroom.ports.ledger import (
    REOPENABLE,
    REPLAY_RETENTION,
    Attempt,
    Claimed,
    DeadLetter,
    ExistingRow,
    Letter,
    Recalled,
    ReplayConsumed,
    Settlement,
    State,
    SuppressionReason,
)

_INSERT_LETTER = insert(letter)
_INSERT_ATTEMPT = insert(attempt)

_TAKE_OVER = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.state == bindparam("s"),
        letter.c.worker_epoch == bindparam("g"),
    )
    .values(
        state=State.CLAIMED.value,
        worker_epoch=bindparam("mine"),
        in_doubt_count=letter.c.in_doubt_count + bindparam("doubt"),
        updated_at=bindparam("now"),
    )
)

_FENCE = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.worker_epoch == bindparam("g"),
        # spelled out: an IN list cannot be used for many rows at once
        or_(letter.c.state == State.CLAIMED.value, letter.c.state == State.SENDING.value),
    )
    .values(state=State.SENDING.value, updated_at=bindparam("now"))
)

_SELECT_FENCED = select(letter.c.row).where(
    letter.c.row.in_(bindparam("rows", expanding=True)),
    letter.c.worker_epoch == bindparam("g"),
    letter.c.state == bindparam("s"),
)


ClaimResult = Claimed | ExistingRow | ReplayConsumed


def claim(
    connection: Connection, letters: Sequence[Letter], writer: WriterIdentity, now: datetime
) -> list[ClaimResult]:
    """Insert what is new; meet what is known. One answer a letter, in order."""
    bucket = writer.buckets.current(connection, stamp(now))
    answers: dict[Letter, ClaimResult] = {}
    search = _ClaimLookup(connection, writer, now, consume_replays(connection, letters, now))
    while missing := [one for one in letters if one not in answers]:
        found, fresh = search.look_up(missing)
        won = (
            dedupe.insert_identities(connection, bucket, {slot: one.row for slot, one in fresh.items()})
            if fresh
            else ()
        )
        if won:
            rows = [_letter_row(one, writer, stamp(now)) for slot, one in fresh.items() if slot in won]
            connection.execute(_INSERT_LETTER, rows)
        # another worker was quicker with these: they are met the next time round
        lost = {one.row for slot, one in fresh.items() if slot not in won}
        answers |= {
            one: it for one, it in found.items() if isinstance(it, ReplayConsumed) or it.row not in lost
        }
    _attach_suppressions(connection, [one for one in answers.values() if isinstance(one, Claimed)])
    return [answers[one] for one in letters]


class _ClaimLookup:
    """What the letters of one call meet."""

    def __init__(
        self, connection: Connection, writer: WriterIdentity, now: datetime, fresh: set[str]
    ) -> None:
        """`fresh`: ids of replays that were taken by this very call; each opens one letter again."""
        self._connection, self._writer, self._now = connection, writer, now
        self._replays = fresh
        self._workers = _LiveWorkers(connection, writer.worker_epoch)

    def look_up(self, letters: Sequence[Letter]) -> tuple[dict[Letter, ClaimResult], dict[int, Claimed]]:
        """What each letter meets; where it meets nobody, a claim for the slot that it needs."""
        known, mine, at = self._writer.buckets.known, self._writer.worker_epoch, stamp(self._now)
        lookup = IdentityLookup(self._connection, known, [one.identity.hash64() for one in letters])
        found: dict[Letter, ClaimResult] = {}
        fresh: dict[int, Claimed] = {}
        for one in letters:
            met, slot = lookup.find(one.identity)
            if met is not None:
                found[one] = self._meet(lookup, met, slot, one)
            elif one.replay and one.replay not in self._replays:
                found[one] = ReplayConsumed(one)
            else:
                claimed = Claimed(one, self._writer.row_keys.next(at), self._now, worker_epoch=mine)
                lookup.add(
                    slot, KnownLetter(one.identity, one.digest, claimed.row, State.CLAIMED, mine, self._now)
                )
                found[one] = fresh[slot] = claimed
        return found, fresh

    def _meet(self, lookup: IdentityLookup, met: KnownLetter, slot: int, one: Letter) -> ClaimResult:
        opens = one.replay in self._replays and met.state in REOPENABLE and met.digest == one.digest
        if opens and not met.erased:
            self._replays.discard(one.replay)
            if again := reopen_letter(self._connection, met, one, self._writer.worker_epoch, self._now):
                lookup.replace(slot, met, as_reopened(met, self._writer.worker_epoch))
                return again
        return _existing_row(met, one, self._workers)


def _attach_suppressions(connection: Connection, claimed: Sequence[Claimed]) -> None:
    """Note on fresh claims what the suppression list says of their recipients."""
    reasons = suppressions.suppression_reasons(connection, [one.letter.identity for one in claimed])
    for one in claimed if reasons else ():
        one.suppressions = reasons.get(one.letter.identity, ())


class _LiveWorkers:
    """Which generations live; asked of the database only where a letter in hand is another's."""

    def __init__(self, connection: Connection, mine: int) -> None:
        self._connection = connection
        self._mine = mine
        self._others: set[int] | None = None

    def has(self, met: KnownLetter) -> bool:
        """Whether the holder of this row lives."""
        if met.worker_epoch == self._mine:
            return True
        if met.state not in (State.CLAIMED, State.SENDING) or not met.worker_epoch:
            return False
        if self._others is None:
            self._others = leases.live_epochs(self._connection)
        return met.worker_epoch in self._others


def _existing_row(met: KnownLetter, one: Letter, workers: _LiveWorkers) -> ExistingRow:
    return ExistingRow(
        letter=one,
        row=met.row,
        state=met.state,
        worker_epoch=met.worker_epoch,
        owner_alive=workers.has(met),
        same_payload=met.digest == one.digest,
        received=met.received,
        replies=met.replies,
        attempts=met.attempts,
        in_doubt_count=met.in_doubt_count,
    )


def take_over(
    connection: Connection, rows: Sequence[ExistingRow], writer: WriterIdentity, now: datetime
) -> list[Claimed | None]:
    """Claim each row that is still as it was met and whose holder is dead."""
    free = _claimable_epochs(connection, rows, writer)
    at = stamp(now)
    # what a report says the relay has is nobody's to send: it changes here, and is met as it is then
    context = ReportContext(connection, lambda _: writer.notification_rules, at, writer.profile_workers)
    reports.apply_for_dead_workers(context, [row.row for row in rows if row.state is State.SENDING], free)
    taken = [
        _take_over_row(connection, row, writer, at) if row.worker_epoch in free else None for row in rows
    ]
    _attach_suppressions(connection, [one for one in taken if one is not None])
    return taken


def _claimable_epochs(
    connection: Connection, rows: Sequence[ExistingRow], writer: WriterIdentity
) -> set[int]:
    """The generations among these that may be taken from, if this worker may take at all."""
    wanted = {row.worker_epoch for row in rows}
    if not wanted or not leases.lock_lease(connection, writer.worker_epoch):
        return set()
    # its own letters are its own to take: it asks only for those it let go of
    return leases.declare_dead(connection, wanted - {writer.worker_epoch}) | {writer.worker_epoch}


def _take_over_row(
    connection: Connection, row: ExistingRow, writer: WriterIdentity, at: float
) -> Claimed | None:
    doubt = int(row.state is State.SENDING)
    mine = writer.worker_epoch
    done = connection.execute(
        _TAKE_OVER,
        {"r": row.row, "s": row.state.value, "g": row.worker_epoch, "mine": mine, "doubt": doubt, "now": at},
    )
    if done.rowcount != 1:
        return None
    if doubt:
        note = {"row": row.row, "worker_epoch": row.worker_epoch, "at": at, "result": "in_doubt"}
        connection.execute(_INSERT_ATTEMPT, note | {"text": WORKER_DIED})
    return Claimed(
        row.letter,
        row.row,
        row.received,
        row.replies,
        row.attempts,
        row.in_doubt_count + doubt,
        was_sending=bool(doubt),
        worker_epoch=mine,
    )


def fence(
    connection: Connection, claimed: Sequence[Claimed], writer: WriterIdentity, now: datetime
) -> Collection[Claimed]:
    """Mark `sending` what is still ours; the letters it returns may be sent once the commit is durable."""
    at, mine = stamp(now), writer.worker_epoch
    ours = [one for one in claimed if one.worker_epoch == mine]
    if not ours:
        return ()
    done = connection.execute(_FENCE, [{"r": one.row, "g": mine, "now": at} for one in ours])
    if done.rowcount == len(claimed):
        return claimed
    found = connection.execute(
        _SELECT_FENCED, {"rows": [one.row for one in ours], "g": mine, "s": State.SENDING.value}
    )
    rows = {row.row for row in found}
    return [one for one in ours if one.row in rows]


def _letter_row(one: Claimed, writer: WriterIdentity, at: float) -> dict[str, Any]:
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
        "worker_epoch": writer.worker_epoch,
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


_CONSUME = insert_or_ignore(replay).on_conflict_do_nothing().returning(replay.c.id)
_SELECT_CONSUMED = select(replay.c.id).where(replay.c.id.in_(bindparam("ids", expanding=True)))
_REOPEN = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.state.in_([state.value for state in REOPENABLE]))
    .values(
        {
            "state": State.CLAIMED.value,
            "worker_epoch": bindparam("mine"),
            "replies": 0,
            "attempts": 0,
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
_ADD_REOPENED = insert(attempt)


def consume_replays(connection: Connection, letters: Sequence[Letter], now: datetime) -> set[str]:
    """Put the ids of these letters' replays on record; returns those that were not there."""
    digests = {_replay_digest(one.replay): one.replay for one in letters if one.replay}
    if not digests:
        return set()
    ids = sorted(digests)  # in one order, so that two workers never wait for each other
    known = set(connection.execute(_SELECT_CONSUMED, {"ids": ids}).scalars())
    fresh = set[str]()
    for each in ids:
        # one by one: of two workers that take the same one, the second waits for the first and then has none
        if each not in known and connection.execute(_CONSUME, {"id": each, "at": stamp(now)}).first():
            fresh.add(digests[each])
    return fresh


def reopen_letter(
    connection: Connection, met: KnownLetter, one: Letter, mine: int, now: datetime
) -> Claimed | None:
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
    note = {"row": met.row, "worker_epoch": mine, "at": stamp(now), "result": "reopened"}
    connection.execute(_ADD_REOPENED, note | {"text": storable(f"replay {one.replay}")})
    return Claimed(one, met.row, moment(stamp(now)), in_doubt_count=met.in_doubt_count, worker_epoch=mine)


def as_reopened(met: KnownLetter, mine: int) -> KnownLetter:
    """What the next letter meets where one was opened again."""
    return replace(met, state=State.CLAIMED, worker_epoch=mine)


def delete_old_replays(connection: Connection, now: float) -> None:
    """Forget the ids of long ago."""
    connection.execute(delete(replay).where(replay.c.at < now - REPLAY_RETENTION.total_seconds()))


def _replay_digest(id_: str) -> str:
    return blake2b(id_.encode(errors="replace"), digest_size=16, person=b"replay").hexdigest()


IN_DOUBT_CODE = Code.CONNECTION_LOST_AT_END_OF_DATA.value

_SETTLED_COLUMNS: dict[str, Any] = {
    column: bindparam(column)
    for column in (
        *(
            "state",
            "replies",
            "attempts",
            "in_doubt_count",
            "due",
            "code",
            "reason",
            "reply",
            "template",
            "revision",
        ),
        *("message_id", "event"),
    )
}
_SETTLE = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.worker_epoch == bindparam("g"))
    .values(**_SETTLED_COLUMNS, updated_at=bindparam("now"))
)
# the doubt that is on the row is about this very attempt, and nobody has sent the letter again since
_RESOLVE_DOUBT = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.state == State.IN_DOUBT.value,
        letter.c.in_doubt_count == bindparam("before") + 1,
    )
    .values(**_SETTLED_COLUMNS, updated_at=bindparam("now"))
)
_SELECT_OWNERS = select(letter.c.row, letter.c.worker_epoch).where(
    letter.c.row.in_(bindparam("rows", expanding=True))
)
_ADD_ATTEMPT = insert(attempt)
_ADD_DEAD_LETTER = insert_or_ignore(dead_letter_outbox).on_conflict_do_nothing()

_RELEASE = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.worker_epoch == bindparam("g"))
    .values(state=State.CLAIMED.value, worker_epoch=0)
)

_SELECT_DUE = (
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
_SELECT_DUE_OF_PROFILE = _SELECT_DUE.where(letter.c.profile == bindparam("profile", type_=String))
_RECALL = (
    update(letter)
    .where(letter.c.row == bindparam("r"))
    .values(state=State.CLAIMED.value, worker_epoch=bindparam("g"), due=None, updated_at=bindparam("now"))
)


def settle(
    connection: Connection, settlements: Sequence[Settlement], writer: WriterIdentity, now: datetime
) -> int:
    """End attempts; returns how many came too late to change their row."""
    at = stamp(now)
    done = connection.execute(_SETTLE, [_settled_values(one, at) for one in settlements])
    notes = [_attempt_row(one, at) for one in settlements if one.attempt]
    if notes:
        connection.execute(_ADD_ATTEMPT, notes)
    late = _late(connection, settlements, at) if done.rowcount < len(settlements) else ()
    # what somebody else is sending by now is not dead
    ended = [one.dead_letter for one in settlements if one.dead_letter and one.claimed not in late]
    add_dead_letters(connection, ended, writer)
    suppressions.add_suppressions(connection, [one.suppress for one in settlements if one.suppress])
    if writer.notification_rules:
        news = [one for one in settlements if one.claimed not in late and is_notifiable(one)]
        outbox.add_notifications(connection, writer, [transition_of_settlement(one, now) for one in news])
    return len(late)


def _late(connection: Connection, settlements: Sequence[Settlement], at: float) -> Collection[Claimed]:
    """Those whose row is somebody else's, after the answers among them have resolved what is in doubt."""
    rows = [one.claimed.row for one in settlements]
    standing = {row.row: row.worker_epoch for row in connection.execute(_SELECT_OWNERS, {"rows": rows})}
    late = [one for one in settlements if standing.get(one.claimed.row) != one.claimed.worker_epoch]
    return {one.claimed for one in late if not _resolves_doubt(connection, one, at)}


def _resolves_doubt(connection: Connection, one: Settlement, at: float) -> bool:
    if one.attempt is None or not one.attempt.code:
        return False
    return (
        connection.execute(
            _RESOLVE_DOUBT, _settled_values(one, at) | {"before": one.claimed.in_doubt_count}
        ).rowcount
        == 1
    )


def add_dead_letters(
    connection: Connection, dead_letters: Sequence[DeadLetter], writer: WriterIdentity
) -> None:
    """Put dead letters into the outbox, once each; end what a dead process had made of these records."""
    if dead_letters:
        mine = {"worker_epoch": writer.worker_epoch}
        connection.execute(_ADD_DEAD_LETTER, [dead_letter_row(one) | mine for one in dead_letters])
        fates = writer.orphans.end(connection, dead_letters, writer.worker_epoch)
        outbox.add_notifications(connection, writer, fates)


def release(connection: Connection, claimed: Sequence[Claimed]) -> None:
    """Let go of rows whose content never left: worker_epoch 0 is nobody's."""
    if not claimed:
        return
    connection.execute(_RELEASE, [{"r": one.row, "g": one.worker_epoch} for one in claimed])


def claim_due(connection: Connection, writer: WriterIdentity, now: datetime, limit: int) -> list[Recalled]:
    """Claim the letters whose time has come, longest due first."""
    at, mine = stamp(now), writer.worker_epoch
    # what is recalled under a lease that ended would be nobody's for ever
    if not leases.lock_lease(connection, mine):
        return []
    wanted = {"now": at, "limit": limit}
    if writer.profile is None:
        rows = connection.execute(_SELECT_DUE, wanted).all()
    else:
        rows = connection.execute(_SELECT_DUE_OF_PROFILE, wanted | {"profile": writer.profile}).all()
    if rows:
        connection.execute(_RECALL, [{"r": row.row, "g": mine, "now": at} for row in rows])
    identities = [Identity(row.profile, row.source, row.event_id, row.recipient) for row in rows]
    reasons = suppressions.suppression_reasons(connection, identities)
    return [
        _recalled(row, one, mine, reasons.get(one, ())) for row, one in zip(rows, identities, strict=True)
    ]


def _recalled(
    row: Any, identity: Identity, mine: int, suppressions: Collection[SuppressionReason]
) -> Recalled:
    return Recalled(
        row=row.row,
        identity=identity,
        event_type=row.event_type,
        record=unpack_record(row.event),
        received=moment(row.received_at),
        replies=row.replies,
        attempts=row.attempts,
        in_doubt_count=row.in_doubt_count,
        worker_epoch=mine,
        suppressions=suppressions,
    )


def recover(connection: Connection, writer: WriterIdentity, now: datetime, resend: bool) -> tuple[int, int]:
    """Dead workers' recalled letters (the event is in the row): due again, or in doubt.

    Returns how many became due and how many are in doubt. Letters that came from the topic need nothing:
    their offsets were never committed, so they come again and are met by their claim.
    """
    dead = leases.claim_recovery(connection, writer.worker_epoch, writer.profile_workers)
    if not dead:
        return 0, 0
    at = stamp(now)
    left = letter.c.worker_epoch.in_(dead) & letter.c.event.is_not(None)
    doubtful = left & (letter.c.state == State.SENDING.value)
    rows = connection.execute(select(letter).where(doubtful)).all()
    if rows:
        note = {"at": at, "result": "in_doubt", "text": WORKER_DIED}
        connection.execute(
            _ADD_ATTEMPT, [note | {"row": row.row, "worker_epoch": row.worker_epoch} for row in rows]
        )
        after = State.DEFERRED if resend else State.IN_DOUBT
        connection.execute(
            update(letter)
            .where(doubtful)
            .values(
                state=after.value,
                due=at if resend else None,
                in_doubt_count=letter.c.in_doubt_count + 1,
                code=IN_DOUBT_CODE,
                updated_at=at,
            )
        )
        outbox.add_notifications(
            connection, writer, [transition_of_row(row, after, IN_DOUBT_CODE, at) for row in rows]
        )
    recalled = connection.execute(
        update(letter)
        .where(left, letter.c.state == State.CLAIMED.value)
        .values(state=State.DEFERRED.value, due=at, updated_at=at)
    )
    # what came back about them meanwhile says that the relay has them: they are not tried again
    reports.apply_pending(
        ReportContext(connection, lambda _: writer.notification_rules, at, writer.profile_workers),
        profile_filter(writer.profile),
    )
    return recalled.rowcount, len(rows)


def _settled_values(one: Settlement, at: float) -> dict[str, Any]:
    carried = one.claimed.letter
    return {
        "r": one.claimed.row,
        "g": one.claimed.worker_epoch,
        "state": one.state.value,
        "replies": one.replies,
        "attempts": one.attempts,
        "in_doubt_count": one.in_doubt_count,
        "due": stamp(one.due) if one.due else None,
        "code": one.problem.code.value if one.problem else None,
        "reason": storable(str(one.problem)) if one.problem else None,
        "reply": _reply(one.attempt),
        "template": carried.template,
        "revision": carried.revision,
        "message_id": carried.message_id,
        "event": pack_record(carried.record) if one.keeps_event else None,
        "now": at,
    }


def _reply(attempt: Attempt | None) -> str | None:
    return storable(f"{attempt.code} {attempt.text}") if attempt and attempt.code else None


def _attempt_row(one: Settlement, at: float) -> dict[str, Any]:
    assert one.attempt is not None
    return {
        "row": one.claimed.row,
        "worker_epoch": one.claimed.worker_epoch,
        "at": at,
        "result": one.attempt.result,
        "stage": one.attempt.stage,
        "code": one.attempt.code,
        "text": storable(one.attempt.text),
        "revision": one.claimed.letter.revision,
        "relay": one.attempt.relay or None,
    }
