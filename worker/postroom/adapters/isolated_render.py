"""Render a record in a process of its own, to find out whether the record ends or hangs the renderer.

Input: one packed record at a time. Output: True when the process replied in time, False when it died or
exceeded its time; the next `ready` starts another process. Failure: when no process starts, no record is
judged; `ready` returns False and `last_error` states the reason. The child (`worker.isolated_render`)
limits its own memory and CPU time.
"""

from collections.abc import Sequence

import structlog

from postroom.isolated_process import IsolatedProcess, ProcessDied, StartFailed

log = structlog.get_logger("postroom.worker")

RENDER_TIMEOUT_SECONDS = 20.0
START_TIMEOUT_SECONDS = 30.0


class IsolatedRenderProcess:
    """Implements ports.world.IsolatedRenderer with `python -m MODULE`."""

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
            log.error("isolated render process not started; suspect records wait", reason=error)
        elif self.last_error and not error:
            log.warning("isolated render process started; suspect records are tried again")
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
