"""A program that ends is started again; one that is asked to end is not."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.local import supervisor
from postroom.local.supervisor import ChildProgram, ProgramSupervisor


@dataclass(frozen=True, slots=True)
class Script(ChildProgram):
    """A program that is a line of Python."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-S", "-c", self.kind]


class Told(list[str]):
    """Lines, and somebody who waits for the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.append(line)
        self.more.set()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY", 0.01)


def script(tmp_path: Path, code: str) -> Script:
    return Script("demo", code, {"WORD": "set"}, tmp_path / "logs" / "demo.log")


async def until(met: Callable[[], bool]) -> None:
    """Give way to the loop until a condition of the outside world is met."""
    async with asyncio.timeout(20):
        while not met():  # noqa: ASYNC110 - a process cannot set an Event of ours
            await asyncio.sleep(0.005)


def test_a_program_that_fails_is_told_with_its_last_words_and_started_again(tmp_path: Path) -> None:
    async def scene() -> None:
        told = Told()
        child = ProgramSupervisor(
            script(tmp_path, "import os,sys; sys.exit(os.environ['WORD'] + ' and broken')"), told
        )
        child.start()
        await told.more.wait()
        await child.stop()
        assert told[0] == "demo ended with exit code 1: set and broken (see demo.log); starting it again"
        assert child.restarts >= 1

    asyncio.run(scene())


def test_a_killed_program_is_told_by_its_signal(tmp_path: Path) -> None:
    async def scene() -> None:
        told = Told()
        child = ProgramSupervisor(script(tmp_path, "import sys; sys.stdin.read()"), told)
        child.start()
        await until(lambda: child.pid is not None)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await told.more.wait()
        await until(lambda: child.pid not in (None, first))
        await child.stop()
        assert told == ["demo was ended by SIGKILL; starting it again"]
        assert child.pid is None

    asyncio.run(scene())


def test_a_program_that_will_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "TERMINATE_SECONDS", 0.05)
    stubborn = (
        "import signal,sys; signal.signal(15, signal.SIG_IGN); print('on', flush=True); sys.stdin.read()"
    )

    async def scene() -> None:
        told = Told()
        child = ProgramSupervisor(script(tmp_path, stubborn), told)
        child.start()
        await until(lambda: child.program.log.exists() and child.program.log.read_text() != "")
        await child.stop()
        assert "was ended" in told[0]

    asyncio.run(scene())


def test_a_log_line_is_told_by_its_event_and_reason(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('first\n{"event": "cannot start", "reason": "no disk", "level": "error"}\n')
    assert supervisor._exit_reason(2, log) == "ended with exit code 2: cannot start: no disk (see x.log)"
