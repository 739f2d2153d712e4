"""A program that is told to end while it still reads its code, as a container's first process."""

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
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what the kernel makes of a first process without a handler
os.getpid = lambda: 1
from postroom.__main__ import main
main()
"""


def test_a_containers_first_process_ends_at_once_while_it_starts() -> None:
    assert told_to_end() == 128 + signal.SIGTERM


def told_to_end(within: float = 60) -> int:
    """The exit code of a program that was sent SIGTERM while it reads its code."""
    with subprocess.Popen([sys.executable, "-c", STARTING], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            process.terminate()
            return process.wait(within)
        finally:
            process.kill()
