"""Restart the programs of `postroom up` when they exit: child programs and the embedded broker.

Input: a `ChildProgram` or a `LocalBroker`. Each supervisor runs one program in a task. A program that exits
by itself is restarted after a delay that doubles from half a second to ten seconds; after a run of a minute
the delay is the shortest again. `stop` sends SIGTERM and waits; a program that does not exit in time is
killed. Programs run in a session of their own, so that Ctrl-C reaches the parent alone, which stops them in
order. Failure: `BrokerSupervisor.start` raises `UserError` when the broker cannot be built or does not
listen.
"""

import asyncio
import contextlib
import json
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from postroom.local.broker import LocalBroker, Notify
from postroom.local.errors import UserError
from postroom.local.machine import child_environment

MIN_RESTART_DELAY = 0.5
MAX_RESTART_DELAY = 10.0
STABLE_SECONDS = 60.0
"""A program that ran for this long is healthy: the next restart delay is the shortest again."""
TERMINATE_SECONDS = 35.0
LOG_TAIL_BYTES = 2_000
"""Bytes at the end of a log that are read for the reason of an exit."""


class Supervisor(ABC):
    """Restarts one program whenever it exits by itself."""

    def __init__(self, name: str, notify: Notify) -> None:
        self.name = name
        self.restarts = 0
        self._notify = notify
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process id while the program runs."""

    @abstractmethod
    async def _run_once(self) -> str:
        """Run the program until it exits; returns how it ended, for a line of progress."""

    @abstractmethod
    async def _terminate(self) -> None:
        """End the running program, if there is one."""

    def supervise(self) -> None:
        """Run the program in a task, and restart it until `stop`."""
        self._task = asyncio.create_task(self._keep_running(), name=f"supervise {self.name}")

    async def stop(self) -> None:
        """End the program and the supervision."""
        self._stopping.set()
        await self._terminate()
        if self._task is not None:
            await self._task

    async def _keep_running(self) -> None:
        loop, delay = asyncio.get_running_loop(), MIN_RESTART_DELAY
        while not self._stopping.is_set():
            started = loop.time()
            reason = await self._run_once()
            if self._stopping.is_set():
                return
            delay = MIN_RESTART_DELAY if loop.time() - started > STABLE_SECONDS else delay
            self.restarts += 1
            self._notify(f"{self.name} {reason}; restarting")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(delay * 2, MAX_RESTART_DELAY)


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """One child process: its name in messages, the program, its settings, its log."""

    name: str
    kind: str
    environment: Mapping[str, str]
    log: Path
    inherited_fds: tuple[int, ...] = ()

    @property
    def command(self) -> list[str]:
        """The command line of the wrapper that ends with its parent."""
        return [sys.executable, "-m", "postroom.local.child_program", self.kind]


class ProgramSupervisor(Supervisor):
    """Keeps a `ChildProgram` running."""

    def __init__(self, program: ChildProgram, notify: Notify) -> None:
        super().__init__(program.name, notify)
        self.program = program
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the program runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def _terminate(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), TERMINATE_SECONDS)
        except TimeoutError:
            self._notify(f"{self.name} did not exit within {TERMINATE_SECONDS:.0f} s and was killed")
            process.kill()

    async def _run_once(self) -> str:
        self.program.log.parent.mkdir(parents=True, exist_ok=True)
        with self.program.log.open("ab") as log:
            self._process = await self._spawn(log)
        if self._stopping.is_set():  # stopped while the process was being created
            self._process.terminate()
        return _exit_reason(await self._process.wait(), self.program.log)

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


class BrokerSupervisor(Supervisor):
    """Keeps the embedded broker running, on the same port and with the same data."""

    def __init__(self, broker: LocalBroker, notify: Notify) -> None:
        super().__init__("the broker", notify)
        self._broker = broker
        self._started = False

    @property
    def bootstrap(self) -> str:
        """The broker's address; the same after a restart."""
        return self._broker.bootstrap

    @property
    def pid(self) -> int | None:
        """The process id while the broker runs."""
        return self._broker.pid

    async def start(self) -> None:
        """Start the broker, built first where needed; returns when it listens. Raises UserError."""
        await asyncio.to_thread(self._broker.start)
        self._started = True
        self.supervise()

    async def _terminate(self) -> None:
        await asyncio.to_thread(self._broker.stop)

    async def _run_once(self) -> str:
        try:
            if not self._started:
                await asyncio.to_thread(self._broker.restart)
        except UserError as error:
            return f"did not start ({error.problem})"
        if self._stopping.is_set():  # stopped while the broker was starting
            await asyncio.to_thread(self._broker.stop)
        self._started = False
        await asyncio.to_thread(self._broker.wait)
        return "exited"


def _exit_reason(status: int, log: Path) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    line = _last_log_line(log)
    return f"exited with status {status}{f': {line}' if line else ''} (see {log.name})"


def _last_log_line(log: Path) -> str:
    """Return the last line of a log; of a structured line its `event` and `reason`."""
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
