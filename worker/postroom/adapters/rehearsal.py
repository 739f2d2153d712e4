"""A rehearsal in a process of its own: does this record kill whoever renders it?

In: one payload at a time. Out: True when the process answered in time, False when it died or hung over
it; a new one takes its place. The process has limits on memory and on CPU time, so that it dies and not
its parent.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from postroom.framing import frame

PATIENCE_SECONDS = 20.0
START_SECONDS = 30.0


class Rehearsal:
    """Implements ports.rehearsal.Rehearsal over `python -m MODULE`, which speaks length-prefixed records."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._process: asyncio.subprocess.Process | None = None

    async def survives(self, payload: bytes) -> bool:
        """Hand over one payload and wait for the sign of life."""
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(frame(payload))
            async with asyncio.timeout(PATIENCE_SECONDS):
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

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            await process.stdout.readexactly(1)
        self._process = process
        return process
