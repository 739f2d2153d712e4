"""The socket of an SMTP connection, with and without TLS, and the count of bytes that the kernel accepted.

`HandshakeStream` serves while a session is opened: one command, one reply, with `await`; the dialer limits
the time of each call. `SocketTransport` takes over when letters are sent: bytes in from the event loop's
reader, bytes out at once or from a backlog. `TlsRecords` encrypts in memory (RFC 8446, RFC 3207), so that the
owner of the socket can count which records have left.

asyncio's transports discard their buffer when a connection breaks, and with it the information whether the
end of data was sent. `SocketTransport` therefore owns its socket, and `end_of_data_sent` is exact: the kernel
has accepted the last byte of the content. Under TLS it has accepted the last byte of the last record of the
content, which is encrypted apart from the commands after it. A relay cannot authenticate an incomplete record
(RFC 8446 §5.2), so until then the relay cannot have read the end of data. Bytes that were only encrypted do
not count.

Failure: `HandshakeStream` raises OSError or `ProtocolError`. `SocketTransport` calls
`on_broken(cause, reason)` once, from the event loop and never from within one of its own methods.
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
    """Builds the `SSLContext` of the settings, and builds it again when one of their files has changed."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._files = tuple(f for f in (tls.ca_file, tls.certificate_file, tls.key_file) if f is not None)
        self._seen: tuple[tuple[int, int, int], ...] | None = None
        self._context: ssl.SSLContext | None = None

    def current(self) -> ssl.SSLContext:
        """Return the context for the next connection; OSError when a file cannot be read or is no PEM."""
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
    """The TLS state of one connection, in memory: plaintext to records and records to plaintext."""

    __slots__ = ("_in", "_object", "_out")

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=server_name)

    def handshake(self, data: bytes) -> bool:
        """Process handshake bytes; True when the handshake is complete. Raises ssl.SSLError, an OSError."""
        self._in.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def pending(self) -> bytes:
        """Remove and return the records that must be sent now."""
        return self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt `data` into complete records."""
        if not data:
            return b""
        self._object.write(data)
        return self._out.read()

    def close_notify(self) -> bytes:
        """Build the closure alert, without which the relay must assume a truncation (RFC 8446 §6.1)."""
        with suppress(OSError):
            self._object.unwrap()
        return self._out.read()

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """Decrypt records; return the plaintext, and whether the relay has closed the TLS connection."""
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
    """The relay violated the protocol, or closed the connection."""


class HandshakeStream:
    """A connected, non-blocking socket, and the replies read from it that were not processed yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: TlsRecords | None = None
        self.replies = ReplyReader()
        self.unsolicited: list[tuple[int, bytes]] = []
        """Replies that arrived before their command."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Close the socket; further calls have no effect."""
        with suppress(OSError):
            self.sock.close()

    @property
    def literal(self) -> str:
        """The local address as an address literal, for EHLO without a host name (RFC 5321 §4.1.3)."""
        address = self.sock.getsockname()[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    async def command(self, line: str) -> tuple[int, bytes]:
        """Send a command and return its reply."""
        if self.unsolicited or self.replies.pending:
            raise ProtocolError("the relay sent a reply without a command")
        await self._send(line.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> tuple[int, bytes]:
        """Return the next reply; ProtocolError when it is invalid or the connection ends."""
        while not self.unsolicited:
            if self.replies.error is not None:
                raise ProtocolError(self.replies.error)
            self.unsolicited = self.replies.feed(await self._receive())
        return self.unsolicited.pop(0)

    async def start_tls(self, contexts: TlsContexts, server_name: str) -> None:
        """Run the TLS handshake. Clear text after the 220 may be injected and is rejected (CVE-2011-0411)."""
        if self.unsolicited or self.replies.pending:
            raise ProtocolError("the relay sent more bytes after its 220 to STARTTLS; they may be injected")
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


async def open_stream(host: str, port: int, seconds: float) -> HandshakeStream:
    """Connect to the first address of the host that accepts within its share of `seconds`.

    Raises the OSError of the last address when none accepts.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("the host name has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(seconds / len(found)):
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
    """Receives the bytes of a transport, and its failure."""

    def on_data(self, data: bytes) -> None: ...
    def on_broken(self, cause: CloseCause, reason: str) -> None: ...


class SocketTransport:
    """One open socket, with or without TLS."""

    def __init__(self, stream: HandshakeStream, reader: TransportReader) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket = stream.sock
        self._tls = stream.tls
        self._reader = reader
        self._backlog = bytearray()
        self._accepted = 0
        """Bytes passed to `_push` so far; under TLS bytes of records."""
        self._sent = 0
        """Bytes of these that the kernel has accepted."""
        self._checked_sent = 0
        """`_sent` at the last call of `progressed`."""
        self._content_end = 0
        """`_accepted` at the end of the last content."""
        self._closed = False
        self._broken = False
        """The socket failed; the reader is notified in the next iteration of the loop."""
        self._loop.add_reader(self._sock, self._readable)
        if self._tls is not None:
            self._loop.call_soon(self._decrypt, b"")

    def write(self, data: bytes) -> None:
        """Send bytes, or keep in the backlog what the socket does not accept now."""
        self._push(self._encrypt(data))

    def write_content(self, content: bytes, following: bytes) -> None:
        """Send a letter including its end of data, and the commands after it."""
        encrypted = self._encrypt(content)
        self._content_end = self._accepted + len(encrypted)
        self._push(encrypted + self._encrypt(following) if following else encrypted)

    @property
    def end_of_data_sent(self) -> bool:
        """Whether the kernel has accepted the last byte of the last content."""
        return self._sent >= self._content_end

    def progressed(self) -> bool:
        """Whether the kernel has accepted bytes since the last call."""
        before, self._checked_sent = self._checked_sent, self._sent
        return before != self._sent

    def close(self) -> None:
        """Close at once and discard the backlog."""
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
        """Return the records of `data`; without TLS, `data`. On failure `data` is counted and never sent."""
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
        elif (pending := self._tls.pending()) and not self._closed:
            self._push(pending)

    def _stop_writing(self, error: OSError) -> None:
        """Writing failed: read in the next iteration of the loop what the relay sent before."""
        self._broken = True
        self._loop.remove_writer(self._sock)
        self._loop.call_soon(self._read_remaining, error)

    def _read_remaining(self, error: OSError) -> None:
        if self._closed:
            return
        self._readable()
        self._on_connection_lost(error)

    def _on_connection_lost(self, error: OSError | None) -> None:
        """Close and notify the reader; called from the event loop only."""
        if self._closed:
            return
        self.close()
        reason = f"the connection broke: {error}" if error else "the relay closed the connection"
        self._reader.on_broken(CloseCause.CLOSED, reason)
