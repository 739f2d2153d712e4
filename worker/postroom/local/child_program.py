"""Run a program as a child that never outlives its parent: `python -m postroom.local.child_program PROGRAM`.

Input: the program's name; its settings are in the environment. Standard input is a pipe whose other end the
parent holds. The pipe closes when the parent ends, also after kill -9: then the program gets SIGTERM, and
exits with status 70 when it is still running after `GRACE_SECONDS`.
"""

import importlib
import os
import signal
import sys
import threading
import time

PROGRAMS = {
    "worker": "postroom.worker.main",
    "sandbox": "postroom.sandbox.main",
    "gateway": "postroom.gateway.main",
}
"""Program name → module with a `main()`."""
GRACE_SECONDS = 30.0


def main() -> None:
    """Run the program that the command line names, and watch the parent process."""
    module = PROGRAMS[sys.argv[1]]
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    importlib.import_module(module).main()


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(70)


if __name__ == "__main__":
    main()
