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
from postroom.sandbox.store import Store
from postroom.sandbox.summary import Envelope, Summary
from postroom.smtpd import Incoming, SmtpServer, Terms, Traffic
from postroom.web import Endpoint

MAX_LETTER = 25 * 1024 * 1024
GREETING = "Postroom sandbox: letters stay here"

Arrived = Callable[[Summary], None]


@dataclass(slots=True)
class Tally(Traffic):
    """What the server has done since it started; the metrics read it."""

    captured: int = 0
    captured_bytes: int = 0


class Desk(smtpd.Desk):
    """The store, the figures, and who is told of an arrival."""

    def __init__(self, store: Store, arrived: Arrived, tally: Tally) -> None:
        super().__init__(Terms("sandbox", GREETING, MAX_LETTER, MAX_LETTER), tally)
        self._store, self._arrived, self._tally = store, arrived, tally

    async def take(self, incoming: Incoming) -> str:
        """Store a letter; the answer to its dot."""
        envelope = Envelope(incoming.mail_from, incoming.recipients, incoming.peer)
        try:
            letter = await asyncio.wrap_future(self._store.capture(envelope, incoming.content))
        except sqlite3.Error as error:
            self._tally.refused["storage"] += 1
            return f"452 4.3.1 Letter not stored: {' '.join(str(error).split())}"
        self._tally.captured += 1
        self._tally.captured_bytes += len(incoming.content)
        self._arrived(letter)
        return f"250 2.0.0 Stored as letter {letter.id}"


class MailServer(SmtpServer):
    """The sandbox's listening socket and its sessions, on the running loop."""

    def __init__(self, store: Store, arrived: Arrived, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        super().__init__(Desk(store, arrived, self.tally))

    async def start(self, listening: socket.socket) -> Endpoint:
        """See SmtpServer."""
        return Endpoint(*await super().start(listening))
