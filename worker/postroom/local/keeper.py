"""Keep the embedded broker running: start it, start it again when it ends by itself, end it at the end.

The same port and the same data at each start, so that workers and the gateway reconnect and nothing that
was acknowledged is lost. Failure: `Trouble` from `start` when it cannot be built or does not listen.
"""

import asyncio
import contextlib

from postroom.local.broker import LocalBroker
from postroom.local.supervise import LONGEST_PAUSE, SHORTEST_PAUSE, Tell
from postroom.local.trouble import Trouble


class BrokerKeeper:
    """A supervised embedded broker."""

    def __init__(self, broker: LocalBroker, tell: Tell) -> None:
        self._broker = broker
        self._tell = tell
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def bootstrap(self) -> str:
        """Its address, the same over restarts."""
        return self._broker.bootstrap

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._broker.pid

    async def start(self) -> None:
        """Start it (and build it first, where needed); return when it listens."""
        await asyncio.to_thread(self._broker.start)
        self._task = asyncio.create_task(self._keep_running(), name="supervise broker")

    async def stop(self) -> None:
        """End it in order."""
        self._stopping.set()
        await asyncio.to_thread(self._broker.stop)
        if self._task is not None:
            await self._task

    async def _keep_running(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            await asyncio.to_thread(self._broker.wait)
            if self._stopping.is_set():
                return
            self.restarts += 1
            self._tell("the broker ended; starting it again")
            try:
                await asyncio.to_thread(self._broker.restart)
                if self._stopping.is_set():  # asked to end while it was starting
                    await asyncio.to_thread(self._broker.stop)
                    return
                pause = SHORTEST_PAUSE
            except Trouble as trouble:
                self._tell(trouble.what)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, LONGEST_PAUSE)
