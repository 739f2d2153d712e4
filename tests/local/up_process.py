"""`postroom up` as a user starts it, in a process of its own, for the end-to-end tests."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT

from postroom.local import http_client
from postroom.local.data_folder import DataFolder, RunAddresses
from tests.local.manifest_texts import PROFILE, TEMPLATE, write_manifests

PATIENCE = 60.0
ANY_PORT = [f"--port-{name}=0" for name in ("inbox", "gateway", "smtp", "broker", "studio")]


def run_postroom(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command until it exits."""
    command = [sys.executable, "-m", "postroom", *arguments]
    environment = {**os.environ, "COLUMNS": "140", "NO_COLOR": "1"}
    return subprocess.run(
        command,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        timeout=PATIENCE * 2,
        cwd=cwd,
        env=environment,
        check=False,
    )


class UpProcess:
    """A running `postroom up`; a thread reads its output."""

    def __init__(self, manifests: Path, data: Path) -> None:
        self.data = data
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        command = [sys.executable, "-m", "postroom", "up", str(manifests), "--data", str(data), *ANY_PORT]
        environment = {**os.environ, "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, stdout=PIPE, stderr=STDOUT, text=True, env=environment)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._new.put(line.rstrip())
        self._new.put(None)

    def until(self, words: str) -> str:
        """The next line that holds `words`."""
        while True:
            line = self._new.get(timeout=PATIENCE)
            assert line is not None, "\n".join([f"it ended without {words!r}:", *self.lines])
            self.lines.append(line)
            if words in line:
                return line

    @property
    def addresses(self) -> RunAddresses:
        found = DataFolder(self.data).addresses()
        assert found is not None
        return found

    def send(self, recipient: str, **data: str) -> str:
        """Submit a message with a verification code; returns the letter's id."""
        content = {"code": "123456", **data}
        message = {"event_type": "shop.user.code-requested", "recipient": recipient, "data": content}
        answer = http_client.post(f"{self.addresses.gateway}/v1/messages", message)
        assert answer.status == 202, answer.body
        return str(answer.body["id"])

    def wait_for(self, recipient: str) -> dict[str, object]:
        """The letter in the inbox."""
        url = f"{self.addresses.inbox}/api/v1/wait?to={recipient}&timeout={PATIENCE}"
        answer = http_client.get(url, timeout=PATIENCE + 5)
        assert answer.ok, answer.body
        found: dict[str, object] = answer.body
        return found

    def children(self, words: str) -> list[int]:
        """The processes that this run started and whose command line holds `words`."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (command := _command(entry)) and words in command:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.pid:
                    found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """End it as the out-of-memory killer would."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask it to end and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def with_one_template(folder: Path) -> Iterator[UpProcess]:
    """Run `postroom up` with a profile and a template, for a fixture; it is stopped after the test."""
    manifests = folder / "manifests"
    manifests.mkdir()
    write_manifests(manifests, profile=PROFILE, welcome=TEMPLATE)
    running = UpProcess(manifests, folder / "data")
    running.until("letters: ")
    yield running
    running.end()
