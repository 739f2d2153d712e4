"""The line to a callback: the name is resolved, every address is checked, and a checked one is connected to.

Nothing is resolved a second time, so that a name cannot mean one address when it is checked and another when
it is connected to (DNS rebinding). TLS still speaks of the name.

One callback's caller: a notice in, an HTTP POST out, its status back.

Signed as Standard Webhooks 1.0 has it: `webhook-id` stays the same for a notice, `webhook-timestamp` is the
try's, `webhook-signature` holds one `v1` signature for each key. Redirects are answers and not followed, no
proxy of the environment is used, and of a body at most a few kilobytes are read.
"""

import asyncio
import hmac
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import httpcore

from postroom.letter.allowlist import Allowlist, parse_ip_address
from postroom.letter.status_events import rfc3339
from postroom.ports.notifications import CallbackResponse, Notification


class AddressBlocked(Exception):
    """The address is not allowed; the message says why and what to do."""


class GuardedNetworkBackend(httpcore.AsyncNetworkBackend):
    """Connects to what the allowlist lets through."""

    def __init__(self, allowed: Allowlist, plain: bool) -> None:
        self._allowed, self._plain = allowed, plain
        self._line = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, connect; raises Blocked, or the library's own errors."""
        host = host.strip("[]")
        addresses = await _resolve(host, port)
        if reason := self._allowed.refusal(host, map(parse_ip_address, addresses), plain=self._plain):
            raise AddressBlocked(reason)
        error: Exception = httpcore.ConnectError(f"{host} cannot be connected to")
        for address in addresses:
            try:
                return await self._line.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def sleep(self, seconds: float) -> None:
        """The library's own pauses."""
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    """All addresses, each once, in the resolver's order."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise httpcore.ConnectError(f"{host} cannot be resolved") from None
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


MAX_CONNECTIONS = 8
IDLE_SECONDS = 30.0
MAX_BODY_BYTES = 16_384

_TLS = re.compile(r"\[SSL[^\]]*\] (.*?)(?: \(_ssl\.c:\d+\))?$")
"""OpenSSL's words, without the line of its caller's source."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where a callback goes."""

    url: str
    timeout: float
    """Seconds for the whole of it."""
    allowed: Allowlist
    authority: str = ""
    """Certificates to trust, in PEM; empty: those of the system."""

    @property
    def plain(self) -> bool:
        """Whether it goes without TLS."""
        return self.url.startswith("http:")


class WebhookClient:
    """Implements ports.callbacks.Caller."""

    def __init__(self, target: WebhookTarget) -> None:
        """Raises ValueError when the authority is no certificate."""
        self._target = target
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls_context(target),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=GuardedNetworkBackend(target.allowed, target.plain),
        )

    async def call(self, notice: Notification, keys: Sequence[bytes], now: datetime) -> CallbackResponse:
        """See the port."""
        body = webhook_payload(notice)
        try:
            async with asyncio.timeout(self._target.timeout):
                return await self._post(webhook_headers(notice.id, body, keys, int(now.timestamp())), body)
        except TimeoutError:
            return CallbackResponse(reason=f"no answer within {self._target.timeout:g} s")
        except AddressBlocked as blocked:
            return CallbackResponse(reason=str(blocked), blocked=True)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return CallbackResponse(reason=_error_text(error))

    async def close(self) -> None:
        """See the port."""
        await self._pool.aclose()

    async def _post(self, told: list[tuple[str, str]], body: bytes) -> CallbackResponse:
        wait = {"connect": self._target.timeout, "pool": self._target.timeout}
        async with self._pool.stream(
            "POST", self._target.url, headers=told, content=body, extensions={"timeout": wait}
        ) as response:
            read = 0
            async for piece in response.aiter_stream():
                read += len(piece)
                if read > MAX_BODY_BYTES:
                    break
            return CallbackResponse(response.status, retry_after=_retry_after(response.headers))


def webhook_payload(notice: Notification) -> bytes:
    """The body: type, timestamp, data."""
    return f'{{"type":"{notice.type}","timestamp":"{rfc3339(notice.at)}","data":{notice.data}}}'.encode()


def webhook_headers(name: str, body: bytes, keys: Sequence[bytes], at: int) -> list[tuple[str, str]]:
    """The headers of Standard Webhooks, and what HTTP needs."""
    signed = f"{name}.{at}.".encode() + body
    made = (b64encode(hmac.digest(key, signed, sha256)).decode() for key in keys)
    return [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("user-agent", "Postroom"),
        ("webhook-id", name),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", " ".join(f"v1,{each}" for each in made)),
    ]


def _tls_context(target: WebhookTarget) -> ssl.SSLContext | None:
    if target.plain and not target.authority:
        return None  # to read the system's certificates takes longer than a call
    try:
        return ssl.create_default_context(cadata=target.authority or None)
    except ssl.SSLError:
        raise ValueError("is no certificate in PEM") from None


def _retry_after(found: Sequence[tuple[bytes, bytes]]) -> float:
    """Seconds; a date is passed over."""
    value = next((value for name, value in found if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() and len(value) < 9 else 0.0


def _error_text(error: Exception) -> str:
    """What failed, in words that do not change from one try to the next."""
    if isinstance(error, httpcore.ProtocolError):
        return "the answer is no HTTP"  # the library's words quote it
    said = str(error) or type(error).__name__
    if found := _TLS.match(said):
        return f"TLS: {found[1]}"
    return said
