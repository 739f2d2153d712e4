"""The outbox: dead letters out to their topic, cleared when the broker has them.

At least once, under stable ids: a crash in between publishes one again.
"""

import asyncio

from postroom.failpoint import reach
from postroom.ports.events import DeadLetters
from postroom.ports.ledger import Ledger

LOOK_SECONDS = 0.5
BATCH = 200


async def run(ledger: Ledger, dead_letters: DeadLetters) -> None:
    """Publish what waits until cancelled."""
    while True:
        if not await _publish(ledger, dead_letters):
            await asyncio.sleep(LOOK_SECONDS)


async def _publish(ledger: Ledger, dead_letters: DeadLetters) -> int:
    """One round; returns how many dead letters the broker acknowledged."""
    waiting = await ledger.waiting(BATCH)
    if not waiting:
        return 0
    acknowledged = await dead_letters.publish([one.dead_letter for one in waiting])
    reach("dead_letter_published")
    sent = [one for one, done in zip(waiting, acknowledged, strict=True) if done]
    await ledger.published(sent)
    reach("dead_letter_cleared")
    return len(sent)
