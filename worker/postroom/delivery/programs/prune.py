"""Forgetting: once an hour, what lies behind the dedupe window leaves the ledger, if it is final; and letters
in doubt that nobody decided about end as dead letters, so that no event stays in the ledger for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from postroom.delivery.post import House
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import Ledger
from postroom.ports.world import Clock

EVERY_SECONDS = 3600.0
BATCH = 500
"""Letters forgotten in one commit: small, so that those under way never wait for it."""

PAUSE_SECONDS = 0.05

log = structlog.get_logger("postroom.ledger")


async def run(ledger: Ledger, clock: Clock, house: House, undecided: Callable[[int], None]) -> None:
    """Look once an hour until cancelled; `undecided` is told how many letters ended without a decision."""
    while True:
        if count := await end_undecided(ledger, clock, house):
            undecided(count)
            said = "letters in doubt ended as dead letters: nobody decided about them"
            log.warning(said, count=count, parked_for=house.parked_for)
        if count := await forget(ledger, clock, house):
            log.info("letters behind the dedupe window forgotten", count=count)
        await asyncio.sleep(EVERY_SECONDS)


async def end_undecided(ledger: Ledger, clock: Clock, house: House) -> int:
    """End what has been in doubt for too long; how many letters that were."""
    now = clock.now()
    before, why = now - timedelta(seconds=house.parked_for), undecided_for(house.parked_for)
    return await _all(lambda: ledger.expire_in_doubt(before, why, now))


async def forget(ledger: Ledger, clock: Clock, house: House) -> int:
    """Forget what ended before the dedupe window; how many letters that were."""
    before = clock.now() - timedelta(seconds=house.window)
    return await _all(lambda: ledger.prune(before, BATCH))


def undecided_for(seconds: float) -> Problem:
    """Why a letter in doubt ends."""
    return Problem(
        Code.UNDECIDED,
        "spec.parkedFor",
        f"the relay's answer was lost, and nobody decided within {seconds / 3600:g} h: a copy may have "
        "arrived; ask the relay's log. `postroom dlq replay --insist undecided` sends it again",
    )


async def _all(some: Callable[[], Awaitable[int]]) -> int:
    done = 0
    while count := await some():
        done += count
        await asyncio.sleep(PAUSE_SECONDS)
    return done
