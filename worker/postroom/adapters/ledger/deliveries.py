"""The life of a letter's row in SQL: claim, fence, settle, release, recall, recover.

These statements decide which worker may send a letter; `ports.ledger.State` describes the states. Each
function runs inside a transaction of the group commit. In: letters, claims or settlements. Out: a claim or
the existing row for each letter, the claims that passed the fence, the number of late settlements. A row that
the claim does not own any more keeps its state; the relay's reply is recorded as an attempt all the same.

The order of this file: claims and take-overs, the fence, replays, settlements, the retry queue, recovery.
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
        # no IN list: executemany cannot expand one
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
    """Insert rows for new identities; one result for each letter, in order."""
    bucket = writer.buckets.current(connection, stamp(now))
    results: dict[Letter, ClaimResult] = {}
    search = _ClaimLookup(connection, writer, now, consume_replays(connection, letters, now))
    while missing := [item for item in letters if item not in results]:
        found, fresh = search.look_up(missing)
        inserted = (
            dedupe.insert_identities(connection, bucket, {slot: item.row for slot, item in fresh.items()})
            if fresh
            else ()
        )
        if inserted:
            rows = [_letter_row(item, writer, stamp(now)) for slot, item in fresh.items() if slot in inserted]
            connection.execute(_INSERT_LETTER, rows)
        # another worker inserted these identities first: the next round finds its rows
        lost = {item.row for slot, item in fresh.items() if slot not in inserted}
        results |= {
            item: result
            for item, result in found.items()
            if isinstance(result, ReplayConsumed) or result.row not in lost
        }
    _attach_suppressions(connection, [item for item in results.values() if isinstance(item, Claimed)])
    return [results[item] for item in letters]


class _ClaimLookup:
    """Finds the row, or makes the claim, for each letter of one call."""

    def __init__(
        self, connection: Connection, writer: WriterIdentity, now: datetime, fresh: set[str]
    ) -> None:
        """`fresh`: ids of replays that this call consumed; each may reopen one letter."""
        self._connection, self._writer, self._now = connection, writer, now
        self._replays = fresh
        self._workers = _LiveWorkers(connection, writer.worker_epoch)

    def look_up(self, letters: Sequence[Letter]) -> tuple[dict[Letter, ClaimResult], dict[int, Claimed]]:
        """The result for each letter, and the new claims by the identity slot that they need."""
        known, mine, at = self._writer.buckets.known, self._writer.worker_epoch, stamp(self._now)
        lookup = IdentityLookup(self._connection, known, [item.identity.hash64() for item in letters])
        found: dict[Letter, ClaimResult] = {}
        fresh: dict[int, Claimed] = {}
        for item in letters:
            existing, slot = lookup.find(item.identity)
            if existing is not None:
                found[item] = self._result_for(lookup, existing, slot, item)
            elif item.replay and item.replay not in self._replays:
                found[item] = ReplayConsumed(item)
            else:
                claimed = Claimed(item, self._writer.row_keys.next(at), self._now, worker_epoch=mine)
                lookup.add(
                    slot, KnownLetter(item.identity, item.digest, claimed.row, State.CLAIMED, mine, self._now)
                )
                found[item] = fresh[slot] = claimed
        return found, fresh

    def _result_for(
        self, lookup: IdentityLookup, existing: KnownLetter, slot: int, item: Letter
    ) -> ClaimResult:
        opens = (
            item.replay in self._replays and existing.state in REOPENABLE and existing.digest == item.digest
        )
        if opens and not existing.erased:
            self._replays.discard(item.replay)
            if again := reopen_letter(self._connection, existing, item, self._writer.worker_epoch, self._now):
                lookup.replace(slot, existing, as_reopened(existing, self._writer.worker_epoch))
                return again
        return _existing_row(existing, item, self._workers)


def _attach_suppressions(connection: Connection, claimed: Sequence[Claimed]) -> None:
    """Set on each claim why its recipient is on the suppression list."""
    reasons = suppressions.suppression_reasons(connection, [item.letter.identity for item in claimed])
    for item in claimed if reasons else ():
        item.suppressions = reasons.get(item.letter.identity, ())


class _LiveWorkers:
    """Which workers are alive; read only when a row in `claimed` or `sending` has another owner."""

    def __init__(self, connection: Connection, mine: int) -> None:
        self._connection = connection
        self._mine = mine
        self._others: set[int] | None = None

    def has(self, existing: KnownLetter) -> bool:
        """Whether the owner of this row is alive."""
        if existing.worker_epoch == self._mine:
            return True
        if existing.state not in (State.CLAIMED, State.SENDING) or not existing.worker_epoch:
            return False
        if self._others is None:
            self._others = leases.live_epochs(self._connection)
        return existing.worker_epoch in self._others


def _existing_row(existing: KnownLetter, item: Letter, workers: _LiveWorkers) -> ExistingRow:
    return ExistingRow(
        letter=item,
        row=existing.row,
        state=existing.state,
        worker_epoch=existing.worker_epoch,
        owner_alive=workers.has(existing),
        same_payload=existing.digest == item.digest,
        received=existing.received,
        replies=existing.replies,
        attempts=existing.attempts,
        in_doubt_count=existing.in_doubt_count,
    )


def take_over(
    connection: Connection, rows: Sequence[ExistingRow], writer: WriterIdentity, now: datetime
) -> list[Claimed | None]:
    """Claim each row that has not changed since it was read and whose owner is dead."""
    free = _claimable_epochs(connection, rows, writer)
    at = stamp(now)
    # a letter that the relay has, by a report, must not be sent again: its state changes here, and the
    # statement below then finds a changed row
    context = ReportContext(connection, lambda _: writer.notification_rules, at, writer.profile_workers)
    reports.apply_for_dead_workers(context, [row.row for row in rows if row.state is State.SENDING], free)
    taken = [
        _take_over_row(connection, row, writer, at) if row.worker_epoch in free else None for row in rows
    ]
    _attach_suppressions(connection, [claimed for claimed in taken if claimed is not None])
    return taken


def _claimable_epochs(
    connection: Connection, rows: Sequence[ExistingRow], writer: WriterIdentity
) -> set[int]:
    """The epochs whose rows this worker may claim; none when its own epoch is dead."""
    wanted = {row.worker_epoch for row in rows}
    if not wanted or not leases.lock_lease(connection, writer.worker_epoch):
        return set()
    # rows of its own epoch may be claimed: the caller passes only those that it released
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
    """Move to `sending` what this epoch still owns; the result may be sent once the commit is durable."""
    at, mine = stamp(now), writer.worker_epoch
    ours = [claim for claim in claimed if claim.worker_epoch == mine]
    if not ours:
        return ()
    done = connection.execute(_FENCE, [{"r": claim.row, "g": mine, "now": at} for claim in ours])
    if done.rowcount == len(claimed):
        return claimed
    found = connection.execute(
        _SELECT_FENCED, {"rows": [claim.row for claim in ours], "g": mine, "s": State.SENDING.value}
    )
    rows = {row.row for row in found}
    return [claim for claim in ours if claim.row in rows]


def _letter_row(claimed: Claimed, writer: WriterIdentity, at: float) -> dict[str, Any]:
    item, event, record = claimed.letter, claimed.letter.event, claimed.letter.record
    return {
        "row": claimed.row,
        "profile": item.identity.profile,
        "source": item.identity.source,
        "event_id": item.identity.id,
        "recipient": item.identity.recipient,
        "event_type": event.type,
        "digest": item.digest,
        "state": State.CLAIMED.value,
        "worker_epoch": writer.worker_epoch,
        "template": item.template,
        "revision": item.revision,
        "message_id": item.message_id,
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


def consume_replays(connection: Connection, letters: Sequence[Letter], now: datetime) -> set[str]:
    """Record the ids of these letters' replays; returns those that were not recorded before."""
    digests = {_replay_digest(item.replay): item.replay for item in letters if item.replay}
    if not digests:
        return set()
    ids = sorted(digests)  # in one order for all workers, so that they cannot deadlock
    known = set(connection.execute(_SELECT_CONSUMED, {"ids": ids}).scalars())
    new = set[str]()
    for digest in ids:
        # one statement each: a worker that inserts the same id as another waits, and then inserts nothing
        if digest not in known and connection.execute(_CONSUME, {"id": digest, "at": stamp(now)}).first():
            new.add(digests[digest])
    return new


