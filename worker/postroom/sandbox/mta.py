"""The mail server of the sandbox: stores every letter and relays none.

Input: SMTP sessions (postroom.smtpd). Output: `LetterStore.capture`; the reply 250 is sent only after the
letter is on disk. Failure: a letter that cannot be stored is refused with 452, and its sender keeps it.
"""

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from postroom import smtpd
from postroom.http.endpoint import Endpoint
from postroom.sandbox.mime import SmtpEnvelope, StoredLetter
from postroom.sandbox.store import LetterStore
from postroom.smtpd import ReceivedMail, ServerLimits, ServerStats, SmtpServer

MAX_LETTER_BYTES = 25 * 1024 * 1024
GREETING = "Postroom sandbox: letters stay here"

OnCaptured = Callable[[StoredLetter], None]


@dataclass(slots=True)
class CaptureStats(ServerStats):
    """Counts of the mail server since its start, for the metrics."""

    captured: int = 0
    captured_bytes: int = 0


class CaptureHandler(smtpd.MailHandler):
    """Stores letters, counts them, and calls `on_captured` for each."""

    def __init__(self, store: LetterStore, on_captured: OnCaptured, stats: CaptureStats) -> None:
        super().__init__(ServerLimits("sandbox", GREETING, MAX_LETTER_BYTES, MAX_LETTER_BYTES), stats)
        self._store = store
        self._on_captured = on_captured
        self._stats = stats

    async def take(self, incoming: ReceivedMail) -> str:
        """Store a letter and return the reply to the end of its data."""
        envelope = SmtpEnvelope(incoming.mail_from, incoming.recipients, incoming.peer)
        try:
            letter = await asyncio.wrap_future(self._store.capture(envelope, incoming.content))
        except sqlite3.Error as error:
            self._stats.refused["storage"] += 1
            return f"452 4.3.1 Letter not stored: {' '.join(str(error).split())}"
        self._stats.captured += 1
        self._stats.captured_bytes += len(incoming.content)
        self._on_captured(letter)
        return f"250 2.0.0 Stored as letter {letter.id}"


class MailServer(SmtpServer):
    """The sandbox's SMTP listener and its sessions, on the running event loop."""

    def __init__(
        self, store: LetterStore, on_captured: OnCaptured, stats: CaptureStats | None = None
    ) -> None:
        self.stats = stats or CaptureStats()
        super().__init__(CaptureHandler(store, on_captured, self.stats))

    async def start(self, listening: socket.socket) -> Endpoint:
        """Accept sessions on a listening socket; returns its endpoint."""
        return Endpoint(*await super().start(listening))
