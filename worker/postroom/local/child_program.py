"""Run a program as a child that never outlives its parent: `python -m postroom.local.child_program PROGRAM`.

Input: the program's name; its configuration is in the environment. Standard input is a pipe whose other
end the parent holds: when it closes, the parent is gone (also by kill -9) and the program is asked to end
in order, as by SIGTERM; if it has not ended after `GRACE_SECONDS` it is ended.
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
"""Each module has a `main()`."""
GRACE_SECONDS = 30.0


def main() -> None:
    """Watch the parent and run the program named on the command line."""
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
