"""Send claimed letters: Claimed → Outcome, in groups, as the relay reports results.

Letters that have a verdict or a suppressed recipient get their outcome without the relay.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

from postroom.delivery.context import DeliveryContext
from postroom.delivery.render import Verdicts, expired
from postroom.failpoint import reach
from postroom.policy.outcomes import Expired, Outcome, Suppressed
from postroom.policy.replies import classify_reply
from postroom.policy.suppression import suppression_problem
from postroom.ports.ledger import Claimed
from postroom.ports.relay import NotSent, OutboundMessage, Result
from postroom.ports.world import Clock

Decided = list[tuple[Claimed, Outcome]]


class ResultBuffer:
    """Collects the results of one batch until `take` is called."""

    def __init__(self) -> None:
        self._results: list[tuple[Claimed, Result]] = []
        self._filled = asyncio.Event()

    def put(self, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        """Add results; this is the relay's Report callback."""
        self._results.extend(cast("Sequence[tuple[Claimed, Result]]", results))
        self._filled.set()

    async def take(self) -> list[tuple[Claimed, Result]]:
        """Wait for at least one result and return all that are there."""
        await self._filled.wait()
        self._filled.clear()
        taken, self._results = self._results, []
        return taken


def send(claimed: Sequence[Claimed], verdicts: Verdicts, context: DeliveryContext) -> AsyncIterator[Decided]:
    """Queue the letters without a verdict at once; the returned iterator yields outcomes in groups."""
    decisions = [(claim, verdicts.get(claim.letter) or _suppressed(claim)) for claim in claimed]
    decided = [(claim, verdict) for claim, verdict in decisions if verdict]
    sending = [claim for claim, verdict in decisions if not verdict]
    buffer = ResultBuffer()
    context.dispatch.deliver(sending, buffer.put)
    return _outcomes(decided, buffer, len(sending), context.clock)


def _suppressed(claim: Claimed) -> Outcome | None:
    problem = suppression_problem(claim.suppressions, claim.letter.category) if claim.suppressions else None
    return Suppressed(problem) if problem else None


async def _outcomes(
    decided: Decided, buffer: ResultBuffer, remaining: int, clock: Clock
) -> AsyncIterator[Decided]:
    if decided:
        yield decided
    while remaining:
        results = await buffer.take()
        reach("answered")
        remaining -= len(results)
        yield [(claim, _classify(claim, result, clock)) for claim, result in results]


def _classify(claim: Claimed, result: Result, clock: Clock) -> Outcome:
    # the fence rejects expired letters as well as letters that another worker owns
    fenced = isinstance(result, NotSent) and result.fenced
    if fenced and claim.letter.expires is not None and claim.letter.expires <= clock.now():
        return Expired(expired(claim.letter))
    return classify_reply(result)
