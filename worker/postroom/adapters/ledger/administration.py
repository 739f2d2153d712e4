"""Erasing a person from a ledger: what is theirs goes, what keeps a letter from being sent twice stays.

Runs inside one transaction. A row's recipient becomes the digest of its whole identity, so that the same
event is known when it comes again; nobody reads an address from it, though who knows the whole identity can
check it. A letter that waited is withdrawn; one in a worker's hand is left to its worker.

Upkeep of a ledger by the side of its workers, on a file and on a server alike.
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
        recipient=bindparam("veil"),
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
    """Remove all that is this address's; with `dry_run` only count it."""
    wanted = address.lower()
    found = connection.execute(_SELECT_LETTERS, {"address": wanted}).all()
    rows = [row for row in found if row.state not in _IN_PROGRESS]
    gone = rows if dry_run else [row for row in rows if _erase_letter(connection, row, wanted, stamp(now))]
    numbers = [row.row for row in gone]
    return ErasureResult(
        letters=len(gone),
        withdrawn=sum(row.state in _WAITING_STATES for row in gone),
        attempts=_erase_attempts(connection, numbers, dry_run),
        reports=_erase_reports(connection, numbers, dry_run),
        dead_letters=_erase_dead_letters(connection, wanted, dry_run),
        notifications=_erase_notifications(connection, numbers, wanted, dry_run),
        suppressions=_erase_suppressions(connection, wanted, dry_run),
        in_progress=len(found) - len(gone),
    )


def _erase_letter(connection: Connection, row: Any, wanted: str, at: float) -> bool:
    identity = Identity(row.profile, row.source, row.event_id, row.recipient)
    hidden = pseudonym(identity)
    told = hidden if wanted in row.event_id.lower() else row.event_id
    values = {"r": row.row, "s": row.state, "veil": hidden, "id": told, "now": at}
    return connection.execute(_ERASE, values).rowcount == 1


def _erase_attempts(connection: Connection, rows: Sequence[int], dry_run: bool) -> int:
    count = 0
    for some in _chunks(rows):
        theirs = attempt.c.row.in_(some) & attempt.c.text.is_not(None)
        count += connection.execute(select(func.count()).where(theirs)).scalar_one()
        if not dry_run:
            connection.execute(update(attempt).where(theirs).values(text=None))
    return count


def _erase_reports(connection: Connection, rows: Sequence[int], dry_run: bool) -> int:
    count = 0
    for some in _chunks(rows):
        theirs = report.c.letter.in_(some) & or_(report.c.text.is_not(None), report.c.content.is_not(None))
        count += connection.execute(select(func.count()).where(theirs)).scalar_one()
        if not dry_run:
            connection.execute(update(report).where(theirs).values(text=None, content=None))
    return count


def _erase_dead_letters(connection: Connection, wanted: str, dry_run: bool) -> int:
    """The outbox is short: dead letters leave it as soon as the broker has them."""
    rows = [
        row.row
        for row in connection.execute(select(dead_letter_outbox))
        if _is_about(bytes(row.record), wanted)
    ]
    if rows and not dry_run:
        for some in _chunks(rows):
            connection.execute(delete(dead_letter_outbox).where(dead_letter_outbox.c.row.in_(some)))
    return len(rows)


def _is_about(packed: bytes, wanted: str) -> bool:
    record = unpack_record(packed)
    try:
        return parse_event(record).recipient.lower() == wanted
    except Rejected:
        # it is no event: whoever is named in it is taken for its recipient
        return (
            wanted in (record.value or b"").decode(errors="replace").lower()
            or wanted
            in json.dumps(
                [(name, (said or b"").decode(errors="replace")) for name, said in record.headers]
            ).lower()
        )


def _erase_notifications(connection: Connection, rows: Sequence[int], wanted: str, dry_run: bool) -> int:
    naming = func.lower(notification_outbox.c.data).contains(wanted, autoescape=True)
    found = set(connection.execute(select(notification_outbox.c.row).where(naming)).scalars())
    for some in _chunks(rows):
        found |= set(
            connection.execute(
                select(notification_outbox.c.row).where(notification_outbox.c.letter.in_(some))
            ).scalars()
        )
    for some in () if dry_run else _chunks(sorted(found)):
        connection.execute(delete(notification_outbox).where(notification_outbox.c.row.in_(some)))
    return len(found)


def _erase_suppressions(connection: Connection, wanted: str, dry_run: bool) -> int:
    theirs = (suppression.c.hash == address_hash(wanted)) & or_(
        suppression.c.address.is_not(None), suppression.c.note != ""
    )
    count: int = connection.execute(select(func.count()).where(theirs)).scalar_one()
    if count and not dry_run:
        connection.execute(update(suppression).where(theirs).values(address=None, note=""))
    return count


def _chunks(rows: Sequence[int], size: int = 500) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class LedgerAdministration(LedgerConnection):
    """Implements ports.upkeep.Upkeep."""

    def erase(self, address: str, now: datetime, dry_run: bool) -> ErasureResult:
        """See the port."""
        done = self.transaction(lambda c: erase(c, address, now, dry_run))
        if self._file and not dry_run:
            # the log still has the pages of before; where somebody reads at the moment, a later one does it
            with contextlib.closing(sqlite3.connect(self._file, timeout=1)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done

    def suppressions(self, profile: str = "", address: str = "") -> Sequence[Suppression]:
        """See the port."""
        wanted = select(suppression).order_by(suppression.c.at, suppression.c.hash)
        if profile:
            wanted = wanted.where(suppression.c.profile == profile)
        if address:
            wanted = wanted.where(suppression.c.hash == address_hash(address))
        return self.transaction(lambda c: [_suppression(row) for row in c.execute(wanted)])

    def suppress(self, entries: Sequence[Suppression]) -> int:
        """See the port."""
        return self.transaction(lambda c: suppressions.add_suppressions(c, entries))

    def lift(self, profile: str, address: str, reason: SuppressionReason | None) -> int:
        """See the port."""
        gone = delete(suppression).where(
            suppression.c.profile == profile, suppression.c.hash == address_hash(address)
        )
        if reason is not None:
            gone = gone.where(suppression.c.reason == reason.value)
        return self.transaction(lambda c: c.execute(gone).rowcount)

    def profiles(self) -> Sequence[str]:
        """See the port."""
        query = select(letter.c.profile).union(select(suppression.c.profile))
        return self.transaction(lambda c: sorted(c.execute(query).scalars()))


def _suppression(row: Any) -> Suppression:
    return Suppression(
        row.profile, row.address, SuppressionReason(row.reason), moment(row.at), row.note or ""
    )
