"""Where `postroom` begins, by that name and as `python -m postroom`: it can be ended, then it reads its code.

Reading takes a second, and many on a machine that is busy.
"""

import importlib
import os
import signal
from types import FrameType

INIT = 1
"""A container's first process. The kernel keeps from it the signals that it has no handler for."""
BY_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a program."""


def main() -> None:
    """Run the command line."""
    if os.getpid() == INIT:
        # otherwise a pod that is deleted while it starts would run for its whole grace period
        signal.signal(signal.SIGTERM, _end)
    importlib.import_module("postroom.cli.app").main()


def _end(number: int, _: FrameType | None) -> None:
    """End as a process does that is not the first; a program that has something to do then says so itself."""
    os._exit(BY_SIGNAL + number)


if __name__ == "__main__":
    main()
