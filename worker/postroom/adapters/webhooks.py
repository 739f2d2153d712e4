"""Calls an application's webhook with notifications.

In: a notification, the signing keys and the time. Out: a `CallbackResponse` with the HTTP status or the
reason of the failure.

Requests are signed by Standard Webhooks 1.0: `webhook-id` is the same for each attempt at a notification,
`webhook-timestamp` is the time of the attempt, `webhook-signature` has a `v1` signature for each key.
Redirects are not followed, proxies of the environment are not used, and at most `MAX_BODY_BYTES` of a
response are read.

The host name is resolved once, all its addresses are checked against the allowlist, and the connection goes
to a checked address. The name therefore cannot have another address for the connection than for the check
(DNS rebinding). TLS verifies the name.

Failure: `WebhookClient.call` raises nothing; each failure is a reason in the response.
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
    """The allowlist rejects the address; the message has the reason and the remedy."""


class GuardedNetworkBackend(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that the allowlist permits."""

    def __init__(self, allowed: Allowlist, plain: bool) -> None:
        self._allowed, self._plain = allowed, plain
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, connect; raises AddressBlocked or the errors of the library."""
        host = host.strip("[]")
        addresses = await _resolve(host, port)
        if reason := self._allowed.refusal(host, map(parse_ip_address, addresses), plain=self._plain):
            raise AddressBlocked(reason)
        error: Exception = httpcore.ConnectError(f"{host} cannot be connected to")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def sleep(self, seconds: float) -> None:
        """Pause, as the library requests."""
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int) -> list[str]:
    """All distinct addresses, in the order of the resolver."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise httpcore.ConnectError(f"{host} cannot be resolved") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


MAX_CONNECTIONS = 8
IDLE_SECONDS = 30.0
MAX_BODY_BYTES = 16_384

_TLS = re.compile(r"\[SSL[^\]]*\] (.*?)(?: \(_ssl\.c:\d+\))?$")
"""Matches the text of an OpenSSL error without the source line of its caller."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The URL of a callback, its timeout, and the addresses and certificates that are allowed."""

    url: str
    timeout: float
    """Seconds for the whole call."""
    allowed: Allowlist
    authority: str = ""
    """PEM certificates of the trusted authorities; empty: those of the system."""

    @property
    def plain(self) -> bool:
        """Whether the URL has no TLS."""
        return self.url.startswith("http:")


class WebhookClient:
    """Sends notifications to one webhook over a pool of HTTP connections."""

    def __init__(self, target: WebhookTarget) -> None:
        """Raises ValueError when `authority` is no PEM certificate."""
        self._target = target
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls_context(target),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=GuardedNetworkBackend(target.allowed, target.plain),
        )

    async def call(
        self, notification: Notification, keys: Sequence[bytes], now: datetime
    ) -> CallbackResponse:
        """Send a notification; failures are reasons in the response."""
        body = webhook_payload(notification)
        try:
            async with asyncio.timeout(self._target.timeout):
                return await self._post(
                    webhook_headers(notification.id, body, keys, int(now.timestamp())), body
                )
        except TimeoutError:
            return CallbackResponse(reason=f"no response within {self._target.timeout:g} s")
        except AddressBlocked as blocked:
            return CallbackResponse(reason=str(blocked), blocked=True)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return CallbackResponse(reason=_error_text(error))

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _post(self, headers: list[tuple[str, str]], body: bytes) -> CallbackResponse:
        wait = {"connect": self._target.timeout, "pool": self._target.timeout}
        async with self._pool.stream(
            "POST", self._target.url, headers=headers, content=body, extensions={"timeout": wait}
        ) as response:
            read = 0
            async for piece in response.aiter_stream():
                read += len(piece)
                if read > MAX_BODY_BYTES:
                    break
            return CallbackResponse(response.status, retry_after=_retry_after(response.headers))


def webhook_payload(notification: Notification) -> bytes:
    """Build the body: type, timestamp, data."""
    at = rfc3339(notification.at)
    return f'{{"type":"{notification.type}","timestamp":"{at}","data":{notification.data}}}'.encode()


def webhook_headers(name: str, body: bytes, keys: Sequence[bytes], at: int) -> list[tuple[str, str]]:
    """Build the headers of Standard Webhooks and HTTP."""
    signed = f"{name}.{at}.".encode() + body
    signatures = (b64encode(hmac.digest(key, signed, sha256)).decode() for key in keys)
    return [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("user-agent", "Postroom"),
        ("webhook-id", name),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", " ".join(f"v1,{signature}" for signature in signatures)),
    ]


def _tls_context(target: WebhookTarget) -> ssl.SSLContext | None:
    if target.plain and not target.authority:
        return None  # loading the certificates of the system takes longer than a call
    try:
        return ssl.create_default_context(cadata=target.authority or None)
    except ssl.SSLError:
        raise ValueError("is no certificate in PEM") from None


def _retry_after(found: Sequence[tuple[bytes, bytes]]) -> float:
    """The seconds of Retry-After; a date is ignored."""
    value = next((value for name, value in found if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() and len(value) < 9 else 0.0


def _error_text(error: Exception) -> str:
    """The reason of a failure, in a text that is equal for each attempt."""
    if isinstance(error, httpcore.ProtocolError):
        return "the response is no HTTP"  # the library's text contains bytes of it
    text = str(error) or type(error).__name__
    if found := _TLS.match(text):
        return f"TLS: {found[1]}"
    return text
