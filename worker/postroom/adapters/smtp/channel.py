"""A connection while it is being opened: one command, one reply, at leisure.

Commands in → replies out, by `await`; nothing here is on a letter's path. Whoever opens the connection
puts a time limit around each call. What is read beyond a reply stays for the wire that takes over.
"""

import asyncio
import socket
from contextlib import suppress

from postroom.adapters.smtp.reply import ReplyReader
from postroom.adapters.smtp.tls import Contexts, Records

READ = 16384


class Garbled(Exception):
    """The relay broke the protocol."""


class Channel:
    """A connected, non-blocking socket and what was read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: Records | None = None
        self.replies = ReplyReader()
        self.early: list[tuple[int, bytes]] = []
        """Replies that came before they were asked for."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Close the socket; again is harmless."""
        with suppress(OSError):
            self.sock.close()

    @property
    def literal(self) -> str:
        """Our address as EHLO wants it when we have no name (RFC 5321 §4.1.3)."""
        address = self.sock.getsockname()[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    async def command(self, line: str) -> tuple[int, bytes]:
        """Send a command, give its reply."""
        if self.early or self.replies.pending:
            raise Garbled("the relay spoke out of turn")
        await self._send(line.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> tuple[int, bytes]:
        """The next reply; Garbled when the relay sends none or ends the connection."""
        while not self.early:
            if self.replies.fault is not None:
                raise Garbled(self.replies.fault)
            self.early = self.replies.feed(await self._receive())
        return self.early.pop(0)

    async def start_tls(self, contexts: Contexts, server_name: str) -> None:
        """Shake hands. What the relay sent in clear beyond its 220 is an injection (CVE-2011-0411)."""
        if self.early or self.replies.pending:
            raise Garbled("the relay sent more after its 220 to STARTTLS: injected, or broken")
        records = Records(contexts.current(), server_name)
        data = b""
        while True:
            try:
                complete = records.shake(data)
            finally:
                await self._loop.sock_sendall(self.sock, records.owed())
            if complete:
                break
            data = await self._loop.sock_recv(self.sock, READ)
            if not data:
                raise Garbled("the relay closed the connection during the TLS handshake")
        self.tls = records

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data if self.tls is None else self.tls.encrypt(data))

    async def _receive(self) -> bytes:
        if self.tls is None:
            data = await self._loop.sock_recv(self.sock, READ)
            if not data:
                raise Garbled("the relay closed the connection")
            return data
        plain, ended = self.tls.decrypt(b"")
        while not plain and not ended:
            data = await self._loop.sock_recv(self.sock, READ)
            plain, ended = self.tls.decrypt(data) if data else (b"", True)
        if not plain:
            raise Garbled("the relay closed the connection")
        return plain


async def connect(host: str, port: int, patience: float) -> Channel:
    """Connect to the first address of the host that answers within its share of `patience` seconds.

    OSError when none does: the last address's own.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(patience / len(found)):
                await loop.sock_connect(sock, address)
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return Channel(sock)
    raise failure
