"""The server notifies open pages of a save and ends although they are open; a taken port is reported."""

import asyncio
import socket

import httpx
import pytest

from postroom.local.errors import UserError
from postroom.local.machine import free_port
from postroom.local.studio.server import StudioServer
from tests.local.studio.conftest import ORDER, Folder


def test_an_open_page_is_notified_of_a_save_and_does_not_delay_the_end(folder: Folder) -> None:
    async def story() -> None:
        port = free_port()
        server = StudioServer(folder.context, port)
        server.start()
        version = folder.studio.changes.version
        address = f"http://127.0.0.1:{port}/events?after={version}"
        async with (
            asyncio.timeout(20),
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("GET", address) as events,
        ):
            lines = events.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            folder.write(order=ORDER.replace("Hello", "Hi"))
            while (line := await anext(lines)) != "event: changed":
                assert not line.startswith("data")
            assert await anext(lines) == f'data: {{"version": {version + 1}}}'
            await server.stop()
            assert [line async for line in lines if line] == []

    asyncio.run(story())


def test_a_page_that_is_behind_is_notified_at_once(folder: Folder) -> None:
    from postroom.local.studio.pages import _changes

    async def story() -> None:
        stream = _changes(folder.studio, -1)
        await anext(stream)
        assert "event: changed" in await anext(stream)

    asyncio.run(story())


def test_a_taken_port_is_reported_with_the_option(folder: Folder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError) as trouble:
            StudioServer(folder.context, taken.getsockname()[1]).start()
    assert "--port-studio" in trouble.value.remedy
