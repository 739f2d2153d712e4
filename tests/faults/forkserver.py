"""Worker processes that start in a fraction of the time: forked from one that has imported the libraries.

A fault test starts its workers dozens of times, and nearly all of a start is imports. Only libraries are
there before the fork; each child imports Postroom itself, in its own environment, so that it is as fresh as
one that was executed, and it dies by the same signals. Tests of a start and of speed execute theirs.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path


class ForkedProcess:
    """What is needed of `subprocess.Popen`, for a process of the nursery."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit status, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a worker of the nursery", timeout)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it."""
        os.kill(self.pid, number)


def fork(code: str, environment: Mapping[str, str], log: Path) -> ForkedProcess:
    """Run code in a process with exactly this environment; what it says goes to the end of the log."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preloaded"])
    made = context.Process(target=run, args=(code, dict(environment), str(log)), daemon=True)
    return ForkedProcess(made)


def run(code: str, environment: Mapping[str, str], log: str) -> None:
    """Within the child."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["worker"]
    exec(code, {"__name__": "__main__"})
