"""Entry point of `postroom` and `python -m postroom`.

It installs a SIGTERM handler before it imports the command line, because the imports take a second or more.
"""

import importlib
import os
import signal
from types import FrameType

INIT = 1
"""Process id of a container's first process, which the kernel protects from signals without a handler."""
BY_SIGNAL = 128
"""Added to a signal's number for the exit status, as shells do."""


def main() -> None:
    """Run the command line."""
    if os.getpid() == INIT:
        # otherwise a pod that is deleted during its start runs for the whole grace period
        signal.signal(signal.SIGTERM, _end)
    importlib.import_module("postroom.cli.app").main()


def _end(number: int, _: FrameType | None) -> None:
    """Exit as other processes do on this signal; a program that must clean up replaces the handler."""
    os._exit(BY_SIGNAL + number)


if __name__ == "__main__":
    main()
