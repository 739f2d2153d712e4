"""A letter that the sandbox acknowledged with 250 is stored, even if the process is killed at any moment."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from postroom.sandbox.search import LetterFilter
from postroom.sandbox.store import LetterStore

pytestmark = pytest.mark.faults

ENVELOPE = b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"
KILLS = 8


def start(database: Path) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """Start the program on free ports; returns the process and its SMTP endpoint."""
    environment = {
        **os.environ,
        "POSTROOM_SANDBOX_DATABASE": str(database),
        "POSTROOM_SANDBOX_SMTP": "127.0.0.1:0",
        "POSTROOM_SANDBOX_HTTP": "127.0.0.1:0",
        "POSTROOM_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "postroom.sandbox.main"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log_lines = map(json.loads, process.stderr)
    ready = next(line for line in log_lines if line["event"] == "sandbox ready")
    host, _, port = ready["smtp"].rpartition(":")
    return process, (host, int(port))


def send_until_killed(process: subprocess.Popen[str], where: tuple[str, int], letters: int) -> set[int]:
    """Send pipelined letters and kill the program after some replies; returns the acknowledged ids."""
    acknowledged: set[int] = set()
    with socket.create_connection(where, timeout=10) as client, client.makefile("rb") as replies:
        client.sendall(b"EHLO test\r\n" + (ENVELOPE + b"Subject: x\r\n\r\nHello\r\n.\r\n") * letters * 2)
        while line := replies.readline():
            if line.startswith(b"250 2.0.0 Stored as letter "):
                acknowledged.add(int(line.split()[-1]))
            if len(acknowledged) == letters:
                process.kill()
                break
        try:
            rest = replies.read()
        except ConnectionResetError:
            rest = b""
    acknowledged |= {int(line.split()[-1]) for line in rest.splitlines() if b"Stored as letter" in line}
    return acknowledged


def test_a_killed_sandbox_has_every_letter_that_it_acknowledged(tmp_path: Path) -> None:
    database = tmp_path / "sandbox.sqlite"
    acknowledged_ids: set[int] = set()
    for kill in range(KILLS):
        process, where = start(database)
        try:
            acknowledged_ids |= send_until_killed(process, where, 20 + 17 * kill)
        finally:
            process.kill()
            process.communicate()
    store = LetterStore(database)
    kept = {letter.id for letter in store.find(LetterFilter(), 10_000)}
    assert all(store.raw(letter) == b"Subject: x\r\n\r\nHello\r\n" for letter in kept)
    store.close()
    assert len(acknowledged_ids) >= sum(20 + 17 * kill for kill in range(KILLS))
    assert acknowledged_ids <= kept