def reopen_letter(
    connection: Connection, existing: KnownLetter, item: Letter, mine: int, now: datetime
) -> Claimed | None:
    """Claim a letter again that ended without reaching a mailbox; None if its state is another by now."""
    record = item.record
    done = connection.execute(
        _REOPEN,
        {
            "r": existing.row,
            "mine": mine,
            "t": record.topic,
            "p": record.partition,
            "o": record.offset,
            "now": stamp(now),
        },
    )
    if done.rowcount != 1:
        return None
    note = {"row": existing.row, "worker_epoch": mine, "at": stamp(now), "result": "reopened"}
    connection.execute(_INSERT_ATTEMPT, note | {"text": storable(f"replay {item.replay}")})
    return Claimed(
        item, existing.row, moment(stamp(now)), in_doubt_count=existing.in_doubt_count, worker_epoch=mine
    )


def as_reopened(existing: KnownLetter, mine: int) -> KnownLetter:
    """The row as the next letter of this call finds it."""
    return replace(existing, state=State.CLAIMED, worker_epoch=mine)


def delete_old_replays(connection: Connection, now: float) -> None:
    """Delete the ids that are older than REPLAY_RETENTION."""
    connection.execute(delete(replay).where(replay.c.at < now - REPLAY_RETENTION.total_seconds()))


