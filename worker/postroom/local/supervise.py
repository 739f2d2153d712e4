"""Keep programs running: start each as a child process, start it again when it ends by itself.

Input: a `Program` (what to run and where its words go). Output: a `Child` whose `state` can be shown.
A child that ends is started again after a pause that doubles from half a second to ten; one that ran for
a minute starts over at the shortest. `stop` asks it to end (SIGTERM) and waits; past the grace it is ended.
Children are in a session of their own, so that Ctrl-C reaches only the supervisor, which ends them in order.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from postroom.local.settings import child_environment

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 60.0
"""A program that ran this long was well; its next fall counts as the first."""
STOP_SECONDS = 35.0
LAST_WORDS = 2_000
"""Bytes of a log that are looked at to say why a program ended."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """One child process: a name for people, what to run, its settings, its log."""

    name: str
    kind: str
    environment: Mapping[str, str]
    log: Path
    inherited: tuple[int, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command line: the wrapper that ends with its parent."""
        return [sys.executable, "-m", "postroom.local.child", self.kind]


class Child:
    """A supervised program."""

    def __init__(self, program: Program, tell: Tell) -> None:
        self.program = program
        self.restarts = 0
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    def start(self) -> None:
        """Start it and keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"supervise {self.program.name}")

    async def stop(self) -> None:
        """Ask it to end, wait, and end it when the grace is over."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                self._tell(f"{self.program.name} did not end within {STOP_SECONDS:.0f} s and was ended")
                process.kill()
        if self._task is not None:
            await self._task

    async def _keep_running(self) -> None:
        loop, pause = asyncio.get_running_loop(), SHORTEST_PAUSE
        while not self._stopping.is_set():
            begin = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            pause = SHORTEST_PAUSE if loop.time() - begin > STEADY_SECONDS else pause
            self.restarts += 1
            self._tell(f"{self.program.name} {_ending(code, self.program.log)}; starting it again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run_once(self) -> int:
        self.program.log.parent.mkdir(parents=True, exist_ok=True)
        with self.program.log.open("ab") as log:
            self._process = await self._spawn(log)
        if self._stopping.is_set():  # asked to stop while it was being started
            self._process.terminate()
        return await self._process.wait()

    async def _spawn(self, log: IO[bytes]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.program.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=child_environment(**self.program.environment),
            pass_fds=self.program.inherited,
            start_new_session=True,
        )


def _ending(code: int, log: Path) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    said = _last_words(log)
    return f"ended with exit code {code}{f': {said}' if said else ''} (see {log.name})"


def _last_words(log: Path) -> str:
    """The last line that a program said: its `event` and `reason` when it is a log line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_WORDS))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    try:
        entry = json.loads(lines[-1])
        return ": ".join(str(entry[name]) for name in ("event", "reason") if name in entry)
    except (ValueError, TypeError):
        return lines[-1][:200]
