"""The server's half of SMTP, for programs of ours that take mail in: a dialogue, what its sessions share, a
socket.

Whoever takes mail gives a `Desk` that says which recipients are its own and stores what came; 250 is said
when it has. EHLO offers PIPELINING, 8BITMIME, SIZE and SMTPUTF8; neither STARTTLS nor AUTH. Content over
the limit is refused with 552 and the session goes on. Lines end in CRLF and in nothing else: a dot between
bare line feeds is content (CVE-2023-51764, CVE-2024-27305).
"""

import asyncio
import collections
import contextlib
import re
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Session, syntax
from aiosmtpd.smtp import Envelope as Transaction

MAX_LINE = 1000  # CRLF included, RFC 5321 §4.5.3.1.6
MAX_RECIPIENTS = 1000
_STREAM_LIMIT = 65_536
_IDLE_SECONDS = 300.0
_END = b"\r\n.\r\n"
# The path that nearly every letter has; all others are read by the library, at ten times the cost.
_PLAIN_PATH = re.compile(
    r"\s*<([\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*)>( .*)?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a desk takes, and how it introduces itself."""

    name: str
    """`sandbox`: in what is said when it closes or fails."""
    greeting: str
    most_bytes: int
    """A message that is larger is refused."""
    kept_bytes: int
    """So much of a message is handed on, from its beginning."""
    recipients: int = MAX_RECIPIENTS
    sessions: int = 10_000
    long_lines: bool = False  # whether lines over the standard's limit are taken


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A message that came, without the dots that the transport had added."""

    mail_from: str
    """Empty: the null path of notifications."""
    recipients: tuple[str, ...]
    peer: str
    """The sender's address; empty where the line has none."""
    content: bytes


@dataclass(slots=True)
class ServerStats:
    """What the sessions came to since the start; metrics read it."""

    sessions: int = 0
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    """By why: too_large, line_too_long, busy, fault, and what the desk adds."""


class MailHandler(ABC):
    """What all sessions share. `idle` is set while no sender waits for the answer to its dot."""

    def __init__(self, terms: ServerLimits, traffic: ServerStats) -> None:
        self.limits, self.stats = terms, traffic
        self.hostname = socket.gethostname() or terms.name
        self.sessions: set[SmtpSession] = set()
        self.idle = asyncio.Event()
        self.idle.set()
        self._unanswered = 0

    @abstractmethod
    async def take(self, incoming: ReceivedMail) -> str:
        """Store what came; the answer to its dot."""

    def refuse(self, address: str) -> str | None:
        """Why this recipient is none of ours: the answer to RCPT; None where it is."""
        return None

    async def answer(self, incoming: ReceivedMail) -> str:
        """Store it, and count those that wait for it."""
        self._unanswered += 1
        self.idle.clear()
        try:
            return await self.take(incoming)
        finally:
            self._unanswered -= 1
            if not self._unanswered:
                self.idle.set()

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
        """Take recipients of ours, up to a bound."""
        if address == "<>":
            return "501 5.1.3 A recipient is needed, not an empty path"
        if (refusal := self.refuse(address)) is not None:
            return refusal
        if len(envelope.rcpt_tos) >= self.limits.recipients:
            return f"452 4.5.3 At most {self.limits.recipients} recipients a letter"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_exception(self, _error: Exception) -> str:
        """A fault of ours: the sender keeps its letter, and is told nothing of the fault's text."""
        self.stats.refused["fault"] += 1
        return f"451 4.3.0 The {self.limits.name} could not do that; try again"


class SmtpSession(SMTP):
    """One SMTP session. Content is read in blocks, since a call a line would be most of a letter's cost."""

    line_length_limit = _STREAM_LIMIT

    def __init__(self, desk: MailHandler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            desk,
            data_size_limit=desk.limits.most_bytes,
            enable_SMTPUTF8=True,
            hostname=desk.hostname,
            ident=desk.limits.greeting,
            timeout=_IDLE_SECONDS,
            loop=loop,
        )
        self.handler = desk
        self._replies = bytearray()
        # The library shares this table between all sessions and grows it at each EHLO.
        self.command_size_limits = collections.defaultdict(lambda: self.command_size_limit)

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
            self._replies += f"421 4.3.2 The {self.handler.limits.name} is closing\r\n".encode()
            self.flush()
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, and be known to the server until the connection ends."""
        super().connection_made(transport)
        self.handler.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the session."""
        self.handler.sessions.discard(self)
        super().connection_lost(error)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        plain = _PLAIN_PATH.match(arg)
        if plain is None or len(plain.group(1).rpartition("@")[0]) > 64:
            address, rest = super()._getaddr(arg)
            return address, rest
        return plain.group(1), plain.group(2) or ""

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - the name is aiosmtpd's
        """Take the content in and answer with what became of it."""
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
        content = await self._read_content()
        if content is None:
            self.handler.stats.refused["too_large"] += 1
            answer = f"552 5.3.4 Letter is larger than {self.handler.limits.most_bytes} bytes"
        else:
            answer = await self._answer_to(content, self.envelope)
        self.envelope = self._create_envelope()
        await self.push(answer)

    async def _read_content(self) -> bytes | None:
        """Read up to the lone dot, and not one byte of what was pipelined behind it.

        From CRLF to CRLF; None: there was more than a message may have.
        """
        reader, terms = self._reader, self.handler.limits
        # The line end of DATA itself counts as the one before the dot (RFC 5321 §4.1.1.4).
        data, head, gone = bytearray(_END[:2]), b"", 0
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
            if len(data) > terms.kept_bytes + 1024:
                head = head or bytes(data[: terms.kept_bytes])
                gone += len(data) - len(_END)
                del data[: -len(_END)]
        if gone + len(data) > terms.most_bytes + len(_END):
            return None
        return head + _END[:2] if head else bytes(data[: 2 - len(_END)])

    async def _answer_to(self, content: bytes, transaction: Transaction) -> str:
        lines_are_short = max(map(len, content.split(b"\r\n"))) <= MAX_LINE - 2
        if not (lines_are_short or self.handler.limits.long_lines):
            self.handler.stats.refused["line_too_long"] += 1
            return "500 5.6.0 Line too long (RFC 5321 section 4.5.3.1.6)"
        peer = self.session.peer if self.session else None
        incoming = ReceivedMail(
            mail_from="" if transaction.mail_from == "<>" else str(transaction.mail_from),
            recipients=tuple(transaction.rcpt_tos),
            peer=str(peer[0]) if isinstance(peer, tuple) else "",
            # a dot is doubled at the start of a line only, and a line starts after CRLF only (§4.5.2)
            content=content.replace(b"\r\n.", b"\r\n")[2:],
        )
        return await self.handler.answer(incoming)


class OverloadProtocol(asyncio.Protocol):
    """One session too many: it is asked to come again."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"421 4.3.2 The {self._name} has too many sessions; try again\r\n".encode())
        transport.close()


class SmtpServer:
    """The listening socket and its sessions, on the running loop."""

    def __init__(self, desk: MailHandler, dialogue: type[SmtpSession] = SmtpSession) -> None:
        self.handler = desk
        self._dialogue = dialogue
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> tuple[str, int]:
        """Serve on a bound socket, which it closes in the end; returns the host and port that it has."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._open, sock=listening)
        host, port = listening.getsockname()[:2]
        return host, port

    async def stop(self, grace: float = 5.0) -> None:
        """Take no more sessions, answer those that wait for their answer, and close."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.handler.idle.wait()
        for session in list(self.handler.sessions):
            session.end()
        self._server = None

    def count_sessions(self) -> int:
        """How many connections are open."""
        return len(self.handler.sessions)

    def _open(self) -> asyncio.BaseProtocol:
        self.handler.stats.sessions += 1
        if len(self.handler.sessions) >= self.handler.limits.sessions:
            self.handler.stats.refused["busy"] += 1
            return OverloadProtocol(self.handler.limits.name)
        return self._dialogue(self.handler, asyncio.get_running_loop())
