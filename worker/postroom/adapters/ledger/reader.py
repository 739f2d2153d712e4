"""Reading a ledger beside its writer: what became of a letter, and how many are where.

Opens the file read-only; safe while a worker runs. There is no index on recipient or event id on
purpose (random keys would cost every letter): a search reads the table, about a second a million rows.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from postroom.adapters.ledger.rows import moment


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try at a letter."""

    at: datetime
    result: str
    stage: str | None
    code: int | None
    text: str | None
    revision: str | None


@dataclass(frozen=True, slots=True)
class LetterView:
    """What the ledger knows of one letter."""

    row: int
    profile: str
    source: str
    event_id: str
    event_type: str
    recipient: str
    state: str
    doubts: int
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


_COLUMNS = (
    *("row", "profile", "source", "event_id", "event_type", "recipient", "state", "doubts", "due", "code"),
    *("reason", "reply", "template", "revision", "message_id", "topic", "partition", "offset", "user_id"),
    *("request_id", "received_at", "updated_at"),
)
_LETTER = f"SELECT {', '.join(_COLUMNS)} FROM letter"  # noqa: S608 - constant names


class LedgerReader:
    """A read-only view of one ledger file; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def counts(self) -> dict[str, int]:
        """Letters by state."""
        return dict(self._db.execute("SELECT state, count(*) FROM letter GROUP BY state"))

    def waiting_dead_letters(self) -> int:
        """Dead letters that the broker has not acknowledged yet."""
        count: int = self._db.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return count

    def latest(self, limit: int = 20) -> Sequence[LetterView]:
        """The newest letters first, without their attempts."""
        return [_letter(row) for row in self._db.execute(f"{_LETTER} ORDER BY row DESC LIMIT ?", (limit,))]

    def find(self, wanted: str, limit: int = 50) -> Sequence[LetterView]:
        """Letters by event id, Message-ID, request id, user id or recipient, oldest first, with attempts."""
        key = wanted.strip()
        where = "WHERE ? IN (event_id, message_id, request_id, user_id) OR recipient = ? COLLATE NOCASE"
        rows = self._db.execute(f"{_LETTER} {where} ORDER BY row LIMIT ?", (key, key, limit)).fetchall()
        return [_letter(row, self._attempts(row[0])) for row in rows]

    def _attempts(self, row: int) -> tuple[AttemptView, ...]:
        found = self._db.execute(
            "SELECT at, result, stage, code, text, revision FROM attempt WHERE row = ? ORDER BY id", (row,)
        )
        return tuple(AttemptView(moment(at), *rest) for at, *rest in found)


def _letter(row: tuple[Any, ...], attempts: tuple[AttemptView, ...] = ()) -> LetterView:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["received"], values["updated"] = (
        moment(values.pop("received_at")),
        moment(values.pop("updated_at")),
    )
    values["due"] = None if values["due"] is None else moment(values["due"])
    return LetterView(**values, attempts=attempts)
