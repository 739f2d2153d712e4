"""The periodic tasks of a worker: prune the ledger, recover leases, publish outboxes, retry due letters.

| task                 | input → output                                                                     |
|----------------------|------------------------------------------------------------------------------------|
| `run_pruning`        | hourly: delete final rows behind the dedupe window; end letters parked for too long |
| `run_lease_recovery` | rows of dead workers in a shared ledger → due again, or in doubt                    |
| `run_outbox`         | dead letters and notifications → Kafka, deleted after the acknowledgement           |
| `DueLetters`         | deferred and scheduled letters that are due → pipeline                              |

Publishing is at least once, under stable ids: a crash before the deletion publishes again. Due letters are
processed in concurrent batches, so that a slow relay delays only the letters that it has.
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
"""Letters deleted in one commit: few, so that letters in progress do not wait for it."""

PRUNE_PAUSE_SECONDS = 0.05

log = structlog.get_logger("postroom.ledger")


async def run_pruning(
    ledger: Ledger, clock: Clock, policy: DeliveryPolicy, undecided: Callable[[int], None]
) -> None:
    """Prune once an hour until cancelled; `undecided` gets the number of letters ended without a decision."""
    while True:
        if count := await end_undecided(ledger, clock, policy):
            undecided(count)
            message = "letters in doubt ended as dead letters: parkedFor passed without a decision"
            log.warning(message, count=count, parked_for=policy.parked_for)
        if count := await prune_ledger(ledger, clock, policy):
            log.info("letters behind the dedupe window deleted", count=count)
        await asyncio.sleep(PRUNE_INTERVAL_SECONDS)


async def end_undecided(ledger: Ledger, clock: Clock, policy: DeliveryPolicy) -> int:
    """End letters that were in doubt for too long; returns how many."""
    now = clock.now()
    before, why = now - timedelta(seconds=policy.parked_for), undecided_problem(policy.parked_for)
    return await _all_batches(lambda: ledger.expire_in_doubt(before, why, now))


async def prune_ledger(ledger: Ledger, clock: Clock, policy: DeliveryPolicy) -> int:
    """Delete letters that ended before the dedupe window; returns how many."""
    before = clock.now() - timedelta(seconds=policy.window)
    return await _all_batches(lambda: ledger.prune(before, PRUNE_BATCH))


def undecided_problem(seconds: float) -> Problem:
    """Build the problem of a letter in doubt that ends without a decision."""
    return Problem(
        Code.UNDECIDED,
        "spec.parkedFor",
        f"the relay's answer was lost, and no decision was made within {seconds / 3600:g} h: a copy may have "
        "arrived; ask the relay's log. `postroom dlq replay --insist undecided` sends it again",
    )


async def _all_batches(some: Callable[[], Awaitable[int]]) -> int:
    done = 0
    while count := await some():
        done += count
        await asyncio.sleep(PRUNE_PAUSE_SECONDS)
    return done


RECOVERY_INTERVAL_SECONDS = 5.0


async def run_lease_recovery(context: DeliveryContext, report_in_doubt: Callable[[int], None]) -> None:
    """Recover until cancelled; `report_in_doubt` gets the number of letters found in doubt."""
    while True:
        await asyncio.sleep(RECOVERY_INTERVAL_SECONDS)
        found = await context.ledger.recover(
            context.clock.now(), context.policy.retry.on_in_doubt == "Resend"
        )
        if found.recalled or found.in_doubt:
            log.warning(
                "recovered letters of a dead worker", recalled=found.recalled, in_doubt=found.in_doubt
            )
            report_in_doubt(found.in_doubt)


OUTBOX_INTERVAL_SECONDS = 0.5
OUTBOX_BATCH = 200
NOTIFICATION_BATCH = 1000
"""Notifications are small and frequent: larger batches cost less for each."""


async def run_outbox(publish: Callable[[], Awaitable[int]]) -> None:
    """Publish pending entries until cancelled."""
    while True:
        if not await publish():
            await asyncio.sleep(OUTBOX_INTERVAL_SECONDS)


async def publish_dead_letters(ledger: Ledger, dead_letters: DeadLetterPublisher) -> int:
    """Publish one batch; returns how many dead letters the broker acknowledged."""
    waiting = await ledger.pending_dead_letters(OUTBOX_BATCH)
    if not waiting:
        return 0
    acknowledged = await dead_letters.publish([entry.dead_letter for entry in waiting])
    reach("dead_letter_published")
    sent = [entry for entry, done in zip(waiting, acknowledged, strict=True) if done]
    await ledger.delete_dead_letters(sent)
    reach("dead_letter_cleared")
    return len(sent)


async def publish_notifications(
    outbox: NotificationOutbox, publisher: StatusEventPublisher, clock: Clock
) -> int:
    """Publish one batch; returns how many notifications the broker acknowledged."""
    waiting = await outbox.pending(TOPIC, clock.now(), NOTIFICATION_BATCH)
    if not waiting:
        return 0
    acknowledged = await publisher.publish(waiting)
    reach("notifications_published")
    sent = [entry for entry, done in zip(waiting, acknowledged, strict=True) if done]
    await outbox.delivered(sent)
    return len(sent)


RECALL_INTERVAL_SECONDS = 0.5
RECALL_BATCH = 250
MAX_RECALLED = 1000
"""Maximum number of recalled letters in progress."""


class DueLetters:
    """The retry queue of one worker."""

    def __init__(self, context: DeliveryContext, report: Callable[[Progress], None]) -> None:
        self._context = context
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_progress = 0
        self._stopped = False

    async def run(self) -> None:
        """Process due letters until stopped or cancelled; raises the error of a failed batch."""
        while not self._stopped:
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            if not await self._recall():
                await asyncio.sleep(RECALL_INTERVAL_SECONDS)

    def stop(self) -> None:
        """Recall no more letters; those in progress continue."""
        self._stopped = True

    async def settled(self) -> None:
        """Wait until all letters in progress are settled."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _recall(self) -> bool:
        """Recall a batch; True when there may be more."""
        limit = self._context.dispatch.recall_limit
        room = min(RECALL_BATCH, MAX_RECALLED - self._in_progress, RECALL_BATCH if limit is None else limit)
        due = await self._context.ledger.claim_due(self._context.clock.now(), room) if room > 0 else ()
        if not due:
            return False
        reach("recalled")
        self._in_progress += len(due)
        self._tasks.add(asyncio.create_task(self._process(due)))
        return len(due) == room

    async def _process(self, due: Sequence[Recalled]) -> None:
        try:
            async for progress in retry_due(due, self._context):
                self._report(progress)
        finally:
            self._in_progress -= len(due)
