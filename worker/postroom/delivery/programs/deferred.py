"""Deferred and scheduled letters: recalled from the ledger when their time has come, and sent again.

A slow relay holds up only the letters it has: each batch is carried by a task of its own, and others are
recalled beside it as long as there is room.
"""

import asyncio
from collections.abc import Callable, Sequence

from postroom.delivery.journey import redeliver
from postroom.delivery.outcome import Progress
from postroom.delivery.post import Post
from postroom.failpoint import reach
from postroom.ports.ledger import Recalled

LOOK_SECONDS = 0.5
BATCH = 250
ROOM = 1000
"""Recalled letters in hand, at most."""


class Deferred:
    """The retry queue of one worker."""

    def __init__(self, post: Post, report: Callable[[Progress], None]) -> None:
        self._post = post
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_hand = 0
        self._stopped = False

    async def run(self) -> None:
        """Look for due letters until stopped or cancelled; a failed batch ends it with the batch's error."""
        while not self._stopped:
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            if not await self._recall():
                await asyncio.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Recall no more; what is in hand goes on."""
        self._stopped = True

    async def settled(self) -> None:
        """Wait until what is in hand is on record again."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _recall(self) -> bool:
        """Recall a batch; True when there may be more."""
        appetite = self._post.dispatch.appetite
        room = min(BATCH, ROOM - self._in_hand, BATCH if appetite is None else appetite)
        due = await self._post.ledger.claim_due(self._post.clock.now(), room) if room > 0 else ()
        if not due:
            return False
        reach("recalled")
        self._in_hand += len(due)
        self._tasks.add(asyncio.create_task(self._carry(due)))
        return len(due) == room

    async def _carry(self, due: Sequence[Recalled]) -> None:
        try:
            async for progress in redeliver(due, self._post):
                self._report(progress)
        finally:
            self._in_hand -= len(due)
