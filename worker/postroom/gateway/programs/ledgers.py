"""Look messages up in the ledgers of a folder, beside the workers that write them.

Read-only connections; a look reads whole tables, about a second a million letters, since a ledger has no
index on message ids on purpose.
"""

import sqlite3
from pathlib import Path

from postroom.adapters.ledger.reader import LedgerReader, LetterView
from postroom.gateway.status import Attempt, Status


class LedgerFolder:
    """Implements gateway.status.Letters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, message_id: str) -> list[Status]:
        """See the port."""
        found: list[LetterView] = []
        for path in sorted(self._folder.glob("*.sqlite")):
            try:
                with LedgerReader(path) as ledger:
                    found += ledger.find(message_id)
            except sqlite3.Error:  # being created at this very moment
                continue
        return [_status(letter) for letter in found if letter.event_id == message_id]


def _status(letter: LetterView) -> Status:
    return Status(
        id=letter.event_id,
        profile=letter.profile,
        event_type=letter.event_type,
        state=letter.state,
        code=letter.code,
        reason=letter.reason,
        template=letter.template,
        revision=letter.revision,
        message_id=letter.message_id,
        received=letter.received,
        updated=letter.updated,
        due=letter.due,
        doubts=letter.doubts,
        attempts=tuple(
            Attempt(one.at, one.result, one.stage, one.code, one.text, one.relay(letter.profile) or None)
            for one in letter.attempts
        ),
    )
