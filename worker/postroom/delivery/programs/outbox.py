"""The outbox: what has to be published out to its topic, cleared when the broker has it.

Dead letters, and notices for the status topic. At least once, under stable ids: a crash in between publishes
one again.
"""

import asyncio
from collections.abc import Awaitable, Callable

from postroom.failpoint import reach
from postroom.ports.kafka import DeadLetterPublisher
from postroom.ports.ledger import Ledger
from postroom.ports.notices import TOPIC, Courier, Outbox
from postroom.ports.world import Clock

LOOK_SECONDS = 0.5
BATCH = 200
NOTICES = 1000
"""Notices are small, and one follows each letter: the more in a round, the less each costs."""


async def run(publish: Callable[[], Awaitable[int]]) -> None:
    """Publish what waits until cancelled."""
    while True:
        if not await publish():
            await asyncio.sleep(LOOK_SECONDS)


async def publish_dead_letters(ledger: Ledger, dead_letters: DeadLetterPublisher) -> int:
    """One round; returns how many dead letters the broker acknowledged."""
    waiting = await ledger.pending_dead_letters(BATCH)
    if not waiting:
        return 0
    acknowledged = await dead_letters.publish([one.dead_letter for one in waiting])
    reach("dead_letter_published")
    sent = [one for one, done in zip(waiting, acknowledged, strict=True) if done]
    await ledger.delete_dead_letters(sent)
    reach("dead_letter_cleared")
    return len(sent)


async def publish_notices(outbox: Outbox, courier: Courier, clock: Clock) -> int:
    """One round; returns how many notices the broker acknowledged."""
    waiting = await outbox.pending(TOPIC, clock.now(), NOTICES)
    if not waiting:
        return 0
    acknowledged = await courier.publish(waiting)
    reach("notices_published")
    sent = [one for one, done in zip(waiting, acknowledged, strict=True) if done]
    await outbox.delivered(sent)
    return len(sent)
