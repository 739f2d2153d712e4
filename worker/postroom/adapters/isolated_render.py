"""Render a record in a child process, to find out whether it ends the process that renders it.

In: one packed record at a time. Out: True when the child answered in time, False when it died or exceeded
its time; `ready` starts another child. The child limits its own memory and CPU time, so that it ends and
not the worker. Failure: a child that cannot be started is no result; `last_error` gives the reason.
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
        """Start the child unless it runs; False while it cannot be started."""
        try:
            await self._process.start()
        except StartFailed as failure:
            if not self.last_error:
                log.error(
                    "isolated renderer did not start; records that may have ended the worker wait",
                    reason=str(failure),
                )
            self.last_error = str(failure)
            return False
        if self.last_error:
            log.warning("isolated renderer started")
        self.last_error = ""
        return True

    async def renders_safely(self, payload: bytes) -> bool:
        """Whether the child survived one packed record; `ready` comes first."""
        try:
            await self._process.request(payload, RENDER_TIMEOUT_SECONDS)
        except (TimeoutError, ProcessDied):
            return False
        return True

    async def close(self) -> None:
        """Kill the child and wait for its end."""
        await self._process.close()
