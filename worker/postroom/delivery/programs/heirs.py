"""Taking up what dead workers left in a ledger that several share, soon after their leases have run out."""

import asyncio
from collections.abc import Callable

import structlog

from postroom.delivery.post import Post

EVERY_SECONDS = 5.0

log = structlog.get_logger("postroom.ledger")


async def run(post: Post, doubts: Callable[[int], None]) -> None:
    """Look until cancelled; `doubts` hears how many letters were found in doubt."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        found = await post.ledger.recover(post.clock.now(), post.house.policy.on_in_doubt == "Resend")
        if found.recalled or found.in_doubt:
            log.warning("took up what a dead worker left", recalled=found.recalled, in_doubt=found.in_doubt)
            doubts(found.in_doubt)
