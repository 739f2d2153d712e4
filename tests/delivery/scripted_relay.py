"""An SMTP server on 127.0.0.1 that follows a script: the faults of real relays, at every stage.

`ScriptedRelay(script={"RCPT": ["451 4.7.1 greylisted", OK]})` answers the first RCPT with 451, the second as
usual, and every later one as usual. It records what it received.
"""

import asyncio
import socket
import ssl
import struct
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic


@dataclass(frozen=True)
class Raw:
    """Bytes in place of a reply; `then_drop` closes the connection after them."""

    data: bytes
    then_drop: bool = False


@dataclass(frozen=True)
class Wait:
    """The usual answer, once the event is set."""

    event: asyncio.Event


@dataclass(frozen=True)
class Stall:
    """Read a little of the content and no more; say `words` if any, and go away when the event is set."""

    event: asyncio.Event
    words: bytes = b""


OK = None
"""The usual answer."""
DROP = Raw(b"", then_drop=True)
RESET = "reset"
"""Ends the connection with RST."""
SILENCE = "silence"
"""No answer, ever."""

Step = str | Raw | Wait | None
FULL = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
USUAL = {
    "greeting": "220 scripted ESMTP",
    "HELO": "250 scripted",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "DOT": "250 2.0.0 queued",
    "RSET": "250 2.0.0 flushed",
    "QUIT": "221 2.0.0 bye",
}


@dataclass
class Seen:
    """One letter as it came over the wire, whatever was answered."""

    sender: str
    recipients: list[str]
    content: bytes
    answer: str = ""
    at: float = field(default_factory=monotonic)
    """When its content had ended, by monotonic seconds."""


@dataclass
class ScriptedRelay:
    """The server; start it with `async with served(relay)`."""

    script: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    extensions: Sequence[str] = FULL
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    stall: Stall | None = None
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    secured: int = 0
    """Connections whose EHLO came under TLS."""
    unfinished: int = 0
    """Contents that ended without their dot."""
    delay: float = 0.0
    """Seconds before each dot is answered."""

    def __post_init__(self) -> None:
        self.steps: dict[str, deque[Step]] = defaultdict(deque)
        for verb, steps in self.script.items():
            self.steps[verb].extend(steps)

    def admits(self, _words: str) -> bool:
        """Whether a login is good, by what stood behind AUTH."""
        return True

    @property
    def accepted(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.answer.startswith("250")]

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await Session(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, Gone):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Gone(Exception):
    """The script ended the connection."""


class Session:
    """One connection."""

    def __init__(
        self, relay: ScriptedRelay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.relay, self.reader, self.writer = relay, reader, writer
        self.secure = relay.implicit_tls
        self.letter = Seen("", [], b"")

    async def run(self) -> None:
        await self.answer("greeting")
        while line := await self.reader.readline():
            command = line.decode("utf-8", "replace").rstrip("\r\n")
            self.relay.commands.append(command)
            await self.obey(command)

    async def obey(self, command: str) -> None:
        verb, _, rest = command.partition(" ")
        match verb.upper():
            case "EHLO":
                await self.greet()
            case "STARTTLS":
                await self.start_tls()
            case "AUTH":
                await self.log_in(rest)
            case "MAIL":
                if (await self.answer("MAIL")).startswith("250"):
                    self.letter = Seen(_path(rest), [], b"")
            case "RCPT":
                usual = None if self.letter.sender else "503 5.5.1 MAIL first"
                if (await self.answer("RCPT", usual)).startswith("250"):
                    self.letter.recipients.append(_path(rest))
            case "DATA":
                usual = None if self.letter.recipients else "503 5.5.1 no recipients"
                if (await self.answer("DATA", usual)).startswith("354"):
                    await self.read_content()
            case other:
                await self.end_transaction(other)

    async def end_transaction(self, verb: str) -> None:
        self.letter = Seen("", [], b"")
        await self.answer(verb)
        if verb == "QUIT":
            raise Gone

    async def start_tls(self) -> None:
        if (await self.answer("STARTTLS")).startswith("220"):
            assert self.relay.tls is not None
            await self.writer.start_tls(self.relay.tls)
            self.secure = True

    async def greet(self) -> None:
        self.relay.secured += self.secure
        lines = ["scripted", *self.relay.extensions]
        if self.relay.tls is not None and not self.secure:
            lines.append("STARTTLS")
        usual = [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]
        await self.answer("EHLO", "\r\n".join(usual))

    async def log_in(self, rest: str) -> None:
        if rest.upper() == "LOGIN":
            for challenge in ("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"):
                await self.send(challenge)
                self.relay.commands.append((await self.reader.readline()).decode().rstrip("\r\n"))
        await self.answer("AUTH", None if self.relay.admits(rest) else "535 5.7.8 authentication failed")

    async def read_content(self) -> None:
        content = b""
        if self.relay.stall is not None:
            await self.stall(self.relay.stall)
        try:
            while (line := await self.reader.readuntil(b"\n")) != b".\r\n":
                content += line
        except asyncio.IncompleteReadError:
            self.relay.unfinished += bool(content)
            raise
        letter = Seen(self.letter.sender, self.letter.recipients, content)
        self.relay.seen.append(letter)
        self.letter = Seen("", [], b"")
        await asyncio.sleep(self.relay.delay)
        letter.answer = await self.answer("DOT")

    async def stall(self, stall: Stall) -> None:
        await self.reader.readexactly(1000)
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.writer.write(stall.words)
        await stall.event.wait()
        self.writer.transport.abort()
        raise Gone

    async def answer(self, verb: str, usual: str | None = None) -> str:
        steps = self.relay.steps[verb]
        step = steps.popleft() if steps else OK
        reply = usual or USUAL.get(verb, "250 ok")
        if isinstance(step, Wait):
            await step.event.wait()
        elif step == SILENCE:
            await asyncio.Event().wait()
        elif isinstance(step, Raw):
            self.writer.write(step.data)
            if step.then_drop:
                raise Gone
            return ""
        elif step == RESET:
            sock: socket.socket = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
            raise Gone
        elif step is not None:
            reply = step
        await self.send(reply)
        if reply.startswith("421"):
            raise Gone
        return reply

    async def send(self, reply: str) -> None:
        self.writer.write(reply.encode() + b"\r\n")
        await self.writer.drain()


@asynccontextmanager
async def served(relay: ScriptedRelay) -> AsyncIterator[ScriptedRelay]:
    """Listen on a free port of 127.0.0.1 until the block ends; open connections are cut then."""
    context = relay.tls if relay.implicit_tls else None
    running: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        await relay.converse(reader, writer)
        running.discard(task)

    server = await asyncio.start_server(converse, "127.0.0.1", relay.port, ssl=context)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


def _path(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]
