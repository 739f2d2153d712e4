"""Render records in a separate process: packed record → whether the process survived.

The process (`worker.isolated_render`) limits its memory and CPU time, so that a poison record ends it and not
the worker; the next `ready` replaces it. A process that does not start at all is a different failure
(`last_error`).
"""

from collections.abc import Sequence

import structlog

from postroom.isolated_process import IsolatedProcess, ProcessDied, StartFailed

log = structlog.get_logger("postroom.worker")

RENDER_TIMEOUT_SECONDS = 20.0
START_TIMEOUT_SECONDS = 30.0


class IsolatedRenderProcess:
    """Implements `ports.world.IsolatedRenderer` over `python -m MODULE`."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._process = IsolatedProcess(module, arguments, start_seconds=START_TIMEOUT_SECONDS)
        self.last_error = ""

    async def ready(self) -> bool:
        error = ""
        try:
            await self._process.start()
        except StartFailed as failed:
            error = str(failed)
        if error and not self.last_error:
            log.error(
                "isolated renderer does not start; records that may have ended the worker wait",
                reason=error,
            )
        elif self.last_error and not error:
            log.warning("isolated renderer started")
        self.last_error = error
        return not error

    async def renders_safely(self, payload: bytes) -> bool:
        try:
            await self._process.request(payload, RENDER_TIMEOUT_SECONDS)
        except (TimeoutError, ProcessDied):
            return False
        return True

    async def close(self) -> None:
        await self._process.close()
