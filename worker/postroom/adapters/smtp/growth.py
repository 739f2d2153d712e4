"""Opens connections on demand, and knocks softly at a relay that does not answer.

How many are wanted → `opened(Opened)` for each that came up, `failed(Unopened)` for each that did not.
After a failure nothing is tried for a while, 1 s and doubling up to 30 s, give or take a quarter so that
many workers don't knock at once; then one attempt goes first, and the others follow when it has worked.
"""

import asyncio
import random
from collections.abc import Callable

from postroom.adapters.smtp.opening import Opened, Opener, Unopened
from postroom.adapters.smtp.settings import Backoff
from postroom.ports.relay import Stage


class Growth:
    """The attempts under way, and when the next one may be made."""

    def __init__(
        self,
        opener: Opener,
        backoff: Backoff,
        opened: Callable[[Opened], None],
        failed: Callable[[Unopened], None],
    ) -> None:
        self._opener = opener
        self._backoff = backoff
        self._opened = opened
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._not_before = 0.0

    @property
    def attempts(self) -> int:
        """Connections that are being opened."""
        return len(self._tasks)

    def grow(self, wanted: int) -> None:
        """Open `wanted` more connections, or as many as is decent now."""
        if wanted <= 0:
            return
        if self._delay:
            if self._tasks or self._loop.time() < self._not_before:
                return
            wanted = 1
        for _ in range(wanted):
            task = self._loop.create_task(self._open())
            self._tasks.add(task)

    async def stop(self) -> None:
        """Give up what is being opened."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            opened = await self._opener.open()
        except Unopened as failure:
            self._tasks.discard(task)
            self._step_back()
            self._failed(failure)
        except Exception as error:  # noqa: BLE001 - a bug here must still tell the letters that wait
            self._tasks.discard(task)
            self._step_back()
            self._loop.call_exception_handler({"message": "opening a connection raised", "exception": error})
            self._failed(Unopened(Stage.CONNECT, f"{type(error).__name__}: {error}"))
        else:
            self._tasks.discard(task)
            self._delay = 0.0
            self._opened(opened)
        finally:
            self._tasks.discard(task)

    def _step_back(self) -> None:
        """Wait twice as long as the last time; attempts that fail together count as one."""
        now = self._loop.time()
        if now >= self._not_before:
            self._delay = min(self._backoff.ceiling, self._delay * 2 or self._backoff.first)
            jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
            self._not_before = now + self._delay * jitter
