"""READ FIRST. The way of a letter: validate → render → claim → send → settle, a batch at a time.

In: records of the profile's topic, or letters recalled from the ledger. Out: Progress, group by group as
the relay answers; the caller counts, logs and moves the watermark by it. Nothing is lost by stopping
anywhere: what is not settled is either still on the topic or in its row.
"""

from collections.abc import AsyncIterator, Sequence

from postroom.delivery.claim import claim
from postroom.delivery.outcome import Progress
from postroom.delivery.post import Post
from postroom.delivery.render import render
from postroom.delivery.send import send
from postroom.delivery.settle import bury, settle
from postroom.delivery.validate import recollect, validate
from postroom.letter.event import Record
from postroom.ports.ledger import Recalled


async def deliver(records: Sequence[Record], post: Post) -> AsyncIterator[Progress]:
    """Carry one batch from records to settled rows."""
    with post.procession.join() as turn:
        batch = validate(records, post)  # Record  → Letter | Malformed
        verdicts = await render(batch.letters, post)  # Letter  → content | Outcome
        claims = await claim(batch.letters, verdicts, post)  # Letter  → Claimed | known | held | mismatched
        await turn.wait()
        outcomes = send(claims.claimed, verdicts, post)  # Claimed → Outcome
    yield await bury(batch.malformed + claims.mismatched, post)
    yield Progress(
        known=batch.tombstones + claims.known, held=claims.held, taken_in_doubt=claims.taken_in_doubt
    )
    async for progress in settle(outcomes, post):  # Outcome → Step
        yield progress


async def redeliver(recalled: Sequence[Recalled], post: Post) -> AsyncIterator[Progress]:
    """Carry letters whose time has come again; the ledger has claimed them already."""
    claimed, verdicts = recollect(recalled, post)  # Recalled → Claimed | Outcome
    verdicts |= await render([one.letter for one in claimed if one.letter not in verdicts], post)
    async for progress in settle(send(claimed, verdicts, post), post):
        yield progress
