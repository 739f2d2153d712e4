"""A program that exits by itself is restarted; a program that is stopped is not."""

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
    """A program that runs a line of Python."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-S", "-c", self.kind]


class Messages(list[str]):
    """Collects messages, and signals each."""

    def __init__(self) -> None:
        super().__init__()
        self.added = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.append(line)
        self.added.set()


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MIN_RESTART_DELAY", 0.01)


def script(tmp_path: Path, code: str) -> Script:
    return Script("demo", code, {"WORD": "set"}, tmp_path / "logs" / "demo.log")


async def until(met: Callable[[], bool]) -> None:
    """Wait until a condition on processes or files is met."""
    async with asyncio.timeout(20):
        while not met():  # noqa: ASYNC110 - another process cannot set an Event
            await asyncio.sleep(0.005)


def test_a_failed_program_is_reported_with_its_last_log_line_and_restarted(tmp_path: Path) -> None:
    async def run() -> None:
        messages = Messages()
        child = ProgramSupervisor(
            script(tmp_path, "import os,sys; sys.exit(os.environ['WORD'] + ' and broken')"), messages
        )
        child.supervise()
        await messages.added.wait()
        await child.stop()
        assert messages[0] == "demo exited with status 1: set and broken (see demo.log); restarting"
        assert child.restarts >= 1

    asyncio.run(run())


def test_a_killed_program_is_reported_with_the_signal(tmp_path: Path) -> None:
    async def run() -> None:
        messages = Messages()
        child = ProgramSupervisor(script(tmp_path, "import sys; sys.stdin.read()"), messages)
        child.supervise()
        await until(lambda: child.pid is not None)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await messages.added.wait()
        await until(lambda: child.pid not in (None, first))
        await child.stop()
        assert messages == ["demo was killed by SIGKILL; restarting"]
        assert child.pid is None

    asyncio.run(run())


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "TERMINATE_SECONDS", 0.05)
    ignores_sigterm = (
        "import signal,sys; signal.signal(15, signal.SIG_IGN); print('on', flush=True); sys.stdin.read()"
    )

    async def run() -> None:
        messages = Messages()
        child = ProgramSupervisor(script(tmp_path, ignores_sigterm), messages)
        child.supervise()
        await until(lambda: child.program.log.exists() and child.program.log.read_text() != "")
        await child.stop()
        assert "was killed" in messages[0]

    asyncio.run(run())


def test_a_structured_log_line_is_reported_by_event_and_reason(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('first\n{"event": "cannot start", "reason": "no disk", "level": "error"}\n')
    assert supervisor._exit_reason(2, log) == "exited with status 2: cannot start: no disk (see x.log)"
