"""The mail server of the sandbox: takes every letter in, says 250 only once it is on disk, relays nothing.

An SMTP dialogue → `Store.capture`. EHLO offers PIPELINING, 8BITMIME, SIZE and SMTPUTF8; neither STARTTLS nor
AUTH. A letter over the limit is refused with 552 and the session goes on. When a letter cannot be stored its
sender is told 452 and keeps it. Lines end in CRLF and in nothing else: a dot between bare line feeds is
content (CVE-2023-51764, CVE-2024-27305).
"""

import asyncio
import collections
import contextlib
import re
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Session, syntax
from aiosmtpd.smtp import Envelope as Transaction

from postroom.sandbox.store import Store
from postroom.sandbox.summary import Envelope, Summary
from postroom.web import Endpoint

MAX_LETTER = 25 * 1024 * 1024
MAX_LINE = 1000  # CRLF included, RFC 5321 §4.5.3.1.6
MAX_RECIPIENTS = 1000
GREETING = "Postroom sandbox: letters stay here"
_STREAM_LIMIT = 65_536
_IDLE_SECONDS = 300.0
_END = b"\r\n.\r\n"
# The path that nearly every letter has; all others are read by the library, at ten times the cost.
_PLAIN_PATH = re.compile(
    r"\s*<([\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*)>( .*)?\Z",
    re.ASCII,
)

Arrived = Callable[[Summary], None]


@dataclass(slots=True)
class Tally:
    """What the server has done since it started; the metrics read it."""

    captured: int = 0
    captured_bytes: int = 0
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    sessions: int = 0


class _Oversize(Exception):
    """More bytes came than one letter may have."""


class Dialogue(SMTP):
    """One SMTP session. Content is read in blocks, since a call a line would be most of a letter's cost."""

    line_length_limit = _STREAM_LIMIT

    def __init__(self, desk: "Desk", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            desk,
            data_size_limit=MAX_LETTER,
            enable_SMTPUTF8=True,
            hostname=desk.hostname,
            ident=GREETING,
            timeout=_IDLE_SECONDS,
            loop=loop,
        )
        self.desk = desk
        # The library shares this table between all sessions and grows it at each EHLO.
        self.command_size_limits = collections.defaultdict(lambda: self.command_size_limit)

        self._replies = bytearray()

    async def push(self, status: str | bytes) -> None:
        """Answer; the answers to a pipelined group leave in one segment."""
        line = status.encode("utf-8", "replace") if isinstance(status, str) else status
        if not self._replies:
            self.loop.call_soon(self.flush)
        self._replies += line + b"\r\n"
        if not line.startswith((b"250", b"354")):
            self.flush()  # the session may end with this answer
        await self._writer.drain()

    def flush(self) -> None:
        """Write the answers that have gathered."""
        replies, self._replies = bytes(self._replies), bytearray()
        if replies and self.transport is not None:
            self._writer.write(replies)

    def end(self) -> None:
        """Say goodbye and close."""
        if self.transport is not None and not self.transport.is_closing():
            self._replies += b"421 4.3.2 The sandbox is closing\r\n"
            self.flush()
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, and be known to the server until the connection ends."""
        super().connection_made(transport)
        self.desk.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session."""
        self.desk.sessions.discard(self)
        super().connection_lost(error)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        plain = _PLAIN_PATH.match(arg)
        if plain is None or len(plain.group(1).rpartition("@")[0]) > 64:
            address, rest = super()._getaddr(arg)
            return address, rest
        return plain.group(1), plain.group(2) or ""

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - the name is aiosmtpd's
        """Take the content in and answer with the stored letter's id."""
        assert self.envelope is not None
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        try:
            content = await self._read_content()
        except _Oversize:
            self.desk.tally.refused["too_large"] += 1
            answer = f"552 5.3.4 Letter is larger than {MAX_LETTER} bytes"
        else:
            answer = await self._answer_to(content, self.envelope)
        self.envelope = self._create_envelope()
        await self.push(answer)

    async def _read_content(self) -> bytes:
        """Read up to the lone dot, and not one byte of what was pipelined behind it."""
        reader = self._reader
        # The line end of DATA itself counts as the one before the dot (RFC 5321 §4.1.1.4).
        data, oversize = bytearray(_END[:2]), False
        while not data.endswith(_END):
            matched = next(n for n in (4, 3, 2, 1, 0) if data.endswith(_END[:n]))
            if matched:
                data += await reader.readexactly(len(_END) - matched)
                continue
            try:
                data += await reader.readuntil(_END)
            except asyncio.LimitOverrunError as overrun:
                data += await reader.read(overrun.consumed)
            self._reset_timeout()
            if len(data) > MAX_LETTER + 1024:
                oversize = True
                del data[: -len(_END)]
        if oversize or len(data) > MAX_LETTER + len(_END):
            raise _Oversize
        return bytes(data)

    async def _answer_to(self, content: bytes, transaction: Transaction) -> str:
        if max(map(len, content.split(b"\r\n"))) > MAX_LINE - 2:
            self.desk.tally.refused["line_too_long"] += 1
            return "500 5.6.0 Line too long (RFC 5321 section 4.5.3.1.6)"
        # A dot is doubled at the start of a line only, and a line starts after CRLF only (§4.5.2).
        raw = content.replace(b"\r\n.", b"\r\n")[2:-2]
        peer = self.session.peer if self.session else None
        envelope = Envelope(
            mail_from="" if transaction.mail_from == "<>" else str(transaction.mail_from),
            recipients=tuple(transaction.rcpt_tos),
            peer=str(peer[0]) if isinstance(peer, tuple) else "",
        )
        return await self.desk.take(envelope, raw)


