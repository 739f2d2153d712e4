"""A program of a control plane as a child that ends with the tests: start, stop, kill; it writes a log
file."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

KILL_WITH_PARENT = Path(__file__).with_name("kill_with_parent.py")
STOP_SECONDS = 15.0


@dataclass(slots=True)
class ServerProcess:
    """A command that can be started repeatedly; it ends with the tests, however they end."""

    name: str
    command: list[str]
    folder: Path
    _wrapper: subprocess.Popen[bytes] | None = None
    pid: int = field(default=0, init=False)
    """The program's own process id, not the wrapper's."""

    @property
    def log(self) -> Path:
        """The log of all its runs."""
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._wrapper is not None and self._wrapper.poll() is None

    def start(self) -> None:
        """Start it; the caller waits until it is ready."""
        with self.log.open("ab") as log:
            self._wrapper = subprocess.Popen(
                [sys.executable, "-I", str(KILL_WITH_PARENT), *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        assert self._wrapper.stdout is not None
        self.pid = int(self._wrapper.stdout.readline() or 0)

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL when it takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._wrapper is None:
            return
        if self.running:
            with suppress(ProcessLookupError):  # it died by itself, and the wrapper is about to end
                os.kill(self.pid, how)
        try:
            self._wrapper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wrapper.wait()
        for pipe in (self._wrapper.stdin, self._wrapper.stdout):
            if pipe is not None:
                pipe.close()
        self._wrapper = None

    def tail(self) -> str:
        """The end of its log, for a message."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


def free_ports(count: int) -> list[int]:
    """Free ports of the loopback interface."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
