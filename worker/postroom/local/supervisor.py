"""Keep programs running: start each as a child process, start it again when it ends by itself.

Input: a `Program` (what to run and where its words go). Output: a `Child` whose `state` can be shown.
A child that ends is started again after a pause that doubles from half a second to ten; one that ran for
a minute starts over at the shortest. `stop` asks it to end (SIGTERM) and waits; past the grace it is ended.
Children are in a session of their own, so that Ctrl-C reaches only the supervisor, which ends them in order.

Keep the embedded broker running: start it, start it again when it ends by itself, end it at the end.

The same port and the same data at each start, so that workers and the gateway reconnect and nothing that
was acknowledged is lost. Failure: `Trouble` from `start` when it cannot be built or does not listen.
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

from postroom.local.broker import LocalBroker
from postroom.local.errors import UserError
from postroom.local.machine import child_environment

MIN_RESTART_DELAY = 0.5
MAX_RESTART_DELAY = 10.0
STABLE_SECONDS = 60.0
"""A program that ran this long was well; its next fall counts as the first."""
TERMINATE_SECONDS = 35.0
LOG_TAIL_BYTES = 2_000
"""Bytes of a log that are looked at to say why a program ended."""

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """One child process: a name for people, what to run, its settings, its log."""

    name: str
    kind: str
    environment: Mapping[str, str]
    log: Path
    inherited_fds: tuple[int, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command line: the wrapper that ends with its parent."""
        return [sys.executable, "-m", "postroom.local.child_program", self.kind]


class ProgramSupervisor:
    """A supervised program."""

    def __init__(self, program: ChildProgram, notify: Notify) -> None:
        self.program = program
        self.restarts = 0
        self._notify = notify
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
                await asyncio.wait_for(process.wait(), TERMINATE_SECONDS)
            except TimeoutError:
                self._notify(
                    f"{self.program.name} did not end within {TERMINATE_SECONDS:.0f} s and was ended"
                )
                process.kill()
        if self._task is not None:
            await self._task

    async def _keep_running(self) -> None:
        loop, pause = asyncio.get_running_loop(), MIN_RESTART_DELAY
        while not self._stopping.is_set():
            begin = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            pause = MIN_RESTART_DELAY if loop.time() - begin > STABLE_SECONDS else pause
            self.restarts += 1
            self._notify(f"{self.program.name} {_exit_reason(code, self.program.log)}; starting it again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, MAX_RESTART_DELAY)

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
            pass_fds=self.program.inherited_fds,
            start_new_session=True,
        )


def _exit_reason(code: int, log: Path) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    said = _last_log_line(log)
    return f"ended with exit code {code}{f': {said}' if said else ''} (see {log.name})"


def _last_log_line(log: Path) -> str:
    """The last line that a program said: its `event` and `reason` when it is a log line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    try:
        entry = json.loads(lines[-1])
        return ": ".join(str(entry[name]) for name in ("event", "reason") if name in entry)
    except (ValueError, TypeError):
        return lines[-1][:200]


class BrokerSupervisor:
    """A supervised embedded broker."""

    def __init__(self, broker: LocalBroker, notify: Notify) -> None:
        self._broker = broker
        self._notify = notify
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def bootstrap(self) -> str:
        """Its address, the same over restarts."""
        return self._broker.bootstrap

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._broker.pid

    async def start(self) -> None:
        """Start it (and build it first, where needed); return when it listens."""
        await asyncio.to_thread(self._broker.start)
        self._task = asyncio.create_task(self._keep_running(), name="supervise broker")

    async def stop(self) -> None:
        """End it in order."""
        self._stopping.set()
        await asyncio.to_thread(self._broker.stop)
        if self._task is not None:
            await self._task

    async def _keep_running(self) -> None:
        pause = MIN_RESTART_DELAY
        while True:
            await asyncio.to_thread(self._broker.wait)
            if self._stopping.is_set():
                return
            self.restarts += 1
            self._notify("the broker ended; starting it again")
            try:
                await asyncio.to_thread(self._broker.restart)
                if self._stopping.is_set():  # asked to end while it was starting
                    await asyncio.to_thread(self._broker.stop)
                    return
                pause = MIN_RESTART_DELAY
            except UserError as trouble:
                self._notify(trouble.problem)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, MAX_RESTART_DELAY)
