"""Forgetting: once an hour, what lies behind the dedupe window leaves the ledger, if it is final."""

import asyncio
from datetime import timedelta

import structlog

from postroom.ports.ledger import Ledger
from postroom.ports.world import Clock

EVERY_SECONDS = 3600.0
BATCH = 500
"""Letters forgotten in one commit: small, so that those under way never wait for it."""

PAUSE_SECONDS = 0.05

log = structlog.get_logger("postroom.ledger")


async def run(ledger: Ledger, clock: Clock, window: float) -> None:
    """Look once an hour until cancelled."""
    while True:
        before = clock.now() - timedelta(seconds=window)
        forgotten = 0
        while count := await ledger.prune(before, BATCH):
            forgotten += count
            await asyncio.sleep(PAUSE_SECONDS)
        if forgotten:
            log.info("letters behind the dedupe window forgotten", count=forgotten)
        await asyncio.sleep(EVERY_SECONDS)
