"""Deferred and scheduled letters: recalled from the ledger when their time has come, and sent again."""

import asyncio
from collections.abc import Callable

from postroom.delivery.journey import redeliver
from postroom.delivery.outcome import Progress
from postroom.delivery.post import Post
from postroom.failpoint import reach

LOOK_SECONDS = 0.5
BATCH = 250


async def run(post: Post, report: Callable[[Progress], None]) -> None:
    """Look for due letters until cancelled; while there are many, without a pause."""
    while True:
        due = await post.ledger.due(post.clock.now(), BATCH)
        if due:
            reach("recalled")
            async for progress in redeliver(due, post):
                report(progress)
        if len(due) < BATCH:
            await asyncio.sleep(LOOK_SECONDS)
