"""The mail server of the sandbox: takes every letter in, says 250 only once it is on disk, relays nothing.

An SMTP dialogue (postroom.smtpd) → `Store.capture`. When a letter cannot be stored its sender is told 452 and
keeps it.
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
    """What the server has done since it started; the metrics read it."""

    captured: int = 0
    captured_bytes: int = 0


class CaptureHandler(smtpd.MailHandler):
    """The store, the figures, and who is told of an arrival."""

    def __init__(self, store: LetterStore, on_captured: OnCaptured, stats: CaptureStats) -> None:
        super().__init__(ServerLimits("sandbox", GREETING, MAX_LETTER_BYTES, MAX_LETTER_BYTES), stats)
        self._store, self._on_captured, self._stats = store, on_captured, stats

    async def take(self, incoming: ReceivedMail) -> str:
        """Store a letter; the answer to its dot."""
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
    """The sandbox's listening socket and its sessions, on the running loop."""

    def __init__(
        self, store: LetterStore, on_captured: OnCaptured, stats: CaptureStats | None = None
    ) -> None:
        self.stats = stats or CaptureStats()
        super().__init__(CaptureHandler(store, on_captured, self.stats))

    async def start(self, listening: socket.socket) -> Endpoint:
        """See SmtpServer."""
        return Endpoint(*await super().start(listening))
