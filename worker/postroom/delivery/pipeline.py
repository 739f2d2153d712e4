"""READ FIRST. The delivery pipeline: parse → render → claim → send → settle, one batch at a time.

| module   | input → output                                       | written to the ledger              |
|----------|------------------------------------------------------|------------------------------------|
| `parse`  | Record → Letter, Malformed or tombstone              |                                    |
| `render` | Letter → content, or an Outcome that needs no relay  |                                    |
| `claim`  | Letter → Claimed, duplicate, held or mismatched      | row in state `claimed`             |
| `send`   | Claimed → Outcome, in groups, as the relay replies   | state `sending`, before content    |
| `settle` | Outcome → Step (`policy.retry`)                      | the next state and the dead letter |

Input: records of the profile's topic (`deliver`), or letters that are due in the ledger (`retry_due`).
Output: a Progress for each group of letters. The caller counts and logs it and finishes the records' offsets
(`consumer`).

Failure: the pipeline may stop at any point without loss. A record is either not committed on the topic, so
that Kafka delivers it again, or its letter has a row in the ledger. A ledger error ends the generator.
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
    """Process one batch from records to settled rows.

    Batches are parsed, rendered and claimed concurrently; they enter the send queue in the order in which
    `deliver` was called, so that letters with the same record key stay in order.
    """
    with context.batch_order.join() as previous_batches_sent:
        batch = parse(records, context)
        verdicts = await render(batch.letters, context)
        claims = await claim(batch.letters, verdicts, context)
        await previous_batches_sent.wait()
        outcomes = send(claims.claimed, verdicts, context)
    yield await record_dead_letters(batch.malformed + claims.mismatched, context)
    yield Progress(
        duplicates=batch.tombstones + claims.duplicates,
        held=claims.held,
        taken_in_doubt=claims.taken_in_doubt,
    )
    async for progress in settle(outcomes, context):
        yield progress


async def retry_due(recalled: Sequence[Recalled], context: DeliveryContext) -> AsyncIterator[Progress]:
    """Process letters whose next attempt is due; the ledger has claimed them for this worker already."""
    claimed, verdicts = restore(recalled, context)
    readable = [row.letter for row in claimed if row.letter not in verdicts]
    verdicts |= await render(readable, context)
    async for progress in settle(send(claimed, verdicts, context), context):
        yield progress
