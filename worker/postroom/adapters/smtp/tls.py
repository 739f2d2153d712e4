"""TLS in memory: a client's contexts, and one connection's records (RFC 8446, RFC 3207).

Bytes are moved by whoever owns the socket, so that it knows which records have left.
"""

import ssl
from contextlib import suppress
from pathlib import Path

from postroom.adapters.smtp.settings import Tls, TlsMode

READ = 65536


class Contexts:
    """The `SSLContext` of the settings, built again when one of their files has changed."""

    def __init__(self, tls: Tls) -> None:
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


def _build(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.mode is TlsMode.OPPORTUNISTIC:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context


class Records:
    """One TLS connection over bytes: plain in → records out, records in → plain out."""

    __slots__ = ("_in", "_object", "_out")

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=server_name)

    def shake(self, data: bytes) -> bool:
        """Take a piece of the handshake; True when it is complete. ssl.SSLError, an OSError, ends it."""
        self._in.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def owed(self) -> bytes:
        """Records that must go to the relay now."""
        return self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        """The records that carry `data`, complete."""
        if not data:
            return b""
        self._object.write(data)
        return self._out.read()

    def farewell(self) -> bytes:
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
                piece = self._object.read(READ)
            except ssl.SSLWantReadError:
                return b"".join(plain), False
            except ssl.SSLZeroReturnError:
                return b"".join(plain), True
            if not piece:
                return b"".join(plain), True
            plain.append(piece)
