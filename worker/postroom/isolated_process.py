"""A child process for work on untrusted content that may crash, hang or exhaust memory.

The operator validates templates in such processes, and a worker renders records in one that may have ended a
worker before.

Parent: `IsolatedProcess` starts `python -m MODULE`, sends one request at a time and returns the answer.
Failure: the child dies (`ProcessDied`), exceeds its time (TimeoutError), or does not start (`StartFailed`);
it is gone then, and `start` starts another one.

Child: it writes an empty frame when it is ready and then one frame for each request, until standard input
ends. It sets its own limits on memory and CPU time. A frame is a payload behind its length, four bytes in
network order.
"""

import asyncio
import contextlib
import struct
import sys
from collections.abc import Sequence
from typing import BinaryIO

_LENGTH = struct.Struct(">I")
_BUFFER_BYTES = 2**24


class StartFailed(Exception):
    """The process did not become ready; the text says why, for a log line or a condition."""


class ProcessDied(Exception):
    """The process ended during a request. `status` is its exit status; negative: the signal that ended it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"signal {-status}" if status < 0 else f"status {status}")
        self.status = status


class IsolatedProcess:
    """One child process at a time, started on demand."""

    def __init__(self, module: str, arguments: Sequence[str] = (), *, start_seconds: float) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._start_seconds = start_seconds
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether a process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start a process and wait until it is ready, unless one runs; raises StartFailed."""
        if self.running:
            return
        await self.close()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_BUFFER_BYTES,
                start_new_session=True,  # Ctrl-C at a terminal is for the parent
            )
            async with asyncio.timeout(self._start_seconds):
                await _read_frame(self._process)
        except TimeoutError as error:
            await self.close()
            raise StartFailed(f"it was not ready after {self._start_seconds:.0f} s") from error
        except asyncio.IncompleteReadError as error:
            assert self._process is not None
            died = ProcessDied(await self._process.wait())
            await self.close()
            raise StartFailed(f"it ended with {died}") from error
        except OSError as error:
            await self.close()
            raise StartFailed(f"the system cannot start it: {error.strerror}") from error
        except asyncio.CancelledError:
            await self.close()
            raise

    async def request(self, payload: bytes, seconds: float) -> bytes:
        """Send a request and return the answer; raises TimeoutError or ProcessDied. `start` comes first."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(encode_frame(payload))
                await process.stdin.drain()
                return await _read_frame(process)
        except (TimeoutError, asyncio.CancelledError):
            await self.close()
            raise
        except (OSError, asyncio.IncompleteReadError) as error:
            status = await process.wait()
            await self.close()
            raise ProcessDied(status) from error

    def stop(self) -> "asyncio.Task[None]":
        """Kill the process in the background. It is taken away at once: a later `start` starts another
        one.
        """
        process, self._process = self._process, None
        return asyncio.create_task(_kill(process))

    async def close(self) -> None:
        """Kill the process and wait for its end."""
        process, self._process = self._process, None
        await _kill(process)


def encode_frame(payload: bytes) -> bytes:
    """A payload behind its length."""
    return _LENGTH.pack(len(payload)) + payload


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Write a frame and flush it; the child's side."""
    stream.write(encode_frame(payload))
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read the next payload; None at the end of the stream. The child's side."""
    head = stream.read(_LENGTH.size)
    return stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


async def _read_frame(process: asyncio.subprocess.Process) -> bytes:
    """Read the next answer; raises IncompleteReadError where the process has ended."""
    assert process.stdout is not None
    head = await process.stdout.readexactly(_LENGTH.size)
    return await process.stdout.readexactly(_LENGTH.unpack(head)[0])


async def _kill(process: asyncio.subprocess.Process | None) -> None:
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()  # read its pipes to the end, so that they are closed
