"""Erasing a person from a ledger: what is theirs goes, what keeps a letter from being sent twice stays.

Runs inside one transaction. A row's recipient becomes the digest of its whole identity, so that the same
event is known when it comes again; nobody reads an address from it, though who knows the whole identity can
check it. A letter that waited is withdrawn; one in a worker's hand is left to its worker.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.rows import stamp
from postroom.adapters.ledger.schema import attempt, letter, notice, outbox, report, suppression
from postroom.letter.event import parse_event, unpack_record
from postroom.letter.identity import Identity, pseudonym
from postroom.letter.problems import Code, Rejected
from postroom.ports.state import KEEPS_EVENT, State
from postroom.ports.suppression import address_hash
from postroom.ports.upkeep import Erased

_IN_HAND = {State.CLAIMED.value, State.DOTTING.value}
_WAITS = sorted(state.value for state in KEEPS_EVENT)
_OF = select(
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
        code=case((letter.c.state.in_(_WAITS), Code.ERASED.value), else_=letter.c.code),
        state=case((letter.c.state.in_(_WAITS), State.SUPPRESSED.value), else_=letter.c.state),
        updated_at=bindparam("now", type_=letter.c.updated_at.type),
    )
)


def erase(connection: Connection, address: str, now: datetime, dry_run: bool) -> Erased:
    """Remove all that is this address's; with `dry_run` only count it."""
    wanted = address.lower()
    found = connection.execute(_OF, {"address": wanted}).all()
    rows = [row for row in found if row.state not in _IN_HAND]
    gone = rows if dry_run else [row for row in rows if _erase(connection, row, wanted, stamp(now))]
    numbers = [row.row for row in gone]
    return Erased(
        letters=len(gone),
        withdrawn=sum(row.state in _WAITS for row in gone),
        attempts=_attempts(connection, numbers, dry_run),
        reports=_reports(connection, numbers, dry_run),
        dead_letters=_dead_letters(connection, wanted, dry_run),
        notices=_notices(connection, numbers, wanted, dry_run),
        suppressions=_suppressions(connection, wanted, dry_run),
        under_way=len(found) - len(gone),
    )


def _erase(connection: Connection, row: Any, wanted: str, at: float) -> bool:
    identity = Identity(row.profile, row.source, row.event_id, row.recipient)
    hidden = pseudonym(identity)
    told = hidden if wanted in row.event_id.lower() else row.event_id
    values = {"r": row.row, "s": row.state, "veil": hidden, "id": told, "now": at}
    return connection.execute(_ERASE, values).rowcount == 1


def _attempts(connection: Connection, rows: Sequence[int], dry_run: bool) -> int:
    count = 0
    for some in _pieces(rows):
        theirs = attempt.c.row.in_(some) & attempt.c.text.is_not(None)
        count += connection.execute(select(func.count()).where(theirs)).scalar_one()
        if not dry_run:
            connection.execute(update(attempt).where(theirs).values(text=None))
    return count


def _reports(connection: Connection, rows: Sequence[int], dry_run: bool) -> int:
    count = 0
    for some in _pieces(rows):
        theirs = report.c.letter.in_(some) & or_(report.c.text.is_not(None), report.c.content.is_not(None))
        count += connection.execute(select(func.count()).where(theirs)).scalar_one()
        if not dry_run:
            connection.execute(update(report).where(theirs).values(text=None, content=None))
    return count


def _dead_letters(connection: Connection, wanted: str, dry_run: bool) -> int:
    """The outbox is short: dead letters leave it as soon as the broker has them."""
    rows = [row.row for row in connection.execute(select(outbox)) if _is_about(bytes(row.record), wanted)]
    if rows and not dry_run:
        for some in _pieces(rows):
            connection.execute(delete(outbox).where(outbox.c.row.in_(some)))
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


def _notices(connection: Connection, rows: Sequence[int], wanted: str, dry_run: bool) -> int:
    naming = func.lower(notice.c.data).contains(wanted, autoescape=True)
    found = set(connection.execute(select(notice.c.row).where(naming)).scalars())
    for some in _pieces(rows):
        found |= set(connection.execute(select(notice.c.row).where(notice.c.letter.in_(some))).scalars())
    for some in () if dry_run else _pieces(sorted(found)):
        connection.execute(delete(notice).where(notice.c.row.in_(some)))
    return len(found)


def _suppressions(connection: Connection, wanted: str, dry_run: bool) -> int:
    theirs = (suppression.c.hash == address_hash(wanted)) & or_(
        suppression.c.address.is_not(None), suppression.c.note != ""
    )
    count: int = connection.execute(select(func.count()).where(theirs)).scalar_one()
    if count and not dry_run:
        connection.execute(update(suppression).where(theirs).values(address=None, note=""))
    return count


def _pieces(rows: Sequence[int], size: int = 500) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
