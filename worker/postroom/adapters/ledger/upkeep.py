"""A ledger by the side of its workers: on a file and on a server alike.

SQLite orders the transactions of two processes by its own lock, so that the worker waits for a short one of
ours and we for its; the lock file beside it only says who sends. A schema is never changed from here.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, create_engine, delete, event, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from postroom.adapters.ledger import erasing, suppressions
from postroom.adapters.ledger.migrations import check
from postroom.adapters.ledger.rows import moment
from postroom.adapters.ledger.schema import VERSION, letter, suppression
from postroom.adapters.ledger.server import engine as server_engine
from postroom.adapters.ledger.server import reaching
from postroom.letter.problems import Code, Problem, Rejected
from postroom.ports.suppression import Reason, Suppression, address_hash
from postroom.ports.upkeep import Erased

PATIENCE_SECONDS = 30
T = TypeVar("T")


class SqlUpkeep:
    """Implements ports.upkeep.Upkeep."""

    def __init__(self, engine: Engine, where: str, file: Path | None = None) -> None:
        self._engine = engine
        self._where = where
        self._file = file

    @classmethod
    def of_file(cls, path: Path) -> "SqlUpkeep":
        """A ledger in a file; raises Rejected where it is none that this release knows."""
        made = create_engine(
            URL.create("sqlite", database=f"file:{path.absolute()}", query={"mode": "rw", "uri": "true"}),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"isolation_level": None, "timeout": PATIENCE_SECONDS},
        )

        @event.listens_for(made, "connect")
        def tune(connection: Any, _record: Any) -> None:
            # what is erased is overwritten, not only unlinked
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = FULL")

        @event.listens_for(made, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        ledger = cls(made, str(path), path)
        found = ledger._do(lambda c: c.exec_driver_sql("PRAGMA user_version").scalar_one())
        if found != VERSION:
            raise ledger._unusable(
                f"has schema {found}, this Postroom knows {VERSION}: start its worker with this release first"
            )
        return ledger

    @classmethod
    def of_server(cls, url: str, schema: str) -> "SqlUpkeep":
        """A ledger on PostgreSQL; raises Unreachable, or Rejected where its schema is not this release's."""
        ledger = cls(server_engine(url, schema), f"schema {schema}")
        with reaching():
            ledger._do(lambda c: check(c, schema))
        return ledger

    def erase(self, address: str, now: datetime, dry_run: bool) -> Erased:
        """See the port."""
        done = self._do(lambda c: erasing.erase(c, address, now, dry_run))
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
        return self._do(lambda c: [_entry(row) for row in c.execute(wanted)])

    def suppress(self, entries: Sequence[Suppression]) -> int:
        """See the port."""
        return self._do(lambda c: suppressions.add(c, entries))

    def lift(self, profile: str, address: str, reason: Reason | None) -> int:
        """See the port."""
        gone = delete(suppression).where(
            suppression.c.profile == profile, suppression.c.hash == address_hash(address)
        )
        if reason is not None:
            gone = gone.where(suppression.c.reason == reason.value)
        return self._do(lambda c: c.execute(gone).rowcount)

    def profiles(self) -> Sequence[str]:
        """See the port."""
        query = select(letter.c.profile).union(select(suppression.c.profile))
        return self._do(lambda c: sorted(c.execute(query).scalars()))

    def close(self) -> None:
        """See the port."""
        self._engine.dispose()

    def _do(self, work: Callable[[Connection], T]) -> T:
        try:
            with reaching(), self._engine.begin() as connection:
                return work(connection)
        except DatabaseError as error:
            raise self._unusable(f"cannot be used: {' '.join(str(error.orig).split())}") from None

    def _unusable(self, said: str) -> Rejected:
        return Rejected(Problem(Code.SETTING_INVALID, "ledger", f"{self._where} {said}"))


def _entry(row: Any) -> Suppression:
    return Suppression(row.profile, row.address, Reason(row.reason), moment(row.at), row.note or "")
