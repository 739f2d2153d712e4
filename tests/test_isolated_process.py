"""The child process for untrusted work: frames, and how a start or a request fails."""

import asyncio
import io
import signal
from pathlib import Path

import pytest

from postroom.isolated_process import IsolatedProcess, ProcessDied, StartFailed, read_frame, write_frame

CHILD = """
import sys, time
from postroom.isolated_process import read_frame, write_frame
if sys.argv[1:] == ["mute"]: time.sleep(60)
if sys.argv[1:] == ["broken"]: sys.exit(7)
write_frame(sys.stdout.buffer, b"")
while (request := read_frame(sys.stdin.buffer)) is not None:
    if request == b"die": sys.exit(3)
    if request == b"hang": time.sleep(60)
    write_frame(sys.stdout.buffer, request.upper())
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "isolated_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return "isolated_child"


def test_frames_are_read_as_they_were_written() -> None:
    stream = io.BytesIO()
    write_frame(stream, b"one")
    write_frame(stream, b"")
    stream.seek(0)
    assert [read_frame(stream) for _ in range(3)] == [b"one", b"", None]


@pytest.mark.processes
def test_a_process_that_dies_or_hangs_is_replaced_at_the_next_start(module: str) -> None:
    async def test() -> None:
        process = IsolatedProcess(module, start_seconds=30)
        await process.start()
        assert await process.request(b"hello", 30) == b"HELLO"
        with pytest.raises(ProcessDied, match="status 3"):
            await process.request(b"die", 30)
        assert not process.running
        await process.start()
        with pytest.raises(TimeoutError):
            await process.request(b"hang", 0.1)
        assert not process.running
        await process.start()
        child = process._process
        assert child is not None
        child.send_signal(signal.SIGKILL)
        await child.wait()
        with pytest.raises(ProcessDied, match="signal 9"):
            await process.request(b"hello", 30)
        await process.start()
        ending = process.stop()
        assert not process.running, "a request that comes now gets another process"
        await process.start()
        assert await process.request(b"again", 30) == b"AGAIN"
        await ending
        await process.close()

    asyncio.run(test())


@pytest.mark.processes
@pytest.mark.parametrize(
    ("argument", "reason"), [("broken", "it ended with status 7"), ("mute", "it was not ready after 1 s")]
)
def test_a_process_that_does_not_become_ready_says_why(module: str, argument: str, reason: str) -> None:
    async def test() -> None:
        process = IsolatedProcess(module, [argument], start_seconds=1.0)
        with pytest.raises(StartFailed, match=reason):
            await process.start()
        assert not process.running

    asyncio.run(test())
