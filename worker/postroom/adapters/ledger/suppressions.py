"""The suppression list in the ledger: asked at every claim, so it has to cost nothing while it is empty.

Each function runs inside a group's transaction.
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
    """Why these letters' recipients are on the list of their profile; those that are not are left out."""
    if not identities or connection.execute(_SELECT_ANY).first() is None:
        return {}
    wanted = {one: (one.profile, address_hash(one.recipient)) for one in identities}
    found: dict[tuple[str, str], set[SuppressionReason]] = {}
    for row in connection.execute(_SELECT_REASONS, {"hashes": [each for _, each in wanted.values()]}):
        found.setdefault((row.profile, row.hash), set()).add(SuppressionReason(row.reason))
    return {one: found[place] for one, place in wanted.items() if place in found}


def add_suppressions(connection: Connection, entries: Iterable[Suppression]) -> int:
    """Put entries on the list; one that is there stays as it is. Returns how many are new."""
    return sum(connection.execute(_ADD, _suppression_row(one)).first() is not None for one in entries)


def _suppression_row(one: Suppression) -> dict[str, Any]:
    assert one.address is not None
    return {
        "profile": one.profile,
        "hash": address_hash(one.address),
        "reason": one.reason.value,
        "address": one.address,
        "note": storable(one.note),
        "at": stamp(one.at),
    }
