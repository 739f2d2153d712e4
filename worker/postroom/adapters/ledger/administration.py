"""Administration of a ledger beside its workers: erase a person, keep the suppression list.

An erasure removes what belongs to an address and keeps what prevents a second copy: a row's recipient becomes
the digest of its whole identity, so that the same event is recognized when it comes again. No address can be
read from it, although a caller who has the whole identity can verify it. A letter that waited is withdrawn; a
letter that a worker owns is left to its worker, and the erasure must be repeated.
"""

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import suppressions
from postroom.adapters.ledger.connection import LedgerConnection
from postroom.adapters.ledger.rows import moment, stamp
from postroom.adapters.ledger.schema import (
    attempt,
    dead_letter_outbox,
    letter,
    notification_outbox,
    report,
    suppression,
)
from postroom.letter.event import parse_event, unpack_record
from postroom.letter.identity import Identity, pseudonym
from postroom.letter.problems import Code, Rejected
from postroom.ports.ledger import (
    KEEPS_EVENT_STATES,
    ErasureResult,
    State,
    Suppression,
    SuppressionReason,
    address_hash,
)

_IN_PROGRESS = {State.CLAIMED.value, State.SENDING.value}
_WAITING_STATES = sorted(state.value for state in KEEPS_EVENT_STATES)
_SELECT_LETTERS = select(
    letter.c.row, letter.c.profile, letter.c.source, letter.c.event_id, letter.c.recipient, letter.c.state
).where(func.lower(letter.c.recipient) == bindparam("address"))
_ERASE = (
    update(letter)
    .where(letter.c.row == bindparam("r"), letter.c.state == bindparam("s"))
    .values(
        recipient=bindparam("pseudonym"),
        event_id=bindparam("id"),
        user_id=None,
        request_id=None,
        metadata=None,
        reason=None,
        reply=None,
        event=None,
        due=None,
        code=case((letter.c.state.in_(_WAITING_STATES), Code.ERASED.value), else_=letter.c.code),
        state=case((letter.c.state.in_(_WAITING_STATES), State.SUPPRESSED.value), else_=letter.c.state),
        updated_at=bindparam("now", type_=letter.c.updated_at.type),
    )
)


def erase(connection: Connection, address: str, now: datetime, dry_run: bool) -> ErasureResult:
    """Remove everything that belongs to this address; with `dry_run` only count it."""
    wanted = address.lower()
    found = connection.execute(_SELECT_LETTERS, {"address": wanted}).all()
    rows = [row for row in found if row.state not in _IN_PROGRESS]
    erased = rows if dry_run else [row for row in rows if _erase_letter(connection, row, wanted, stamp(now))]
    row_ids = [row.row for row in erased]
    return ErasureResult(
        letters=len(erased),
        withdrawn=sum(row.state in _WAITING_STATES for row in erased),
        attempts=_erase_attempts(connection, row_ids, dry_run),
        reports=_erase_reports(connection, row_ids, dry_run),
        dead_letters=_erase_dead_letters(connection, wanted, dry_run),
        notifications=_erase_notifications(connection, row_ids, wanted, dry_run),
        suppressions=_erase_suppressions(connection, wanted, dry_run),
        in_progress=len(found) - len(erased),
    )


def _erase_letter(connection: Connection, row: Any, wanted: str, at: float) -> bool:
    identity = Identity(row.profile, row.source, row.event_id, row.recipient)
    digest = pseudonym(identity)
    event_id = digest if wanted in row.event_id.lower() else row.event_id
    values = {"r": row.row, "s": row.state, "pseudonym": digest, "id": event_id, "now": at}
    return connection.execute(_ERASE, values).rowcount == 1


def _erase_attempts(connection: Connection, rows: Sequence[int], dry_run: bool) -> int:
    count = 0
    for chunk in _chunks(rows):
        of_person = attempt.c.row.in_(chunk) & attempt.c.text.is_not(None)
        count += connection.execute(select(func.count()).where(of_person)).scalar_one()
        if not dry_run:
            connection.execute(update(attempt).where(of_person).values(text=None))
    return count


def _erase_reports(connection: Connection, rows: Sequence[int], dry_run: bool) -> int:
    count = 0
    for chunk in _chunks(rows):
        of_person = report.c.letter.in_(chunk) & or_(
            report.c.text.is_not(None), report.c.content.is_not(None)
        )
        count += connection.execute(select(func.count()).where(of_person)).scalar_one()
        if not dry_run:
            connection.execute(update(report).where(of_person).values(text=None, content=None))
    return count


