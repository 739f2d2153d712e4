"""Opens connections on demand, and knocks softly at a relay that does not answer.

How many are wanted → `opened(Opened)` for each that came up, `failed(Unopened)` for each that did not.
After a failure nothing is tried for a while; then one attempt goes first, and the others follow when it has
worked. While other connections carry letters the wait doubles, from 1 s up to 30 s: a relay that takes no
more of them should not be bothered for it. With none open it stays at 1 s: the circuit counts those failures
and ends the knocking, and letters leave by another way the sooner. A wait is up to a half longer by chance,
so that many workers don't knock at once, and never shorter, so that each failure counts.
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
        self._failures = 0
        """In a row."""
        self._failed_at = 0.0
        self._longer = 1.0

    @property
    def attempts(self) -> int:
        """Connections that are being opened."""
        return len(self._tasks)

    def grow(self, wanted: int, *, alone: bool) -> None:
        """Open `wanted` more connections, or as many as is decent now; `alone`: there is no other yet."""
        if wanted <= 0:
            return
        if self._failures:
            if self._tasks or self._loop.time() < self._failed_at + self.wait(alone=alone):
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
            self._failures = 0
            self._opened(opened)
        finally:
            self._tasks.discard(task)

    def wait(self, *, alone: bool) -> float:
        """Seconds from the last failure to the next attempt."""
        first, ceiling = self._backoff.first, self._backoff.ceiling
        # the exponent is capped so that a long outage cannot overflow a float
        return self._longer * (first if alone else min(ceiling, first * 2.0 ** min(self._failures - 1, 32)))

    def _step_back(self) -> None:
        """Take note of a failure; attempts that fail together count as one."""
        now = self._loop.time()
        if not self._failures or now >= self._failed_at + self._backoff.first:
            self._failures += 1
            self._failed_at = now
            self._longer = random.uniform(1.0, 1.5)  # noqa: S311 - spreads load, guards nothing