def _replay_digest(id_: str) -> str:
    return blake2b(id_.encode(errors="replace"), digest_size=16, person=b"replay").hexdigest()


IN_DOUBT_CODE = Code.CONNECTION_LOST_AT_END_OF_DATA.value

_SETTLED_COLUMNS: dict[str, Any] = {
    column: bindparam(column)
    for column in (
        *("state", "replies", "attempts", "in_doubt_count", "due", "code", "reason", "reply"),
        *("template", "revision", "message_id", "event"),
    )
}
_SETTLE = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.worker_epoch == bindparam("g"))
    .values(**_SETTLED_COLUMNS, updated_at=bindparam("now"))
)
# the doubt on the row is about this attempt, and the letter was not sent again since
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
    .with_for_update(skip_locked=True)  # workers share the queue and skip rows that another one is claiming
)
# a separate statement: with an OR for ledgers of one profile the index would not be used
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
    done = connection.execute(_SETTLE, [_settled_values(settlement, at) for settlement in settlements])
    attempts = [_attempt_row(settlement, at) for settlement in settlements if settlement.attempt]
    if attempts:
        connection.execute(_INSERT_ATTEMPT, attempts)
    late = _late(connection, settlements, at) if done.rowcount < len(settlements) else ()
    # a letter that another worker owns by now is not dead
    dead_letters = [
        settlement.dead_letter
        for settlement in settlements
        if settlement.dead_letter and settlement.claimed not in late
    ]
    add_dead_letters(connection, dead_letters, writer)
    suppressions.add_suppressions(
        connection, [settlement.suppress for settlement in settlements if settlement.suppress]
    )
    if writer.notification_rules:
        notifiable = [
            settlement
            for settlement in settlements
            if settlement.claimed not in late and is_notifiable(settlement)
        ]
        outbox.add_notifications(
            connection, writer, [transition_of_settlement(settlement, now) for settlement in notifiable]
        )
    return len(late)


def _late(connection: Connection, settlements: Sequence[Settlement], at: float) -> Collection[Claimed]:
    """The claims that do not own their row any more and whose reply resolves no doubt."""
    rows = [settlement.claimed.row for settlement in settlements]
    owners = {row.row: row.worker_epoch for row in connection.execute(_SELECT_OWNERS, {"rows": rows})}
    late = [
        settlement
        for settlement in settlements
        if owners.get(settlement.claimed.row) != settlement.claimed.worker_epoch
    ]
    return {settlement.claimed for settlement in late if not _resolves_doubt(connection, settlement, at)}


