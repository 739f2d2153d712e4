"""What a relay offers, read from its answer to EHLO (RFC 5321 §4.1.1.1).

From an address to a connection that may carry letters: connect, greet, EHLO, STARTTLS, EHLO, AUTH.

Settings in → a `Channel` and the relay's `Capabilities`. Failure: `Unopened(stage, reason)`, with the
relay's own words where it had any; the socket is closed.
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
    """The extensions that change what we send. Read again after STARTTLS: those before it don't count."""

    pipelining: bool = False
    size: bool = False
    """SIZE is offered and may be declared (RFC 1870)."""
    size_limit: int | None = None
    """Octets a letter may have; None when the relay names no limit."""
    eightbit: bool = False
    smtputf8: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


def read_capabilities(text: bytes) -> Capabilities:
    """The text of a reply to EHLO, lines joined by newlines; the first line is the relay's name."""
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
    """The relay can't be used now: where it failed, and why."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Session:
    """A connection at rest, ready for MAIL."""

    stream: HandshakeStream
    capabilities: Capabilities


class Dialer:
    """Opens connections to one relay; reads the credentials and the TLS files anew for each."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._contexts = TlsContexts(settings.tls)

    async def open(self) -> Session:
        """One more connection. Opportunistic TLS that fails is tried again in clear, as RFC 7435 has it."""
        mode = self._settings.tls.mode
        try:
            return await self._open(mode)
        except DialError as failure:
            if mode is not TlsMode.OPPORTUNISTIC or failure.stage is not Stage.TLS:
                raise
        return await self._open(TlsMode.NONE)

    async def _open(self, mode: TlsMode) -> Session:
        settings, patience = self._settings, self._settings.patience
        where = f"{settings.host}:{settings.port}"
        try:
            channel = await open_stream(settings.host, settings.port, patience.connect)
        except OSError as error:
            raise DialError(
                Stage.CONNECT, f"{where} did not accept a connection: {_error_text(error)}"
            ) from error
        try:
            if mode is TlsMode.IMPLICIT:
                await self._secure(channel)
            async with _timed_step(Stage.CONNECT, patience.command, f"{where} did not greet"):
                _expect(Stage.CONNECT, 220, *await channel.reply())
            offer = await self._greet(channel)
            if mode in (TlsMode.REQUIRED, TlsMode.OPPORTUNISTIC):
                offer = await self._start_tls(channel, offer, mode)
            if settings.auth is not None:
                await self._authenticate(channel, offer, settings.auth)
        except BaseException:
            channel.close()
            raise
        return Session(channel, offer)

    async def _greet(self, channel: HandshakeStream) -> Capabilities:
        name = self._settings.hello or channel.literal
        async with _timed_step(Stage.EHLO, self._settings.patience.command, "EHLO was not answered"):
            code, text = await channel.command(f"EHLO {name}")
            if code in (500, 502):
                _expect(Stage.EHLO, 250, *await channel.command(f"HELO {name}"))
                return Capabilities()
            _expect(Stage.EHLO, 250, code, text)
        return read_capabilities(text)

    async def _start_tls(self, channel: HandshakeStream, offer: Capabilities, mode: TlsMode) -> Capabilities:
        if not offer.starttls:
            if mode is TlsMode.OPPORTUNISTIC:
                return offer
            raise DialError(Stage.TLS, "STARTTLS not offered")
        async with _timed_step(Stage.TLS, self._settings.patience.command, "STARTTLS was not answered"):
            _expect(Stage.TLS, 220, *await channel.command("STARTTLS"))
        await self._secure(channel)
        return await self._greet(channel)

    async def _secure(self, channel: HandshakeStream) -> None:
        settings = self._settings
        async with _timed_step(Stage.TLS, settings.patience.connect, "the TLS handshake was not finished"):
            await channel.start_tls(self._contexts, settings.tls.server_name or settings.host)

    async def _authenticate(self, channel: HandshakeStream, offer: Capabilities, auth: AuthSettings) -> None:
        if channel.tls is None:
            raise DialError(
                Stage.AUTH, "the connection is not under TLS: credentials are never sent in clear"
            )
        if auth.method not in offer.auth:
            offered = ", ".join(sorted(offer.auth)) or "nothing"
            raise DialError(Stage.AUTH, f"the relay offers AUTH {offered}, not {auth.method}")
        try:
            known = auth.credentials()
        except OSError as error:
            raise DialError(Stage.AUTH, f"the relay's credentials can't be read: {error}") from error
        async with _timed_step(Stage.AUTH, self._settings.patience.command, "AUTH was not answered"):
            if auth.method is AuthMethod.PLAIN:
                words = _base64(f"\0{known.username}\0{known.password}")
                code, text = await channel.command(f"AUTH PLAIN {words}")
            else:
                code, text = await channel.command("AUTH LOGIN")
                for word in (known.username, known.password):
                    _expect(Stage.AUTH, 334, code, text)
                    code, text = await channel.command(_base64(word))
            _expect(Stage.AUTH, 235, code, text)


@asynccontextmanager
async def _timed_step(stage: Stage, seconds: float, failed: str) -> AsyncIterator[None]:
    """Bound a step in time and name it in whatever goes wrong there."""
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


def _base64(words: str) -> str:
    return b64encode(words.encode()).decode("ascii")
