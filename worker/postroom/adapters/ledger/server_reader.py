"""Reading a ledger on PostgreSQL beside its workers; what can be asked of it is what `reader` says."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from postroom.adapters.ledger.reader import Reader
from postroom.adapters.ledger.server import engine, reaching, setting

_LETTERS = text("SELECT to_regclass(:name)")


class ServerReader(Reader):
    """The ledger in a schema of a server.

    Raises Unreachable when the server is away, Rejected when there is no ledger in this schema.
    """

    def __init__(self, url: str, schema: str) -> None:
        self._engine = engine(url, schema)
        with reaching():
            session = self._engine.connect()
        self._session = session.execution_options(isolation_level="AUTOCOMMIT", postgresql_readonly=True)
        if self._session.execute(_LETTERS, {"name": f"{schema}.letter"}).scalar() is None:
            self.close()
            raise setting("ledger-schema", f"there is no ledger in schema {schema}")

    def close(self) -> None:
        """See Reader."""
        self._session.close()
        self._engine.dispose()

    def _all(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        with reaching():
            return self._session.exec_driver_sql(query.replace("?", "%s"), values).all()
