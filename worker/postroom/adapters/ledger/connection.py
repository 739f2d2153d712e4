"""A ledger that is opened beside its workers, by the administration commands and the bounce intake.

Each piece of work is one short transaction. SQLite orders the transactions of two processes by its own lock,
so that each waits for the other; the lock file beside the database only decides which worker sends. The
schema is never changed from here.
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
    """A ledger that workers write to as well; each piece of work is one short transaction."""

    def __init__(self, engine: Engine, where: str, file: Path | None = None) -> None:
        self._engine = engine
        self._where = where
        self._file = file

    @classmethod
    def open_file(cls, path: Path) -> Self:
        """Open a ledger in a file; raises Rejected if it has not the schema of this release."""
        made = create_engine(
            URL.create("sqlite", database=f"file:{path.absolute()}", query={"mode": "rw", "uri": "true"}),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_SECONDS},
        )

        @event.listens_for(made, "connect")
        def tune(connection: Any, _record: Any) -> None:
            # erased content is overwritten and not only unlinked
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = FULL")

        @event.listens_for(made, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        ledger = cls(made, str(path), path)
        found = ledger.transaction(lambda c: c.exec_driver_sql("PRAGMA user_version").scalar_one())
        if found != VERSION:
            raise ledger._unusable(
                f"has schema {found}, this Postroom has {VERSION}: start its worker with this release first"
            )
        return ledger

    @classmethod
    def open_server(cls, url: str, schema: str) -> Self:
        """Open a ledger on PostgreSQL; raises Unreachable, or Rejected for a schema of another release."""
        ledger = cls(server_engine(url, schema), f"schema {schema}")
        with unreachable_errors():
            ledger.transaction(lambda c: check(c, schema))
        return ledger

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run work in one transaction; raises Unreachable while the server is away, Rejected if the file is
        unusable.
        """
        try:
            with unreachable_errors(), self._engine.begin() as connection:
                return work(connection)
        except DatabaseError as error:
            raise self._unusable(f"cannot be used: {' '.join(str(error.orig).split())}") from None

    def _unusable(self, problem: str) -> Rejected:
        return Rejected(Problem(Code.SETTING_INVALID, "ledger", f"{self._where} {problem}"))
