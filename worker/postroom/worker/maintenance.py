"""Forgetting: once an hour, what lies behind the dedupe window leaves the ledger, if it is final; and letters
in doubt that nobody decided about end as dead letters, so that no event stays in the ledger for ever.

Taking up what dead workers left in a ledger that several share, soon after their leases have run out.

The outbox: what has to be published out to its topic, cleared when the broker has it.

Dead letters, and notices for the status topic. At least once, under stable ids: a crash in between publishes
one again.

Deferred and scheduled letters: recalled from the ledger when their time has come, and sent again.

A slow relay holds up only the letters it has: each batch is carried by a task of its own, and others are
recalled beside it as long as there is room.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from postroom.delivery.context import DeliveryContext, DeliveryPolicy
from postroom.delivery.pipeline import retry_due
from postroom.failpoint import reach
from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import DeadLetterPublisher
from postroom.ports.ledger import Ledger, Recalled
from postroom.ports.notifications import TOPIC, NotificationOutbox, StatusEventPublisher
from postroom.ports.world import Clock

PRUNE_INTERVAL_SECONDS = 3600.0
PRUNE_BATCH = 500
"""Letters forgotten in one commit: small, so that those under way never wait for it."""

PRUNE_PAUSE_SECONDS = 0.05

log = structlog.get_logger("postroom.ledger")


async def run_pruning(
    ledger: Ledger, clock: Clock, policy: DeliveryPolicy, undecided: Callable[[int], None]
) -> None:
    """Look once an hour until cancelled; `undecided` is told how many letters ended without a decision."""
    while True:
        if count := await end_undecided(ledger, clock, policy):
            undecided(count)
            said = "letters in doubt ended as dead letters: nobody decided about them"
            log.warning(said, count=count, parked_for=policy.parked_for)
        if count := await prune_ledger(ledger, clock, policy):
            log.info("letters behind the dedupe window forgotten", count=count)
        await asyncio.sleep(PRUNE_INTERVAL_SECONDS)


async def end_undecided(ledger: Ledger, clock: Clock, policy: DeliveryPolicy) -> int:
    """End what has been in doubt for too long; how many letters that were."""
    now = clock.now()
    before, why = now - timedelta(seconds=policy.parked_for), undecided_problem(policy.parked_for)
    return await _all_batches(lambda: ledger.expire_in_doubt(before, why, now))


async def prune_ledger(ledger: Ledger, clock: Clock, policy: DeliveryPolicy) -> int:
    """Forget what ended before the dedupe window; how many letters that were."""
    before = clock.now() - timedelta(seconds=policy.window)
    return await _all_batches(lambda: ledger.prune(before, PRUNE_BATCH))


def undecided_problem(seconds: float) -> Problem:
    """Why a letter in doubt ends."""
    return Problem(
        Code.UNDECIDED,
        "spec.parkedFor",
        f"the relay's answer was lost, and nobody decided within {seconds / 3600:g} h: a copy may have "
        "arrived; ask the relay's log. `postroom dlq replay --insist undecided` sends it again",
    )


async def _all_batches(some: Callable[[], Awaitable[int]]) -> int:
    done = 0
    while count := await some():
        done += count
        await asyncio.sleep(PRUNE_PAUSE_SECONDS)
    return done


RECOVERY_INTERVAL_SECONDS = 5.0


async def run_lease_recovery(context: DeliveryContext, doubts: Callable[[int], None]) -> None:
    """Look until cancelled; `doubts` hears how many letters were found in doubt."""
    while True:
        await asyncio.sleep(RECOVERY_INTERVAL_SECONDS)
        found = await context.ledger.recover(
            context.clock.now(), context.policy.retry.on_in_doubt == "Resend"
        )
        if found.recalled or found.in_doubt:
            log.warning("took up what a dead worker left", recalled=found.recalled, in_doubt=found.in_doubt)
            doubts(found.in_doubt)


OUTBOX_INTERVAL_SECONDS = 0.5
OUTBOX_BATCH = 200
NOTIFICATION_BATCH = 1000
"""Notices are small, and one follows each letter: the more in a round, the less each costs."""


async def run_outbox(publish: Callable[[], Awaitable[int]]) -> None:
    """Publish what waits until cancelled."""
    while True:
        if not await publish():
            await asyncio.sleep(OUTBOX_INTERVAL_SECONDS)


async def publish_dead_letters(ledger: Ledger, dead_letters: DeadLetterPublisher) -> int:
    """One round; returns how many dead letters the broker acknowledged."""
    waiting = await ledger.pending_dead_letters(OUTBOX_BATCH)
    if not waiting:
        return 0
    acknowledged = await dead_letters.publish([one.dead_letter for one in waiting])
    reach("dead_letter_published")
    sent = [one for one, done in zip(waiting, acknowledged, strict=True) if done]
    await ledger.delete_dead_letters(sent)
    reach("dead_letter_cleared")
    return len(sent)


async def publish_notifications(
    outbox: NotificationOutbox, courier: StatusEventPublisher, clock: Clock
) -> int:
    """One round; returns how many notices the broker acknowledged."""
    waiting = await outbox.pending(TOPIC, clock.now(), NOTIFICATION_BATCH)
    if not waiting:
        return 0
    acknowledged = await courier.publish(waiting)
    reach("notices_published")
    sent = [one for one, done in zip(waiting, acknowledged, strict=True) if done]
    await outbox.delivered(sent)
    return len(sent)


RECALL_INTERVAL_SECONDS = 0.5
RECALL_BATCH = 250
MAX_RECALLED = 1000
"""Recalled letters in hand, at most."""


class DueLetters:
    """The retry queue of one worker."""

    def __init__(self, context: DeliveryContext, report: Callable[[Progress], None]) -> None:
        self._post = context
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
                await asyncio.sleep(RECALL_INTERVAL_SECONDS)

    def stop(self) -> None:
        """Recall no more; what is in hand goes on."""
        self._stopped = True

    async def settled(self) -> None:
        """Wait until what is in hand is on record again."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _recall(self) -> bool:
        """Recall a batch; True when there may be more."""
        appetite = self._post.dispatch.recall_limit
        room = min(RECALL_BATCH, MAX_RECALLED - self._in_hand, RECALL_BATCH if appetite is None else appetite)
        due = await self._post.ledger.claim_due(self._post.clock.now(), room) if room > 0 else ()
        if not due:
            return False
        reach("recalled")
        self._in_hand += len(due)
        self._tasks.add(asyncio.create_task(self._carry(due)))
        return len(due) == room

    async def _carry(self, due: Sequence[Recalled]) -> None:
        try:
            async for progress in retry_due(due, self._post):
                self._report(progress)
        finally:
            self._in_hand -= len(due)
