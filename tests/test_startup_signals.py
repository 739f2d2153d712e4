"""A program that gets SIGTERM during its start, as a container's first process."""

import signal
import subprocess
import sys

STARTING = """
import os, signal, sys, time
from importlib.abc import MetaPathFinder

class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "postroom.cli.app":
            print("reading", flush=True)
            time.sleep(120)

sys.meta_path.insert(0, Slow())
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as the kernel does for a first process without a handler
os.getpid = lambda: 1
from postroom.__main__ import main
main()
"""


def test_a_containers_first_process_exits_at_once_during_its_start() -> None:
    assert exit_status_after_sigterm() == 128 + signal.SIGTERM


def exit_status_after_sigterm(within: float = 60) -> int:
    """Return the exit status of a program that gets SIGTERM while it imports its code."""
    with subprocess.Popen([sys.executable, "-c", STARTING], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            process.terminate()
            return process.wait(within)
        finally:
            process.kill()
