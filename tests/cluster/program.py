"""One program of a control plane as a child on a leash: start, stop, kill; its words are in a log file."""

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
    """A command that may be started again and again; it ends with the tests, however they end."""

    name: str
    command: list[str]
    folder: Path
    _wrapper: subprocess.Popen[bytes] | None = None
    pid: int = field(default=0, init=False)
    """The program's own process id, not the leash's."""

    @property
    def log(self) -> Path:
        """What it said, of all its runs."""
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._wrapper is not None and self._wrapper.poll() is None

    def start(self) -> None:
        """Start it; whether it is ready is for the caller to find out."""
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
        """End it in order, and the hard way when it takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._wrapper is None:
            return
        if self.running:
            with suppress(ProcessLookupError):  # it died by itself, and the leash tells of it in a moment
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
    """Ports of loopback that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
