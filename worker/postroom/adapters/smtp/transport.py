"""TLS in memory: a client's contexts, and one connection's records (RFC 8446, RFC 3207).

Bytes are moved by whoever owns the socket, so that it knows which records have left.

A connection while it is being opened: one command, one reply, at leisure.

Commands in → replies out, by `await`; nothing here is on a letter's path. Whoever opens the connection
puts a time limit around each call. What is read beyond a reply stays for the wire that takes over.

A connected socket that knows exactly which bytes it has handed to the kernel.

asyncio's transports forget their buffer when a connection breaks, and with it whether the dot had left.
So this one owns its socket: bytes in from the event loop's reader, bytes out at once or from a backlog.

Under TLS the count is of records: content is encrypted apart from what follows it, and the dot has left
when the last byte of its last record was handed to the socket. A record that is cut short cannot be
authenticated by the relay, so a letter counts as unsent until then (RFC 8446 §5.2).

Failure: `lost(cause, reason)`, once, never from within a call of ours.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.reply import ReplyReader
from postroom.adapters.smtp.settings import TlsMode, TlsSettings

TLS_READ_BYTES = 65536


class TlsContexts:
    """The `SSLContext` of the settings, built again when one of their files has changed."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._files = tuple(f for f in (tls.ca_file, tls.certificate_file, tls.key_file) if f is not None)
        self._seen: tuple[tuple[int, int, int], ...] | None = None
        self._context: ssl.SSLContext | None = None

    def current(self) -> ssl.SSLContext:
        """A context for the next connection; OSError when a file can't be read or holds no PEM."""
        seen = tuple(_stamp(file) for file in self._files)
        if self._context is None or seen != self._seen:
            self._context = _build(self._tls)
            self._seen = seen
        return self._context


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


def _build(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.mode is TlsMode.OPPORTUNISTIC:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context


class TlsRecords:
    """One TLS connection over bytes: plain in → records out, records in → plain out."""

    __slots__ = ("_in", "_object", "_out")

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=server_name)

    def handshake(self, data: bytes) -> bool:
        """Take a piece of the handshake; True when it is complete. ssl.SSLError, an OSError, ends it."""
        self._in.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def pending(self) -> bytes:
        """Records that must go to the relay now."""
        return self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        """The records that carry `data`, complete."""
        if not data:
            return b""
        self._object.write(data)
        return self._out.read()

    def close_notify(self) -> bytes:
        """The closing alert, without which the other side must suspect a cut (RFC 8446 §6.1)."""
        with suppress(OSError):
            self._object.unwrap()
        return self._out.read()

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """Take records; give what is plain now, and whether the relay has ended the connection."""
        self._in.write(data)
        plain: list[bytes] = []
        while True:
            try:
                piece = self._object.read(TLS_READ_BYTES)
            except ssl.SSLWantReadError:
                return b"".join(plain), False
            except ssl.SSLZeroReturnError:
                return b"".join(plain), True
            if not piece:
                return b"".join(plain), True
            plain.append(piece)


HANDSHAKE_READ_BYTES = 16384


class ProtocolError(Exception):
    """The relay broke the protocol."""


