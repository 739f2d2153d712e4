"""The embedded broker as a child process: start, stop, kill, restart on the same port.

Input: where to keep data (None: in memory), a port (0: any free one), whether every batch is fsynced
before its ack. Output: `bootstrap`, the address for `bootstrap.servers`; it is on 127.0.0.1 and stays
the same over restarts. In memory a topic is created at first use; with a folder a client has to create
it (`topics.create_topics`), because the broker writes a topic of its own making to disk only when it
ends in order. The child ends when this process ends, however it ends: its standard input closes.
Failure: `Trouble`, with the broker's own words.
"""

import json
import select
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from postroom.local.toolchain import Tell, broker_executable
from postroom.local.trouble import Trouble

START_SECONDS = 60.0
"""Replaying a gigabyte takes about a second; past this the broker hangs."""
STOP_SECONDS = 15.0


def _silent(_: str) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """How the process is started: where its words go (None: kept for the error), what it inherits."""

    log: Path | None = None
    inherited: tuple[int, ...] = ()
    tell: Tell = _silent


class LocalBroker:
    """One embedded broker. Only `wait` may be called from another thread than the one that started it."""

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        fsync: bool = False,
        surroundings: Surroundings = Surroundings(),
    ) -> None:
        self.port = port
        self._data_dir = data_dir
        self._fsync = fsync
        self._surroundings = surroundings
        self._process: subprocess.Popen[str] | None = None
        self._words: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:<port>`, valid once started."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start and return when the broker listens; raises Trouble when it does not."""
        command = [str(broker_executable(self._surroundings.tell)), *self._flags()]
        log = self._surroundings.log
        self._words = log.open("a+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            pass_fds=self._surroundings.inherited,
            start_new_session=True,  # Ctrl-C is for the program that started it, which ends it in order
        )
        hello = self._read_line()
        if not hello:
            raise self._trouble()
        self.port = int(json.loads(hello)["bootstrap"].rpartition(":")[2])
        return self

    def stop(self) -> None:
        """End it in order: everything is on disk. A broker that has ended already is fine."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start again on the same port with the same data."""
        self.stop()
        return self.start()

    def wait(self) -> int | None:
        """Block until the broker ends; its exit code, negative for a signal, None if it never started."""
        return self._process.wait() if self._process else None

    def control(self, op: str, **fields: Any) -> dict[str, Any]:
        """Have the broker show a fault; the ops and fields are in `broker/control.go`.

        For example `control("fault", keys=["Produce"], topic="t", code=6, count=3)`, `control("clear")`.
        """
        if self._process is None or self._process.stdin is None:
            raise Trouble("The embedded broker does not run.")
        self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read_line() or '{"ok": false, "error": "the broker ended"}')
        if not answer["ok"]:
            raise ValueError(f"control {op}: {answer['error']}")
        return answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _flags(self) -> list[str]:
        flags = ["-port", str(self.port)]
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            flags += ["-data-dir", str(self._data_dir)]
        return [*flags, "-sync"] if self._fsync else flags

    def _read_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        return self._process.stdout.readline() if ready else ""

    def _trouble(self) -> Trouble:
        """Why it did not start, in its own words."""
        assert self._process is not None
        assert self._words is not None
        self._process.kill()
        self._process.wait()
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip().rpartition("\n")[2]
        said = said.removeprefix("postroom-broker: ")
        self.kill()
        taken = "address already in use" in said
        return Trouble(
            f"The embedded broker did not start: {said or 'it said nothing'}",
            f"Port {self.port} is taken: choose another one, or 0 for any free one." if taken else "",
        )

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, self._words):
            if pipe is not None:
                pipe.close()
        self._process = self._words = None
