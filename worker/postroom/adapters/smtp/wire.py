"""A connected socket that knows exactly which bytes it has handed to the kernel.

asyncio's transports forget their buffer when a connection breaks, and with it whether the dot had left.
So this one owns its socket: bytes in from the event loop's reader, bytes out at once or from a backlog.

Under TLS the count is of records: content is encrypted apart from what follows it, and the dot has left
when the last byte of its last record was handed to the socket. A record that is cut short cannot be
authenticated by the relay, so a letter counts as unsent until then (RFC 8446 §5.2).

Failure: `lost(cause, reason)`, once, never from within a call of ours.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Protocol

from postroom.adapters.smtp.channel import Channel
from postroom.adapters.smtp.counters import Cause

READ = 16384


class Reader(Protocol):
    """Who hears what the wire brings."""

    def receive(self, data: bytes) -> None: ...
    def broken(self, cause: Cause, reason: str) -> None: ...


class Wire:
    """One open socket, plain or under TLS."""

    def __init__(self, channel: Channel, reader: Reader) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket = channel.sock
        self._tls = channel.tls
        self._reader = reader
        self._backlog = bytearray()
        self._handed = 0
        """Bytes given to `_push` so far, and how many of them the socket has taken."""
        self._sent = 0
        self._asked_at = 0
        self._dot_at = 0
        self._closed = False
        self._broken = False
        """The socket takes and gives nothing more; the reader is being told."""
        self._loop.add_reader(self._sock, self._readable)
        if self._tls is not None:
            self._loop.call_soon(self._decrypt, b"")

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket, or keep them until it takes them."""
        self._push(self._seal(data))

    def write_content(self, content: bytes, following: bytes) -> None:
        """Write a letter up to and with its dot, and the commands after it."""
        sealed = self._seal(content)
        self._dot_at = self._handed + len(sealed)
        self._push(sealed + self._seal(following) if following else sealed)

    @property
    def dot_sent(self) -> bool:
        """Whether the socket has taken the last content to its last byte."""
        return self._sent >= self._dot_at

    def progressed(self) -> bool:
        """Whether the socket has taken bytes since this was last asked."""
        before, self._asked_at = self._asked_at, self._sent
        return before != self._sent

    def close(self) -> None:
        """Close at once; what the socket has not taken is gone."""
        if self._closed:
            return
        if self._tls is not None and not self._broken and not self._backlog:
            with suppress(OSError):
                self._sock.send(self._tls.farewell())
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _seal(self, data: bytes) -> bytes:
        """The records of `data`, or itself in clear. What can't be sealed is counted and never sent."""
        if self._tls is None or self._closed or self._broken:
            return data
        try:
            return self._tls.encrypt(data)
        except OSError as error:
            self._fall_silent(error)
            return data

    def _push(self, data: bytes) -> None:
        self._handed += len(data)
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
            self._fall_silent(error)
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
            self._fall_silent(error)
            return
        self._sent += taken
        del self._backlog[:taken]
        if not self._backlog:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        if self._closed:
            return
        try:
            data = self._sock.recv(READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(error)
            return
        if not data:
            self._break(None)
        elif self._tls is None:
            self._reader.receive(data)
        else:
            self._decrypt(data)

    def _decrypt(self, data: bytes) -> None:
        if self._closed or self._tls is None:
            return
        try:
            plain, ended = self._tls.decrypt(data)
        except OSError as error:
            self._break(error)
            return
        if plain:
            self._reader.receive(plain)
        if ended and not self._closed:
            self._break(None)
        elif (owed := self._tls.owed()) and not self._closed:
            self._push(owed)

    def _fall_silent(self, error: OSError) -> None:
        """The socket refuses bytes: hear in the loop's next turn what the relay had said before."""
        self._broken = True
        self._loop.remove_writer(self._sock)
        self._loop.call_soon(self._hear_last_words, error)

    def _hear_last_words(self, error: OSError) -> None:
        if self._closed:
            return
        self._readable()
        self._break(error)

    def _break(self, error: OSError | None) -> None:
        """Stop for good and tell the reader; only ever called by the loop."""
        if self._closed:
            return
        self.close()
        reason = f"the connection broke: {error}" if error else "the relay closed the connection"
        self._reader.broken(Cause.CLOSED, reason)
