"""An SMTP server on aiosmtpd, shared by the sandbox and the bounce intake.

In: a `MailHandler`, which accepts recipients and stores mail, and a listening socket. Out: each received mail
is passed to `MailHandler.take`; the reply 250 follows when the handler has stored it.

EHLO offers PIPELINING, 8BITMIME, SIZE and SMTPUTF8, but neither STARTTLS nor AUTH. Only CRLF ends a line: a
`.` between bare line feeds is content (CVE-2023-51764, CVE-2024-27305).

Failure: content over the limit is rejected with 552 and the session continues. An exception of the handler is
replied with 451. A session over the limit is closed with 421.
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

MAX_LINE = 1000  # including CRLF, RFC 5321 §4.5.3.1.6
MAX_RECIPIENTS = 1000
_STREAM_LIMIT = 65_536
_IDLE_SECONDS = 300.0
_END = b"\r\n.\r\n"
# Matches the path of nearly every letter; the library parses all others, at ten times the cost.
_PLAIN_PATH = re.compile(
    r"\s*<([\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*)>( .*)?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of a server, its name and its greeting."""

    name: str
    """The name in replies, for example `sandbox`."""
    greeting: str
    max_bytes: int
    """A larger message is rejected."""
    kept_bytes: int
    """The bytes from the beginning of a message that are passed to the handler."""
    recipients: int = MAX_RECIPIENTS
    sessions: int = 10_000
    long_lines: bool = False  # whether lines over the limit of the standard are accepted


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A received message, after removal of the dot-stuffing."""

    mail_from: str
    """Empty: the null reverse-path of notifications."""
    recipients: tuple[str, ...]
    peer: str
    """The IP address of the client; empty for a socket without one."""
    content: bytes


@dataclass(slots=True)
class ServerStats:
    """Counters since the start, read by the metrics."""

    sessions: int = 0
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    """Rejections by reason: too_large, line_too_long, busy, internal_error, and those of the handler."""


class MailHandler(ABC):
    """Shared by all sessions: accepts recipients and stores mail.

    `idle` is set while no client waits for the reply to its end of data.
    """

    def __init__(self, limits: ServerLimits, stats: ServerStats) -> None:
        self.limits, self.stats = limits, stats
        self.hostname = socket.gethostname() or limits.name
        self.sessions: set[SmtpSession] = set()
        self.idle = asyncio.Event()
        self.idle.set()
        self._unanswered = 0

    @abstractmethod
    async def take(self, incoming: ReceivedMail) -> str:
        """Store a mail; return the reply to its end of data."""

    def refuse(self, address: str) -> str | None:
        """Return the reply that rejects a recipient; None accepts it."""
        return None

    async def answer(self, incoming: ReceivedMail) -> str:
        """Store a mail and keep `idle` up to date."""
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
        """Add the extensions of this server to those of the library, without AUTH."""
        session.host_name = hostname
        offered = [line for line in responses[:-1] if not line.startswith("250-AUTH")]
        return [*offered, "250-PIPELINING", responses[-1]]

    async def handle_RCPT(  # noqa: N802 - the signature is aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Transaction, address: str, options: list[str]
    ) -> str:
        """Accept recipients up to the limit."""
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
        """Reply to an internal error, without its text; the client keeps the letter."""
        self.stats.refused["internal_error"] += 1
        return f"451 4.3.0 The {self.limits.name} had an internal error; try again"


class SmtpSession(SMTP):
    """One SMTP session. Reads content in blocks, because a call per line is most of the cost of a letter."""

    line_length_limit = _STREAM_LIMIT

    def __init__(self, handler: MailHandler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            handler,
            data_size_limit=handler.limits.max_bytes,
            enable_SMTPUTF8=True,
            hostname=handler.hostname,
            ident=handler.limits.greeting,
            timeout=_IDLE_SECONDS,
            loop=loop,
        )
        self.handler = handler
        self._replies = bytearray()
        # The library shares this table between all sessions and extends it at each EHLO.
        self.command_size_limits = collections.defaultdict(lambda: self.command_size_limit)

    async def push(self, status: str | bytes) -> None:
        """Queue a reply; the replies to a pipelined group are sent in one segment."""
        line = status.encode("utf-8", "replace") if isinstance(status, str) else status
        if not self._replies:
            self.loop.call_soon(self.flush)
        self._replies += line + b"\r\n"
        if not line.startswith((b"250", b"354")):
            self.flush()  # the session may end after this reply
        await self._writer.drain()

    def flush(self) -> None:
        """Send the queued replies."""
        replies, self._replies = bytes(self._replies), bytearray()
        if replies and self.transport is not None:
            self._writer.write(replies)

    def end(self) -> None:
        """Send 421 and close."""
        if self.transport is not None and not self.transport.is_closing():
            self._replies += f"421 4.3.2 The {self.handler.limits.name} is closing\r\n".encode()
            self.flush()
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the session with the handler."""
        super().connection_made(transport)
        self.handler.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Remove the session from the handler."""
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
        """Read the content and send the reply of the handler."""
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
            answer = f"552 5.3.4 Letter is larger than {self.handler.limits.max_bytes} bytes"
        else:
            answer = await self._answer_to(content, self.envelope)
        self.envelope = self._create_envelope()
        await self.push(answer)

    async def _read_content(self) -> bytes | None:
        """Read up to the end of data and no byte of the commands pipelined after it.

        Returns the bytes from the CRLF before the content to its last CRLF; None: the message is too large.
        """
        reader, limits = self._reader, self.handler.limits
        # The CRLF of the DATA command may be the one before the `.` (RFC 5321 §4.1.1.4).
        data, head, dropped = bytearray(_END[:2]), b"", 0
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
            if len(data) > limits.kept_bytes + 1024:
                head = head or bytes(data[: limits.kept_bytes])
                dropped += len(data) - len(_END)
                del data[: -len(_END)]
        if dropped + len(data) > limits.max_bytes + len(_END):
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
            # a dot is doubled only at the start of a line, and only CRLF ends a line (§4.5.2)
            content=content.replace(b"\r\n.", b"\r\n")[2:],
        )
        return await self.handler.answer(incoming)


class OverloadProtocol(asyncio.Protocol):
    """Rejects a session over the limit with 421."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"421 4.3.2 The {self._name} has too many sessions; try again\r\n".encode())
        transport.close()


class SmtpServer:
    """Runs the listening socket and its sessions on the running event loop."""

    def __init__(self, handler: MailHandler, session_type: type[SmtpSession] = SmtpSession) -> None:
        self.handler = handler
        self._session_type = session_type
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> tuple[str, int]:
        """Serve on a bound socket, which `stop` closes; return its host and port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._open, sock=listening)
        host, port = listening.getsockname()[:2]
        return host, port

    async def stop(self, grace: float = 5.0) -> None:
        """Stop accepting, wait at most `grace` seconds for pending replies, close all sessions."""
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
        """The number of open connections."""
        return len(self.handler.sessions)

    def _open(self) -> asyncio.BaseProtocol:
        self.handler.stats.sessions += 1
        if len(self.handler.sessions) >= self.handler.limits.sessions:
            self.handler.stats.refused["busy"] += 1
            return OverloadProtocol(self.handler.limits.name)
        return self._session_type(self.handler, asyncio.get_running_loop())
