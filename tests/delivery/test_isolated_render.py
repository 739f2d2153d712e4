"""A renderer in a real process: records that render, one that ends the process, one that it hangs over."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from postroom import isolated_process
from postroom.adapters import isolated_render as isolated_render_adapter
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
"""The process cannot unpack it and ends."""
Ask = Callable[[IsolatedRenderProcess], Coroutine[Any, Any, None]]


@pytest.fixture
def plant(tmp_path: Path) -> WorkerUnderTest:
    """The files of a worker."""
    return WorkerUnderTest(tmp_path / "plant", "", "").prepare(topics=False)


@pytest.fixture
def run(plant: WorkerUnderTest) -> Callable[[Ask], None]:
    """Runs a coroutine with the renderer of a profile, and ends its process."""
    arguments = [str(plant.folder / "profile.yaml"), str(plant.folder / "bundles")]

    async def whole(ask: Ask) -> None:
        renderer = IsolatedRenderProcess(isolated_render.__name__, arguments)
        try:
            assert await renderer.ready()
            await ask(renderer)
        finally:
            await renderer.close()

    return lambda ask: asyncio.run(whole(ask))


def test_records_that_can_be_rendered_or_rejected_are_safe(run: Callable[[Ask], None]) -> None:
    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert [await renderer.renders_safely(each) for each in (GOOD, BAD, GOOD)] == [True, True, True]

    run(ask)


def test_a_record_that_ends_the_process_is_unsafe_and_the_next_has_a_new_process(
    run: Callable[[Ask], None],
) -> None:
    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert await renderer.renders_safely(GOOD)
        assert not await renderer.renders_safely(DEADLY)
        assert await renderer.ready()
        assert await renderer.renders_safely(GOOD)

    run(ask)


def test_a_record_that_exceeds_its_time_is_unsafe(
    run: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert await renderer.renders_safely(GOOD)
        monkeypatch.setattr(isolated_render_adapter, "RENDER_TIMEOUT_SECONDS", 0.1)
        monkeypatch.setattr(isolated_process, "encode_frame", lambda payload: b"\xff\xff\xff\xff" + payload)
        assert not await renderer.renders_safely(GOOD)

    run(ask)


def test_an_unreadable_bundle_does_not_answer_for_a_record(
    plant: WorkerUnderTest, run: Callable[[Ask], None]
) -> None:
    """The reason goes to the log: on standard output it would answer for records that are not tried yet."""
    (plant.folder / "bundles" / "templates.json").write_text("no bundle")

    async def ask(renderer: IsolatedRenderProcess) -> None:
        assert await renderer.renders_safely(GOOD)
        assert not await renderer.renders_safely(DEADLY)

    run(ask)


def start_error(module: str) -> str:
    """The reason why a process does not start."""

    async def ask() -> str:
        renderer = IsolatedRenderProcess(module, [])
        assert not await renderer.ready()
        return renderer.last_error

    return asyncio.run(ask())


def test_a_process_that_ends_before_it_is_ready_is_reported_with_its_status() -> None:
    assert start_error("postroom.no_such_program") == "it ended with status 1"


def test_a_process_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_render_adapter, "START_TIMEOUT_SECONDS", 0.1)
    assert start_error("quopri") == "it was not ready after 0 s"  # reads until its input ends


def test_a_process_that_the_system_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "No such file" in start_error("quopri")


def test_the_renderer_starts_once_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        renderer = IsolatedRenderProcess("postroom.no_such_program", [])
        assert not await renderer.ready()
        # an empty frame: it is ready
        ready = ("sh", "-c", r"printf '\0\0\0\0'; exec cat")
        monkeypatch.setattr(renderer._process, "_command", ready)
        assert await renderer.ready()
        assert renderer.last_error == ""
        await renderer.close()

    asyncio.run(ask())
