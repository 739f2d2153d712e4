"""Render records in a separate process: packed record → whether the process survived.

The process has limits on memory and CPU time, so that a poison record ends it and not the worker; it is
replaced afterwards. A process that does not start at all is a different failure (`last_error`).
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
    """Implements `ports.world.IsolatedRenderer` over `python -m MODULE`, on framed records."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self.last_error = ""

    async def ready(self) -> bool:
        if self._process is not None and self._process.returncode is None:
            return True
        await self.close()
        trouble = await self._start()
        if trouble and not self.last_error:
            log.error(
                "isolated renderer does not start; records that may have ended the worker wait",
                reason=trouble,
            )
        elif self.last_error and not trouble:
            log.warning("isolated renderer started")
        self.last_error = trouble
        return not trouble

    async def renders_safely(self, payload: bytes) -> bool:
        """Send one payload and wait for the reply byte."""
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
        """Start the process; returns the error, or empty text."""
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
    """Wait until the process is ready; returns how it ended otherwise, or empty text."""
    assert process.stdout is not None
    if await process.stdout.read(1):
        return ""
    status = await process.wait()
    return f"signal {-status} ended it" if status < 0 else f"it ended with status {status}"
