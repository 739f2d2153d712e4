"""Forgetting: final letters and identities that lie behind the dedupe window.

Runs inside a group's transaction. Row keys are in time order, so the oldest letters are found at the front
of the table without an index.
"""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.claims import BUCKET_SECONDS
from postroom.adapters.ledger.rows import first_key, stamp
from postroom.adapters.ledger.schema import attempt, identity, letter
from postroom.ports.ledger import FINAL


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to `limit` final letters received before then, with their attempts; returns how many."""
    at = stamp(before)
    rows = [
        row.row
        for row in connection.execute(
            select(letter.c.row)
            .where(letter.c.row < first_key(at), letter.c.state.in_([state.value for state in FINAL]))
            .order_by(letter.c.row)
            .limit(limit)
        )
    ]
    if rows:
        connection.execute(delete(attempt).where(attempt.c.row.in_(rows)))
        connection.execute(delete(letter).where(letter.c.row.in_(rows)))
    connection.execute(delete(identity).where(identity.c.bucket < int(at // BUCKET_SECONDS)))
    return len(rows)
