"""A ledger by the side of its workers, opened and held: what upkeep and the intake of reports have in common.

SQLite orders the transactions of two processes by its own lock, so that the worker waits for a short one of
ours and we for its; the lock file beside it only says who sends. A schema is never changed from here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from postroom.adapters.ledger.migrations import check
from postroom.adapters.ledger.postgres_server import ledger_engine as server_engine
from postroom.adapters.ledger.postgres_server import unreachable_errors
from postroom.adapters.ledger.schema import VERSION
from postroom.letter.problems import Code, Problem, Rejected

BUSY_TIMEOUT_SECONDS = 30
T = TypeVar("T")


class LedgerConnection:
    """A ledger that others write to as well; each piece of work is one short transaction."""

    def __init__(self, engine: Engine, where: str, file: Path | None = None) -> None:
        self._engine = engine
        self._where = where
        self._file = file

    @classmethod
    def open_file(cls, path: Path) -> Self:
        """A ledger in a file; raises Rejected where it is none that this release knows."""
        made = create_engine(
            URL.create("sqlite", database=f"file:{path.absolute()}", query={"mode": "rw", "uri": "true"}),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_SECONDS},
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
        found = ledger.transaction(lambda c: c.exec_driver_sql("PRAGMA user_version").scalar_one())
        if found != VERSION:
            raise ledger._unusable(
                f"has schema {found}, this Postroom knows {VERSION}: start its worker with this release first"
            )
        return ledger

    @classmethod
    def open_server(cls, url: str, schema: str) -> Self:
        """A ledger on PostgreSQL; raises Unreachable, or Rejected where its schema is not this release's."""
        ledger = cls(server_engine(url, schema), f"schema {schema}")
        with unreachable_errors():
            ledger.transaction(lambda c: check(c, schema))
        return ledger

    def close(self) -> None:
        """Let go of it."""
        self._engine.dispose()

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """One transaction; raises Unreachable while a server is away, Rejected where a file cannot
        be used.
        """
        try:
            with unreachable_errors(), self._engine.begin() as connection:
                return work(connection)
        except DatabaseError as error:
            raise self._unusable(f"cannot be used: {' '.join(str(error.orig).split())}") from None

    def _unusable(self, said: str) -> Rejected:
        return Rejected(Problem(Code.SETTING_INVALID, "ledger", f"{self._where} {said}"))
