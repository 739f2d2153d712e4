"""A renderer in a real process: records that render, one that ends the process, one that it hangs over."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from postroom import isolated_process
from postroom.adapters import isolated_render as adapter
from postroom.adapters.isolated_render import IsolatedRenderProcess
from postroom.letter.event import Record, pack_record
from postroom.worker import isolated_render
from tests.fixtures.pipeline import WorkerUnderTest, events

pytestmark = pytest.mark.processes

GOOD, BAD = (
    pack_record(Record("t", 0, 0, datetime(2026, 11, 23, tzinfo=UTC), None, value))
    for value in (next(iter(events(1, seed=1))), b"\xff")
)
DEADLY = b"no record at all"
"""The process cannot unpack it, and dies of that."""
Ask = Callable[[IsolatedRenderProcess], Coroutine[Any, Any, None]]


@pytest.fixture
def plant(tmp_path: Path) -> WorkerUnderTest:
    """The files of a worker."""
    return WorkerUnderTest(tmp_path / "plant", "", "").prepare(topics=False)


@pytest.fixture
def run(plant: WorkerUnderTest) -> Callable[[Ask], None]:
    """Runs a coroutine with a renderer of a profile, and ends its process."""
    arguments = [str(plant.folder / "profile.yaml"), str(plant.folder / "bundles")]

    async def whole(ask: Ask) -> None:
        renderer = IsolatedRenderProcess(isolated_render.__name__, arguments)
        try:
            assert await renderer.ready()
            await ask(renderer)
        finally:
            await renderer.close()

    return lambda ask: asyncio.run(whole(ask))


def test_what_can_be_rendered_or_refused_kills_nobody(run: Callable[[Ask], None]) -> None:
    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert [await renderer.renders_safely(each) for each in (GOOD, BAD, GOOD)] == [True, True, True]

    run(ask)


def test_a_record_that_ends_the_process_is_told_and_the_next_has_a_new_one(
    run: Callable[[Ask], None],
) -> None:
    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert await renderer.renders_safely(GOOD)
        assert not await renderer.renders_safely(DEADLY)
        assert await renderer.ready()
        assert await renderer.renders_safely(GOOD)

    run(ask)


def test_a_record_that_it_hangs_over_is_told(
    run: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert await renderer.renders_safely(GOOD)
        monkeypatch.setattr(adapter, "RENDER_TIMEOUT_SECONDS", 0.1)
        monkeypatch.setattr(isolated_process, "encode_frame", lambda payload: b"\xff\xff\xff\xff" + payload)
        assert not await renderer.renders_safely(GOOD)

    run(ask)


def test_a_bundle_that_cannot_be_read_is_no_sign_of_life(
    plant: WorkerUnderTest, run: Callable[[Ask], None]
) -> None:
    """The reason goes to the log: on standard output it would answer for records that are not tried yet."""
    (plant.folder / "bundles" / "templates.json").write_text("no bundle")

    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert await renderer.renders_safely(GOOD)
        assert not await renderer.renders_safely(DEADLY)

    run(ask)


def trouble_of(module: str) -> str:
    """What a renderer says of a process that does not start."""

    async def ask() -> str:
        renderer = IsolatedRenderProcess(module, [])
        assert not await renderer.ready()
        return renderer.last_error

    return asyncio.run(ask())


def test_a_process_that_ends_before_it_is_ready_is_said_with_its_status() -> None:
    assert trouble_of("postroom.no_such_program") == "it ended with status 1"


def test_a_process_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "START_TIMEOUT_SECONDS", 0.1)
    assert trouble_of("quopri") == "it was not ready after 0 s"  # reads until its input ends


def test_a_process_that_the_system_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "No such file" in trouble_of("quopri")


def test_a_renderer_starts_once_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        renderer = IsolatedRenderProcess("postroom.no_such_program", [])
        assert not await renderer.ready()
        monkeypatch.setattr(renderer._process, "_command", ("sh", "-c", "head -c 4 /dev/zero; exec cat"))
        assert await renderer.ready()
        assert renderer.last_error == ""
        await renderer.close()

    asyncio.run(ask())
