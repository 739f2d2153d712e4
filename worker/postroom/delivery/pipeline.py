"""READ FIRST. The way of a letter: validate → render → claim → send → settle, a batch at a time.

In: records of the profile's topic, or letters recalled from the ledger. Out: Progress, group by group as
the relay answers; the caller counts, logs and moves the watermark by it. Nothing is lost by stopping
anywhere: what is not settled is either still on the topic or in its row.
"""

from collections.abc import AsyncIterator, Sequence

from postroom.delivery.claim import claim
from postroom.delivery.context import DeliveryContext
from postroom.delivery.parse import parse, restore
from postroom.delivery.render import render
from postroom.delivery.send import send
from postroom.delivery.settle import record_dead_letters, settle
from postroom.letter.event import Record
from postroom.policy.outcomes import Progress
from postroom.ports.ledger import Recalled


async def deliver(records: Sequence[Record], context: DeliveryContext) -> AsyncIterator[Progress]:
    """Carry one batch from records to settled rows."""
    with context.batch_order.join() as turn:
        batch = parse(records, context)  # Record  → Letter | Malformed
        verdicts = await render(batch.letters, context)  # Letter  → content | Outcome
        claims = await claim(
            batch.letters, verdicts, context
        )  # Letter  → Claimed | known | held | mismatched
        await turn.wait()
        outcomes = send(claims.claimed, verdicts, context)  # Claimed → Outcome
    yield await record_dead_letters(batch.malformed + claims.mismatched, context)
    yield Progress(
        duplicates=batch.tombstones + claims.duplicates,
        held=claims.held,
        taken_in_doubt=claims.taken_in_doubt,
    )
    async for progress in settle(outcomes, context):  # Outcome → Step
        yield progress


async def retry_due(recalled: Sequence[Recalled], context: DeliveryContext) -> AsyncIterator[Progress]:
    """Carry letters whose time has come again; the ledger has claimed them already."""
    claimed, verdicts = restore(recalled, context)  # Recalled → Claimed | Outcome
    verdicts |= await render([one.letter for one in claimed if one.letter not in verdicts], context)
    async for progress in settle(send(claimed, verdicts, context), context):
        yield progress
