"""Upkeep of a ledger by the side of its workers, on a file and on a server alike."""

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from postroom.adapters.ledger import erasing, suppressions
from postroom.adapters.ledger.beside import Beside
from postroom.adapters.ledger.rows import moment
from postroom.adapters.ledger.schema import letter, suppression
from postroom.ports.suppression import Reason, Suppression, address_hash
from postroom.ports.upkeep import Erased


class SqlUpkeep(Beside):
    """Implements ports.upkeep.Upkeep."""

    def erase(self, address: str, now: datetime, dry_run: bool) -> Erased:
        """See the port."""
        done = self.do(lambda c: erasing.erase(c, address, now, dry_run))
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
        return self.do(lambda c: [_entry(row) for row in c.execute(wanted)])

    def suppress(self, entries: Sequence[Suppression]) -> int:
        """See the port."""
        return self.do(lambda c: suppressions.add(c, entries))

    def lift(self, profile: str, address: str, reason: Reason | None) -> int:
        """See the port."""
        gone = delete(suppression).where(
            suppression.c.profile == profile, suppression.c.hash == address_hash(address)
        )
        if reason is not None:
            gone = gone.where(suppression.c.reason == reason.value)
        return self.do(lambda c: c.execute(gone).rowcount)

    def profiles(self) -> Sequence[str]:
        """See the port."""
        query = select(letter.c.profile).union(select(suppression.c.profile))
        return self.do(lambda c: sorted(c.execute(query).scalars()))


def _entry(row: Any) -> Suppression:
    return Suppression(row.profile, row.address, Reason(row.reason), moment(row.at), row.note or "")
