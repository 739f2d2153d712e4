"""Headless Chromium, controlled over a pipe with the DevTools protocol.

Entering the context manager starts the program once with a fresh profile and opens an empty page; `call`
sends a protocol command and waits for its result, `evaluate` runs JavaScript in the page. The browser has no
network access: host names do not resolve, and the page's content security policy allows only `data:`
addresses. Failure: `UserError` when no Chromium is installed, when it does not start, or when it exits.

The protocol: chromedevtools.github.io/devtools-protocol. Over a pipe (file descriptors 3 and 4) each message
is a JSON document that ends in a zero byte.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from select import select
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

from postroom.local.errors import UserError

CHROMIUM_NAMES = ("chromium", "google-chrome", "chrome", "chromium-browser", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
ANSWER_SECONDS = 120.0
"""A page of 100 KB takes two seconds; a browser that sends nothing for this long hangs."""
EXIT_SECONDS = 5.0
READ_BYTES = 1 << 20
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
PAGE = f"""
document.head.innerHTML = `<meta http-equiv="Content-Security-Policy" content="{POLICY}">
  <style>
    :root {{ color-scheme: light dark }} body {{ margin: 0 }} iframe {{ border: 0; display: block }}
  </style>`
"""
"""Frames inherit the page's policy. A frame prefers the dark scheme only when its host page uses it."""


def find_chromium() -> Path:
    """Return the first Chromium or Chrome on PATH; raises UserError."""
    for name in CHROMIUM_NAMES:
        if found := shutil.which(name):
            return Path(found)
    raise UserError(
        f"There is no Chromium on PATH (tried: {', '.join(CHROMIUM_NAMES)}).",
        "Install it: `apt-get install chromium`, `dnf install chromium`, `brew install --cask chromium`.",
    )


class Chromium:
    """A browser process with one page. Use it as a context manager; it is not thread-safe."""

    def __init__(self, program: Path | None = None) -> None:
        self._program = program or find_chromium()
        self._profile = Path(mkdtemp(prefix="postroom-chromium-"))
        self._log = self._profile / "stderr"
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        try:
            self._start()
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            self.evaluate(PAGE)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """Send a command and return its result; raises UserError when it fails or the browser exits."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._send(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") != self._number:
                continue  # an event, not the response
            if "error" in answer:
                raise UserError(f"Chromium rejected {method}: {answer['error'].get('message')}")
            result: Mapping[str, Any] = answer.get("result", {})
            return result

    def evaluate(self, expression: str) -> Any:
        """Run JavaScript in the page, wait for its promise, return the value."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if details := done.get("exceptionDetails"):
            thrown = details.get("exception", {}).get("description") or details.get("text")
            raise UserError(
                f"The page in Chromium failed: {thrown}", "This is a bug in Postroom; please report it."
            )
        return done["result"].get("value")

    def _start(self) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        log = os.open(self._log, os.O_CREAT | os.O_WRONLY, 0o600)
        arguments = [str(self._program), *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        # above 4, so that DUP2 onto 3 and 4 does not close them
        moved = [os.dup(fd) if fd <= 4 else fd for fd in (commands, answers)]
        try:
            self._pid = os.posix_spawn(
                self._program,
                arguments,
                dict(os.environ),  # noqa: TID251  passed on to the browser
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, moved[0], 3),
                    (os.POSIX_SPAWN_DUP2, moved[1], 4),
                ],
                setpgroup=0,
            )
        except OSError as error:
            raise UserError(f"{self._program} does not start: {error.strerror}") from error
        finally:
            for fd in {log, commands, answers, *moved}:
                os.close(fd)

    def _send(self, message: bytes) -> None:
        try:
            while message:
                message = message[os.write(self._commands, message) :]
        except BrokenPipeError:
            raise self._exit_error() from None

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise UserError(
                    f"Chromium did not answer within {ANSWER_SECONDS:.0f} s.", self._stderr_tail()
                )
            piece = os.read(self._answers, READ_BYTES)
            if not piece:
                raise self._exit_error()
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _exit_error(self) -> UserError:
        return UserError(f"{self._program} exited.", self._stderr_tail())

    def _stderr_tail(self) -> str:
        return self._log.read_text(errors="replace")[-1000:].strip() if self._log.exists() else ""

    def _stop(self) -> None:
        """End the browser and its children, and remove the profile."""
        if self._pid:
            os.close(self._commands)  # Chromium exits when its pipe closes
            os.close(self._answers)
            if not self._wait_for_exit(EXIT_SECONDS):
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = 0
        shutil.rmtree(self._profile, ignore_errors=True)

    def _wait_for_exit(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitpid(self._pid, os.WNOHANG)[0]:
                return True
            time.sleep(0.01)
        return False
