"""Read-only views of a ledger, for the command line and the gateway.

A file is opened read-only, which is safe while a worker runs; a ledger on PostgreSQL is read in a read-only
session. There is deliberately no index on recipient or event id (random keys would slow down every letter):
a search reads the whole table, about a second for a million rows.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import text

from postroom.adapters.ledger.postgres_server import invalid_setting, ledger_engine, unreachable_errors
from postroom.adapters.ledger.rows import moment


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt to send a letter."""

    at: datetime
    result: str
    stage: str | None
    code: int | None
    text: str | None
    revision: str | None
    fallback: str | None = None
    """The profile whose relay was used instead of its own; None: its own, if a relay was used."""

    def relay(self, own: str) -> str:
        """The profile whose relay was used, for a letter of profile `own`; empty if no relay was used."""
        return self.fallback or (own if self.stage else "")


@dataclass(frozen=True, slots=True)
class ReportView:
    """A report about a letter."""

    at: datetime
    kind: str
    status: str
    mta: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class LetterView:
    """One letter as the ledger has it."""

    row: int
    profile: str
    source: str
    event_id: str
    event_type: str
    recipient: str
    state: str
    in_doubt_count: int
    due: datetime | None
    code: str | None
    reason: str | None
    reply: str | None
    template: str | None
    revision: str | None
    message_id: str | None
    topic: str
    partition: int
    offset: int
    user_id: str | None
    request_id: str | None
    received: datetime
    updated: datetime
    attempts: tuple[AttemptView, ...] = ()
    reports: tuple[ReportView, ...] = ()


_COLUMNS = (
    *(
        "row",
        "profile",
        "source",
        "event_id",
        "event_type",
        "recipient",
        "state",
        "in_doubt_count",
        "due",
        "code",
    ),
    *("reason", "reply", "template", "revision", "message_id", "topic", "partition", "offset", "user_id"),
    *("request_id", "received_at", "updated_at"),
)
# quoted: some names are keywords of SQL
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_LETTER = f"SELECT {_NAMES} FROM letter"  # noqa: S608 - constant names


class LedgerReader(ABC):
    """A read-only view of one ledger; use it as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def _all(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        """Every row of a query with question marks for its values."""

    def counts(self) -> dict[str, int]:
        """Letters by state."""
        found: Sequence[Any] = self._all("SELECT state, count(*) FROM letter GROUP BY state")
        return dict(found)

    def pending_dead_letters(self) -> int:
        """How many dead letters the broker has not acknowledged."""
        [[count]] = self._all("SELECT count(*) FROM dead_letter_outbox")
        return int(count)

    def latest(self, limit: int = 20) -> Sequence[LetterView]:
        """The newest letters first, without their attempts."""
        return [_letter(row) for row in self._all(f'{_LETTER} ORDER BY "row" DESC LIMIT ?', limit)]

    def find(self, wanted: str, limit: int = 50) -> Sequence[LetterView]:
        """Letters by event id, Message-ID, request id, user id or recipient, oldest first, with history."""
        key = wanted.strip()
        where = "WHERE ? IN (event_id, message_id, request_id, user_id) OR lower(recipient) = lower(?)"
        rows = self._all(f'{_LETTER} {where} ORDER BY "row" LIMIT ?', key, key, limit)
        return [replace(_letter(row), **self._history(row[0])) for row in rows]

    def _history(self, row: int) -> dict[str, Any]:
        return {"attempts": self._attempts(row), "reports": self._reports(row)}

    def _reports(self, row: int) -> tuple[ReportView, ...]:
        columns = 'at, kind, status, mta, "text"'
        found = self._all(f'SELECT {columns} FROM report WHERE letter = ? ORDER BY "row"', row)  # noqa: S608
        return tuple(ReportView(moment(at), *rest) for at, *rest in found)

    def _attempts(self, row: int) -> tuple[AttemptView, ...]:
        columns = 'at, result, stage, code, "text", revision, relay'
        found = self._all(f'SELECT {columns} FROM attempt WHERE "row" = ? ORDER BY id', row)  # noqa: S608
        return tuple(AttemptView(moment(at), *rest) for at, *rest in found)


class FileLedgerReader(LedgerReader):
    """A ledger in a file; raises sqlite3.Error if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _all(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        return self._db.execute(query, values).fetchall()


def _letter(row: Sequence[Any]) -> LetterView:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["received"], values["updated"] = (
        moment(values.pop("received_at")),
        moment(values.pop("updated_at")),
    )
    values["due"] = None if values["due"] is None else moment(values["due"])
    return LetterView(**values)


_SELECT_TABLE = text("SELECT to_regclass(:name)")


class ServerLedgerReader(LedgerReader):
    """The ledger in a schema of a server.

    Raises Unreachable when the server is away, Rejected when there is no ledger in this schema.
    """

    def __init__(self, url: str, schema: str) -> None:
        self._engine = ledger_engine(url, schema)
        with unreachable_errors():
            session = self._engine.connect()
        self._session = session.execution_options(isolation_level="AUTOCOMMIT", postgresql_readonly=True)
        if self._session.execute(_SELECT_TABLE, {"name": f"{schema}.letter"}).scalar() is None:
            self.close()
            raise invalid_setting("ledger-schema", f"there is no ledger in schema {schema}")

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
        self._engine.dispose()

    def _all(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        with unreachable_errors():
            return self._session.exec_driver_sql(query.replace("?", "%s"), values).all()
