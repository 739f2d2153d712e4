"""A rehearsal in a process of its own: does this record kill whoever renders it?

In: one payload at a time. Out: True when the process answered in time, False when it died or hung over
it; a new one takes its place. The process has limits on memory and on CPU time, so that it dies and not
its parent. One that does not start is told apart from one that dies of a record: `trouble` says why.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

import structlog

from postroom.framing import encode_frame

log = structlog.get_logger("postroom.worker")

RENDER_TIMEOUT_SECONDS = 20.0
START_TIMEOUT_SECONDS = 30.0


class IsolatedRenderProcess:
    """Implements ports.rehearsal.Rehearsal over `python -m MODULE`, which speaks length-prefixed records."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self.last_error = ""

    async def ready(self) -> bool:
        """See the port."""
        if self._process is not None and self._process.returncode is None:
            return True
        await self.close()
        trouble = await self._start()
        if trouble and not self.last_error:
            log.error("no record can be tried; those that may have ended the worker wait", reason=trouble)
        elif self.last_error and not trouble:
            log.warning("records can be tried again")
        self.last_error = trouble
        return not trouble

    async def renders_safely(self, payload: bytes) -> bool:
        """Hand over one payload and wait for the sign of life."""
        process = self._process
        assert process is not None, "ready comes first"
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(encode_frame(payload))
            async with asyncio.timeout(RENDER_TIMEOUT_SECONDS):
                await process.stdin.drain()
                await process.stdout.readexactly(1)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            await self.close()
            return False
        return True

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _start(self) -> str:
        """Start a process; says why there is none, or nothing."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                trouble = await _wait_for_start(self._process)
        except TimeoutError:  # it is an OSError too
            trouble = f"it was not ready after {START_TIMEOUT_SECONDS:.0f} s"
        except OSError as error:
            trouble = f"the system refuses to start it: {error.strerror}"
        if trouble:
            await self.close()
        return trouble


async def _wait_for_start(process: asyncio.subprocess.Process) -> str:
    """Wait until it is ready; says how it ended where it ends instead."""
    assert process.stdout is not None
    if await process.stdout.read(1):
        return ""
    status = await process.wait()
    return f"signal {-status} ended it" if status < 0 else f"it ended with status {status}"
