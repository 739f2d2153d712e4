"""Run a program that never outlives the tests: `python kill_with_parent.py PROGRAM ARGUMENT…`.

Standard input is a pipe whose other end the tests hold: when it closes, they have ended, however they
ended, and the program is ended. The first line of standard output is the program's process id; what the
program itself says goes to standard error. Ends with the program's exit code.
"""

import os
import subprocess
import sys
import threading

GRACE_SECONDS = 10.0


def main() -> int:
    """Start the program and wait for its end or for that of the tests."""
    process = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )
    print(process.pid, flush=True)
    threading.Thread(target=_end_with_tests, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_tests(process: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