def _resolves_doubt(connection: Connection, settlement: Settlement, at: float) -> bool:
    if settlement.attempt is None or not settlement.attempt.code:
        return False
    return (
        connection.execute(
            _RESOLVE_DOUBT, _settled_values(settlement, at) | {"before": settlement.claimed.in_doubt_count}
        ).rowcount
        == 1
    )


def add_dead_letters(
    connection: Connection, dead_letters: Sequence[DeadLetter], writer: WriterIdentity
) -> None:
    """Put dead letters into the outbox, once each; end the rows that dead workers made of these records."""
    if dead_letters:
        mine = {"worker_epoch": writer.worker_epoch}
        connection.execute(
            _ADD_DEAD_LETTER, [dead_letter_row(dead_letter) | mine for dead_letter in dead_letters]
        )
        transitions = writer.orphans.end(connection, dead_letters, writer.worker_epoch)
        outbox.add_notifications(connection, writer, transitions)


def release(connection: Connection, claimed: Sequence[Claimed]) -> None:
    """Remove the owner of rows whose content never left."""
    if not claimed:
        return
    connection.execute(_RELEASE, [{"r": claim.row, "g": claim.worker_epoch} for claim in claimed])


def claim_due(connection: Connection, writer: WriterIdentity, now: datetime, limit: int) -> list[Recalled]:
    """Claim the letters whose time has come, in the order of `due`."""
    at, mine = stamp(now), writer.worker_epoch
    # a dead epoch is recovered once: letters that are recalled under one would never be recovered
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
        _recalled(row, identity, mine, reasons.get(identity, ()))
        for row, identity in zip(rows, identities, strict=True)
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
    """Recover the letters that dead workers had recalled: `claimed` becomes due, `sending` is in doubt.

    Returns how many became due and how many are in doubt. Letters that came from the topic need no recovery:
    their offsets were never committed, so that their records come again and take the claims over.
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
            _INSERT_ATTEMPT, [note | {"row": row.row, "worker_epoch": row.worker_epoch} for row in rows]
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
    # reports that arrived meanwhile prove that the relay has these letters: they are not sent again
    reports.apply_pending(
        ReportContext(connection, lambda _: writer.notification_rules, at, writer.profile_workers),
        profile_filter(writer.profile),
    )
    return recalled.rowcount, len(rows)


def _settled_values(settlement: Settlement, at: float) -> dict[str, Any]:
    item = settlement.claimed.letter
    return {
        "r": settlement.claimed.row,
        "g": settlement.claimed.worker_epoch,
        "state": settlement.state.value,
        "replies": settlement.replies,
        "attempts": settlement.attempts,
        "in_doubt_count": settlement.in_doubt_count,
        "due": stamp(settlement.due) if settlement.due else None,
        "code": settlement.problem.code.value if settlement.problem else None,
        "reason": storable(str(settlement.problem)) if settlement.problem else None,
        "reply": _reply(settlement.attempt),
        "template": item.template,
        "revision": item.revision,
        "message_id": item.message_id,
        "event": pack_record(item.record) if settlement.keeps_event else None,
        "now": at,
    }


def _reply(attempt: Attempt | None) -> str | None:
    return storable(f"{attempt.code} {attempt.text}") if attempt and attempt.code else None


def _attempt_row(settlement: Settlement, at: float) -> dict[str, Any]:
    assert settlement.attempt is not None
    return {
        "row": settlement.claimed.row,
        "worker_epoch": settlement.claimed.worker_epoch,
        "at": at,
        "result": settlement.attempt.result,
        "stage": settlement.attempt.stage,
        "code": settlement.attempt.code,
        "text": storable(settlement.attempt.text),
        "revision": settlement.claimed.letter.revision,
        "relay": settlement.attempt.relay or None,
    }
