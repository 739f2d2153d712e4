"""Fixtures of the sandbox: the store, the mail server on an event loop in a thread, the HTTP application."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI

from postroom.http.endpoint import Endpoint
from postroom.sandbox.app import create_sandbox_app
from postroom.sandbox.inbox import Inbox
from postroom.sandbox.mime import SmtpEnvelope, StoredLetter
from postroom.sandbox.mta import MailServer
from postroom.sandbox.store import LetterStore
from postroom.startup import listen

T = TypeVar("T")
Call = Callable[..., httpx.Response]
ENVELOPE = SmtpEnvelope("orders@shop.example.com", ("mira@example.com",), "127.0.0.1")


class Loop:
    """An event loop in a thread, so that tests can use blocking sockets."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def without_letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database; to create it takes longer than most tests."""
    path = tmp_path_factory.mktemp("made") / "sandbox.sqlite"
    LetterStore(path).close()
    return path


@pytest.fixture
def store(without_letters: Path, tmp_path: Path) -> Iterator[LetterStore]:
    store = LetterStore(Path(shutil.copy(without_letters, tmp_path)))
    yield store
    store.close()


@pytest.fixture
def inbox(store: LetterStore) -> Inbox:
    return Inbox(store, Endpoint("127.0.0.1", 1025))


@pytest.fixture
def capture(store: LetterStore) -> Callable[..., StoredLetter]:
    """Stores a raw letter: `capture(raw, *recipients)`."""

    def capture(raw: bytes, *recipients: str) -> StoredLetter:
        envelope = SmtpEnvelope("orders@shop.example.com", recipients or ("mira@example.com",), "127.0.0.1")
        return store.capture(envelope, raw).result(5)

    return capture


@pytest.fixture(scope="session")
def any_app() -> FastAPI:
    """The application, created once; to create it takes longer than most tests."""
    return create_sandbox_app(Inbox.__new__(Inbox), {"inbox.shop.example"})


@pytest.fixture
def app(any_app: FastAPI, inbox: Inbox) -> FastAPI:
    """The application over this test's inbox."""
    any_app.state.inbox = inbox
    return any_app


@pytest.fixture
def call(app: FastAPI) -> Iterator[Call]:
    """Sends a request to the application: `call("GET", "/api/v1/letters")`."""
    transport = httpx.ASGITransport(app)

    async def send(method: str, url: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:
            return await client.request(method, url, **more)

    with asyncio.Runner() as runner:
        yield lambda method, url, **more: runner.run(send(method, url, **more))


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def arrivals() -> list[StoredLetter]:
    return []


@pytest.fixture
def mail(
    store: LetterStore, loop: Loop, arrivals: list[StoredLetter]
) -> Iterator[tuple[Endpoint, MailServer]]:
    """A running mail server and its endpoint."""
    server = MailServer(store, arrivals.append)
    yield loop.run(server.start(listen(Endpoint("127.0.0.1", 0), "the test"))), server
    loop.run(server.stop())
