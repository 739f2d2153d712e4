"""A proxy between an operator and its API server that injects faults of networks and API servers.

It serves TLS with the API server's own certificate, so that the operator needs no other authority, and
connects to the API server over TLS. `fault` decides for each request whether it is passed on; a running watch
is checked again with each chunk. Every request is recorded with the status of its answer.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn

import aiohttp
from aiohttp import web

from tests.cluster.controlplane import ControlPlane

DROPPED = frozenset({"Connection", "Content-Encoding", "Content-Length", "Host", "Transfer-Encoding"})
"""Headers of a connection, which are not passed on."""
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as a fault sees it."""

    method: str
    path: str
    watch: bool
    under_way: bool = False
    """Whether it is a watch that is running already."""

    @property
    def kind(self) -> str:
        """The plural that the path is of: `smtpprofiles` of all of them, of one, and of its status."""
        parts = self.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        return parts[2] if parts[:1] == ["namespaces"] and len(parts) > 2 else parts[0] if parts else ""


@dataclass(frozen=True, slots=True)
class FaultAnswer:
    """The proxy answers with a Status; `event`: as an ERROR in the stream of a watch."""

    code: int
    reason: str
    retry_after: int | None = None
    event: bool = False


Fault = FaultAnswer | Literal["silent", "drop"] | None
"""`silent`: the request is read and never answered; `drop`: the connection is closed. None: passed on."""


@dataclass(slots=True)
class ProxiedRequest:
    """The request, its time (monotonic seconds), and the status of the answer; 0: none."""

    request: RequestView
    at: float
    status: int = 0


def _pass(_: RequestView) -> Fault:
    return None


@dataclass(slots=True)
class Proxy:
    """The proxy; it runs in a thread of its own."""

    cluster: ControlPlane
    fault: Callable[[RequestView], Fault] = _pass
    records: list[ProxiedRequest] = field(default_factory=list)
    address: str = ""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _client: aiohttp.ClientSession | None = None
    _runner: web.AppRunner | None = None

    def start(self) -> None:
        """Listen on a port of its own; `address` says which."""
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)

    def stop(self) -> None:
        """Close all connections and end."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join()
        self._loop.close()

    def seen(self, since: float = 0.0, **like: object) -> list[ProxiedRequest]:
        """The requests since a time (monotonic) with these attributes."""
        return [
            each
            for each in [*self.records]
            if each.at >= since and all(getattr(each.request, name) == value for name, value in like.items())
        ]

    async def _open(self) -> None:
        trust = ssl.create_default_context(cafile=self.cluster.authority)
        forever = aiohttp.ClientTimeout(total=None)
        self._client = aiohttp.ClientSession(
            self.cluster.server, connector=aiohttp.TCPConnector(limit=0, ssl=trust), timeout=forever
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        folder = self.cluster.folder
        context.load_cert_chain(folder / "apiserver.crt", folder / "apiserver.key")
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.address = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        assert self._client is not None
        assert self._runner is not None
        await self._runner.cleanup()
        await self._client.close()

    async def _handle(self, asked: web.Request) -> web.StreamResponse:
        request = RequestView(asked.method, asked.path, asked.query.get("watch") == "true")
        record = ProxiedRequest(request, time.monotonic())
        self.records.append(record)
        fault = self.fault(request)
        if fault is None:
            return await self._forward(asked, record)
        if fault == "drop":
            return _cut(asked)
        if isinstance(fault, FaultAnswer) and not fault.event:
            record.status = fault.code
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return web.json_response(_status(fault), status=fault.code, headers=headers)
        if request.watch:
            answer = await _begin(asked, 200, "application/json")
            record.status = 200
            if isinstance(fault, FaultAnswer):
                await answer.write(_event(fault))
                return answer
        return await _mute()

    async def _forward(self, asked: web.Request, record: ProxiedRequest) -> web.StreamResponse:
        assert self._client is not None
        headers = {name: value for name, value in asked.headers.items() if name not in DROPPED}
        try:
            async with self._client.request(
                asked.method, asked.rel_url, headers=headers, data=await asked.read() or None
            ) as found:
                record.status = found.status
                if not record.request.watch:
                    kept = {name: value for name, value in found.headers.items() if name not in DROPPED}
                    return web.Response(status=found.status, headers=kept, body=await found.read())
                return await self._stream(asked, record.request, found)
        except aiohttp.ClientError:
            return _cut(asked)

    async def _stream(
        self, asked: web.Request, request: RequestView, found: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """Pass a watch on in chunks, until a fault applies to it."""
        answer = await _begin(asked, found.status, found.content_type)
        request = replace(request, under_way=True)
        async for piece in _pieces(found):
            fault = self.fault(request)
            if isinstance(fault, FaultAnswer) and fault.event:
                await answer.write(_event(fault))
                return answer
            if fault == "drop":
                return _cut(asked)
            if fault == "silent":  # a dead connection: nothing comes back
                return await _mute()
            if piece:
                await answer.write(piece)
        return answer


async def _pieces(found: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The chunks as they arrive; an empty chunk periodically while none arrives."""
    reading = asyncio.ensure_future(found.content.readany())
    try:
        while True:
            done, _ = await asyncio.wait({reading}, timeout=LOOK_SECONDS)
            if not done:
                yield b""
                continue
            piece = reading.result()
            if not piece:
                return
            yield piece
            reading = asyncio.ensure_future(found.content.readany())
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError, aiohttp.ClientError):
            await reading


async def _begin(asked: web.Request, status: int, form: str) -> web.StreamResponse:
    answer = web.StreamResponse(status=status, headers={"Content-Type": form})
    await answer.prepare(asked)
    return answer


async def _mute() -> NoReturn:
    """Answer nothing until the client closes the connection, which cancels this."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable: nothing sets it")


def _cut(asked: web.Request) -> web.StreamResponse:
    if asked.transport is not None:
        asked.transport.abort()
    return web.Response()


def _status(fault: FaultAnswer) -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": fault.reason,
        "message": f"the test's proxy says {fault.reason}",
        "code": fault.code,
    }


def _event(fault: FaultAnswer) -> bytes:
    return json.dumps({"type": "ERROR", "object": _status(fault)}).encode() + b"\n"
