"""Opens SMTP sessions: connect, read the greeting, EHLO, STARTTLS, EHLO, AUTH.

In: `RelaySettings`. Out: a `Session`, which is the connected `HandshakeStream` and the `Capabilities` that
the relay lists in its reply to EHLO (RFC 5321 §4.1.1.1).

Failure: `DialError(stage, reason)`, with the text of the relay's reply if there is one. The socket is closed.
"""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from postroom.adapters.smtp.reply import printable
from postroom.adapters.smtp.settings import AuthMethod, AuthSettings, RelaySettings, TlsMode
from postroom.adapters.smtp.transport import HandshakeStream, ProtocolError, TlsContexts, open_stream
from postroom.ports.relay import Stage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions that change what the client sends. Those listed before STARTTLS are discarded."""

    pipelining: bool = False
    size: bool = False
    """SIZE is offered and may be declared (RFC 1870)."""
    size_limit: int | None = None
    """The largest message in octets; None when the relay states no limit."""
    eightbit: bool = False
    smtputf8: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


def read_capabilities(text: bytes) -> Capabilities:
    """Parse the text of a reply to EHLO, lines joined by newlines; the first line is the relay's name."""
    offered: dict[str, list[str]] = {}
    for line in text.decode("ascii", "replace").upper().split("\n")[1:]:
        keyword, *words = line.replace("AUTH=", "AUTH ", 1).split() or [""]
        offered.setdefault(keyword, []).extend(words)
    size = offered.get("SIZE")
    limit = int(size[0]) if size and size[0].isdigit() and size[0].isascii() else 0
    return Capabilities(
        pipelining="PIPELINING" in offered,
        size=size is not None,
        size_limit=limit or None,
        eightbit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        starttls="STARTTLS" in offered,
        auth=frozenset(offered.get("AUTH", ())),
    )


class DialError(Exception):
    """No session could be opened: the stage that failed and the reason."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection, ready for MAIL."""

    stream: HandshakeStream
    capabilities: Capabilities


class Dialer:
    """Opens sessions with one relay; reads credentials and changed TLS files again for each."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._contexts = TlsContexts(settings.tls)

    async def open(self) -> Session:
        """Open a session. Opportunistic TLS that fails is retried in clear text (RFC 7435)."""
        mode = self._settings.tls.mode
        try:
            return await self._open(mode)
        except DialError as failure:
            if mode is not TlsMode.OPPORTUNISTIC or failure.stage is not Stage.TLS:
                raise
        return await self._open(TlsMode.NONE)

    async def _open(self, mode: TlsMode) -> Session:
        settings, timeouts = self._settings, self._settings.timeouts
        where = f"{settings.host}:{settings.port}"
        try:
            stream = await open_stream(settings.host, settings.port, timeouts.connect)
        except OSError as error:
            raise DialError(
                Stage.CONNECT, f"{where} did not accept a connection: {_error_text(error)}"
            ) from error
        try:
            if mode is TlsMode.IMPLICIT:
                await self._secure(stream)
            async with _timed_step(Stage.CONNECT, timeouts.command, f"{where} did not greet"):
                _expect(Stage.CONNECT, 220, *await stream.reply())
            capabilities = await self._greet(stream)
            if mode in (TlsMode.REQUIRED, TlsMode.OPPORTUNISTIC):
                capabilities = await self._start_tls(stream, capabilities, mode)
            if settings.auth is not None:
                await self._authenticate(stream, capabilities, settings.auth)
        except BaseException:
            stream.close()
            raise
        return Session(stream, capabilities)

    async def _greet(self, stream: HandshakeStream) -> Capabilities:
        name = self._settings.hello or stream.literal
        async with _timed_step(Stage.EHLO, self._settings.timeouts.command, "EHLO was not answered"):
            code, text = await stream.command(f"EHLO {name}")
            if code in (500, 502):
                _expect(Stage.EHLO, 250, *await stream.command(f"HELO {name}"))
                return Capabilities()
            _expect(Stage.EHLO, 250, code, text)
        return read_capabilities(text)

    async def _start_tls(
        self, stream: HandshakeStream, capabilities: Capabilities, mode: TlsMode
    ) -> Capabilities:
        if not capabilities.starttls:
            if mode is TlsMode.OPPORTUNISTIC:
                return capabilities
            raise DialError(Stage.TLS, "STARTTLS not offered")
        async with _timed_step(Stage.TLS, self._settings.timeouts.command, "STARTTLS was not answered"):
            _expect(Stage.TLS, 220, *await stream.command("STARTTLS"))
        await self._secure(stream)
        return await self._greet(stream)

    async def _secure(self, stream: HandshakeStream) -> None:
        settings = self._settings
        async with _timed_step(Stage.TLS, settings.timeouts.connect, "the TLS handshake was not finished"):
            await stream.start_tls(self._contexts, settings.tls.server_name or settings.host)

    async def _authenticate(
        self, stream: HandshakeStream, capabilities: Capabilities, auth: AuthSettings
    ) -> None:
        if stream.tls is None:
            raise DialError(Stage.AUTH, "the connection has no TLS: credentials are never sent in clear")
        if auth.method not in capabilities.auth:
            offered = ", ".join(sorted(capabilities.auth)) or "nothing"
            raise DialError(Stage.AUTH, f"the relay offers AUTH {offered}, not {auth.method}")
        try:
            credentials = auth.credentials()
        except OSError as error:
            raise DialError(Stage.AUTH, f"the relay's credentials cannot be read: {error}") from error
        async with _timed_step(Stage.AUTH, self._settings.timeouts.command, "AUTH was not answered"):
            if auth.method is AuthMethod.PLAIN:
                response = _base64(f"\0{credentials.username}\0{credentials.password}")
                code, text = await stream.command(f"AUTH PLAIN {response}")
            else:
                code, text = await stream.command("AUTH LOGIN")
                for response in (credentials.username, credentials.password):
                    _expect(Stage.AUTH, 334, code, text)
                    code, text = await stream.command(_base64(response))
            _expect(Stage.AUTH, 235, code, text)


@asynccontextmanager
async def _timed_step(stage: Stage, seconds: float, failed: str) -> AsyncIterator[None]:
    """Limit the time of a step; raise its failures as a DialError that names the step."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except (OSError, ProtocolError) as error:
        overdue = f"{failed} within {seconds:g} s"
        raise DialError(stage, overdue if limit.expired() else f"{failed}: {_error_text(error)}") from error


def _error_text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)


def _expect(stage: Stage, wanted: int, code: int, text: bytes) -> None:
    if code != wanted:
        raise DialError(stage, f"{code} {printable(text)}")


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")
