"""The line to a callback: the name is resolved, every address is checked, and a checked one is connected to.

Nothing is resolved a second time, so that a name cannot mean one address when it is checked and another when
it is connected to (DNS rebinding). TLS still speaks of the name.
"""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

from postroom.letter.allowlist import Allowlist, parse_ip_address


class Blocked(Exception):
    """The address is not allowed; the message says why and what to do."""


class GuardedLine(httpcore.AsyncNetworkBackend):
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
            raise Blocked(reason)
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