def _erase_dead_letters(connection: Connection, wanted: str, dry_run: bool) -> int:
    """Reads the whole outbox, which is short: dead letters leave it when the broker acknowledges them."""
    rows = [
        row.row
        for row in connection.execute(select(dead_letter_outbox))
        if _is_about(bytes(row.record), wanted)
    ]
    if rows and not dry_run:
        for chunk in _chunks(rows):
            connection.execute(delete(dead_letter_outbox).where(dead_letter_outbox.c.row.in_(chunk)))
    return len(rows)


def _is_about(packed: bytes, wanted: str) -> bool:
    record = unpack_record(packed)
    try:
        return parse_event(record).recipient.lower() == wanted
    except Rejected:
        # not an event: an address anywhere in it is taken for its recipient
        return (
            wanted in (record.value or b"").decode(errors="replace").lower()
            or wanted
            in json.dumps(
                [(name, (value or b"").decode(errors="replace")) for name, value in record.headers]
            ).lower()
        )


def _erase_notifications(connection: Connection, rows: Sequence[int], wanted: str, dry_run: bool) -> int:
    naming = func.lower(notification_outbox.c.data).contains(wanted, autoescape=True)
    found = set(connection.execute(select(notification_outbox.c.row).where(naming)).scalars())
    for chunk in _chunks(rows):
        found |= set(
            connection.execute(
                select(notification_outbox.c.row).where(notification_outbox.c.letter.in_(chunk))
            ).scalars()
        )
    for chunk in () if dry_run else _chunks(sorted(found)):
        connection.execute(delete(notification_outbox).where(notification_outbox.c.row.in_(chunk)))
    return len(found)


def _erase_suppressions(connection: Connection, wanted: str, dry_run: bool) -> int:
    of_person = (suppression.c.hash == address_hash(wanted)) & or_(
        suppression.c.address.is_not(None), suppression.c.note != ""
    )
    count: int = connection.execute(select(func.count()).where(of_person)).scalar_one()
    if count and not dry_run:
        connection.execute(update(suppression).where(of_person).values(address=None, note=""))
    return count


def _chunks(rows: Sequence[int], size: int = 500) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class LedgerAdministration(LedgerConnection):
    """The commands on one ledger; each is one short transaction, and workers continue meanwhile."""

    def erase(self, address: str, now: datetime, dry_run: bool) -> ErasureResult:
        """Remove a person's data; the letters stay known by the digests of their identities."""
        done = self.transaction(lambda c: erase(c, address, now, dry_run))
        if self._file and not dry_run:
            # the write-ahead log still has the old pages; a reader may prevent this, then a later checkpoint
            # does it
            with contextlib.closing(sqlite3.connect(self._file, timeout=1)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done

    def suppressions(self, profile: str = "", address: str = "") -> Sequence[Suppression]:
        """The suppression list, oldest first; of one profile or one address if they are given."""
        wanted = select(suppression).order_by(suppression.c.at, suppression.c.hash)
        if profile:
            wanted = wanted.where(suppression.c.profile == profile)
        if address:
            wanted = wanted.where(suppression.c.hash == address_hash(address))
        return self.transaction(lambda c: [_suppression(row) for row in c.execute(wanted)])

    def suppress(self, entries: Sequence[Suppression]) -> int:
        """Add entries to the suppression list; returns how many are new."""
        return self.transaction(lambda c: suppressions.add_suppressions(c, entries))

    def lift(self, profile: str, address: str, reason: SuppressionReason | None) -> int:
        """Remove an address from a profile's list, for one reason or all; returns how many entries."""
        gone = delete(suppression).where(
            suppression.c.profile == profile, suppression.c.hash == address_hash(address)
        )
        if reason is not None:
            gone = gone.where(suppression.c.reason == reason.value)
        return self.transaction(lambda c: c.execute(gone).rowcount)

    def profiles(self) -> Sequence[str]:
        """The profiles whose letters or suppressions are in this ledger."""
        query = select(letter.c.profile).union(select(suppression.c.profile))
        return self.transaction(lambda c: sorted(c.execute(query).scalars()))


def _suppression(row: Any) -> Suppression:
    return Suppression(
        row.profile, row.address, SuppressionReason(row.reason), moment(row.at), row.note or ""
    )
