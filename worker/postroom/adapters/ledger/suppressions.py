"""The suppression list in the ledger: read at every claim, so that an empty list must cost almost nothing.

Each function runs inside a transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger.rows import stamp, storable
from postroom.adapters.ledger.schema import suppression
from postroom.letter.identity import Identity
from postroom.ports.ledger import Suppression, SuppressionReason, address_hash

_SELECT_ANY = select(suppression.c.profile).limit(1)
_SELECT_REASONS = select(suppression.c.profile, suppression.c.hash, suppression.c.reason).where(
    suppression.c.hash.in_(bindparam("hashes", expanding=True))
)
_ADD = insert_or_ignore(suppression).on_conflict_do_nothing().returning(suppression.c.hash)


def suppression_reasons(
    connection: Connection, identities: Sequence[Identity]
) -> Mapping[Identity, Collection[SuppressionReason]]:
    """Why these letters' recipients are on the list of their profile; other letters are omitted."""
    if not identities or connection.execute(_SELECT_ANY).first() is None:
        return {}
    wanted = {identity: (identity.profile, address_hash(identity.recipient)) for identity in identities}
    found: dict[tuple[str, str], set[SuppressionReason]] = {}
    for row in connection.execute(_SELECT_REASONS, {"hashes": [hash_ for _, hash_ in wanted.values()]}):
        found.setdefault((row.profile, row.hash), set()).add(SuppressionReason(row.reason))
    return {identity: found[key] for identity, key in wanted.items() if key in found}


def add_suppressions(connection: Connection, entries: Iterable[Suppression]) -> int:
    """Add entries to the list; existing entries stay unchanged. Returns how many are new."""
    return sum(connection.execute(_ADD, _suppression_row(entry)).first() is not None for entry in entries)


def _suppression_row(entry: Suppression) -> dict[str, Any]:
    assert entry.address is not None
    return {
        "profile": entry.profile,
        "hash": address_hash(entry.address),
        "reason": entry.reason.value,
        "address": entry.address,
        "note": storable(entry.note),
        "at": stamp(entry.at),
    }