class Desk:
    """What all sessions share: the store, the figures, and who is told of an arrival.

    `idle` is set while no sender waits for the disk.
    """

    def __init__(self, store: Store, arrived: Arrived, tally: Tally, hostname: str) -> None:
        self.store = store
        self.tally = tally
        self.hostname = hostname
        self.sessions: set[Dialogue] = set()
        self._arrived = arrived
        self._unanswered = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def take(self, envelope: Envelope, raw: bytes) -> str:
        """Store a letter; the answer to its dot."""
        self._unanswered += 1
        self.idle.clear()
        try:
            letter = await asyncio.wrap_future(self.store.capture(envelope, raw))
        except sqlite3.Error as error:
            self.tally.refused["storage"] += 1
            return f"452 4.3.1 Letter not stored: {' '.join(str(error).split())}"
        finally:
            self._unanswered -= 1
            if not self._unanswered:
                self.idle.set()
        self.tally.captured += 1
        self.tally.captured_bytes += len(raw)
        self._arrived(letter)
        return f"250 2.0.0 Stored as letter {letter.id}"

    async def handle_EHLO(  # noqa: N802 - the signature is aiosmtpd's
        self, _server: SMTP, session: Session, _envelope: Transaction, hostname: str, responses: list[str]
    ) -> list[str]:
        """Add what this server can do beyond the library's own list; offer no AUTH."""
        session.host_name = hostname
        offered = [line for line in responses[:-1] if not line.startswith("250-AUTH")]
        return [*offered, "250-PIPELINING", responses[-1]]

    async def handle_RCPT(  # noqa: N802 - the signature is aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Transaction, address: str, options: list[str]
    ) -> str:
        """Take every recipient, up to a bound."""
        if address == "<>":
            return "501 5.1.3 A recipient is needed, not an empty path"
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return f"452 4.5.3 At most {MAX_RECIPIENTS} recipients a letter"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_exception(self, _error: Exception) -> str:
        """A fault of ours: the sender keeps the letter; nothing of the fault's text is told."""
        self.tally.refused["fault"] += 1
        return "451 4.3.0 The sandbox could not do that; try again"


class MailServer:
    """The listening socket and its sessions, on the running loop."""

    def __init__(self, store: Store, arrived: Arrived, tally: Tally | None = None) -> None:
        self.tally = tally or Tally()
        self._desk = Desk(store, arrived, self.tally, socket.gethostname() or "sandbox")
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> Endpoint:
        """Serve on a bound socket, which it closes in the end; returns where it listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._open, sock=listening)
        return Endpoint(*listening.getsockname()[:2])

    async def stop(self, grace: float = 5.0) -> None:
        """Take no more sessions, answer those that wait for the disk, and close."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._desk.idle.wait()
        for session in list(self._desk.sessions):
            session.end()
        self._server = None

    def count_sessions(self) -> int:
        """How many connections are open."""
        return len(self._desk.sessions)

    def _open(self) -> asyncio.BaseProtocol:
        self.tally.sessions += 1
        return Dialogue(self._desk, asyncio.get_running_loop())