class HandshakeStream:
    """A connected, non-blocking socket and what was read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: TlsRecords | None = None
        self.replies = ReplyReader()
        self.unsolicited: list[tuple[int, bytes]] = []
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
        if self.unsolicited or self.replies.pending:
            raise ProtocolError("the relay spoke out of turn")
        await self._send(line.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> tuple[int, bytes]:
        """The next reply; Garbled when the relay sends none or ends the connection."""
        while not self.unsolicited:
            if self.replies.error is not None:
                raise ProtocolError(self.replies.error)
            self.unsolicited = self.replies.feed(await self._receive())
        return self.unsolicited.pop(0)

    async def start_tls(self, contexts: TlsContexts, server_name: str) -> None:
        """Shake hands. What the relay sent in clear beyond its 220 is an injection (CVE-2011-0411)."""
        if self.unsolicited or self.replies.pending:
            raise ProtocolError("the relay sent more after its 220 to STARTTLS: injected, or broken")
        records = TlsRecords(contexts.current(), server_name)
        data = b""
        while True:
            try:
                complete = records.handshake(data)
            finally:
                await self._loop.sock_sendall(self.sock, records.pending())
            if complete:
                break
            data = await self._loop.sock_recv(self.sock, HANDSHAKE_READ_BYTES)
            if not data:
                raise ProtocolError("the relay closed the connection during the TLS handshake")
        self.tls = records

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data if self.tls is None else self.tls.encrypt(data))

    async def _receive(self) -> bytes:
        if self.tls is None:
            data = await self._loop.sock_recv(self.sock, HANDSHAKE_READ_BYTES)
            if not data:
                raise ProtocolError("the relay closed the connection")
            return data
        plain, ended = self.tls.decrypt(b"")
        while not plain and not ended:
            data = await self._loop.sock_recv(self.sock, HANDSHAKE_READ_BYTES)
            plain, ended = self.tls.decrypt(data) if data else (b"", True)
        if not plain:
            raise ProtocolError("the relay closed the connection")
        return plain


async def open_stream(host: str, port: int, patience: float) -> HandshakeStream:
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
            return HandshakeStream(sock)
    raise failure


READ_BYTES = 16384


class TransportReader(Protocol):
    """Who hears what the wire brings."""

    def on_data(self, data: bytes) -> None: ...
    def on_broken(self, cause: CloseCause, reason: str) -> None: ...


class SocketTransport:
    """One open socket, plain or under TLS."""

    def __init__(self, channel: HandshakeStream, reader: TransportReader) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket = channel.sock
        self._tls = channel.tls
        self._reader = reader
        self._backlog = bytearray()
        self._accepted = 0
        """Bytes given to `_push` so far, and how many of them the socket has taken."""
        self._sent = 0
        self._checked_sent = 0
        self._content_end = 0
        self._closed = False
        self._broken = False
        """The socket takes and gives nothing more; the reader is being told."""
        self._loop.add_reader(self._sock, self._readable)
        if self._tls is not None:
            self._loop.call_soon(self._decrypt, b"")

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket, or keep them until it takes them."""
        self._push(self._encrypt(data))

    def write_content(self, content: bytes, following: bytes) -> None:
        """Write a letter up to and with its dot, and the commands after it."""
        sealed = self._encrypt(content)
        self._content_end = self._accepted + len(sealed)
        self._push(sealed + self._encrypt(following) if following else sealed)

    @property
    def end_of_data_sent(self) -> bool:
        """Whether the socket has taken the last content to its last byte."""
        return self._sent >= self._content_end

    def progressed(self) -> bool:
        """Whether the socket has taken bytes since this was last asked."""
        before, self._checked_sent = self._checked_sent, self._sent
        return before != self._sent

    def close(self) -> None:
        """Close at once; what the socket has not taken is gone."""
        if self._closed:
            return
        if self._tls is not None and not self._broken and not self._backlog:
            with suppress(OSError):
                self._sock.send(self._tls.close_notify())
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _encrypt(self, data: bytes) -> bytes:
        """The records of `data`, or itself in clear. What can't be sealed is counted and never sent."""
        if self._tls is None or self._closed or self._broken:
            return data
        try:
            return self._tls.encrypt(data)
        except OSError as error:
            self._stop_writing(error)
            return data

    def _push(self, data: bytes) -> None:
        self._accepted += len(data)
        if self._closed or self._broken:
            return
        if self._backlog:
            self._backlog += data
            return
        try:
            taken = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError as error:
            self._stop_writing(error)
            return
        self._sent += taken
        if taken < len(data):
            self._backlog += memoryview(data)[taken:]
            self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        if self._closed:
            return
        try:
            taken = self._sock.send(self._backlog)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._stop_writing(error)
            return
        self._sent += taken
        del self._backlog[:taken]
        if not self._backlog:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        if self._closed:
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._on_connection_lost(error)
            return
        if not data:
            self._on_connection_lost(None)
        elif self._tls is None:
            self._reader.on_data(data)
        else:
            self._decrypt(data)

    def _decrypt(self, data: bytes) -> None:
        if self._closed or self._tls is None:
            return
        try:
            plain, ended = self._tls.decrypt(data)
        except OSError as error:
            self._on_connection_lost(error)
            return
        if plain:
            self._reader.on_data(plain)
        if ended and not self._closed:
            self._on_connection_lost(None)
        elif (owed := self._tls.pending()) and not self._closed:
            self._push(owed)

    def _stop_writing(self, error: OSError) -> None:
        """The socket refuses bytes: hear in the loop's next turn what the relay had said before."""
        self._broken = True
        self._loop.remove_writer(self._sock)
        self._loop.call_soon(self._read_remaining, error)

    def _read_remaining(self, error: OSError) -> None:
        if self._closed:
            return
        self._readable()
        self._on_connection_lost(error)

    def _on_connection_lost(self, error: OSError | None) -> None:
        """Stop for good and tell the reader; only ever called by the loop."""
        if self._closed:
            return
        self.close()
        reason = f"the connection broke: {error}" if error else "the relay closed the connection"
        self._reader.on_broken(CloseCause.CLOSED, reason)
