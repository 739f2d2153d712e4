"""Claimed letters → outcomes, in groups as the relay answers."""

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
    """Where one batch's results gather until somebody takes them."""

    def __init__(self) -> None:
        self._results: list[tuple[Claimed, Result]] = []
        self._filled = asyncio.Event()

    def put(self, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        """Lay results down; the relay's Report."""
        self._results.extend(cast("Sequence[tuple[Claimed, Result]]", results))
        self._filled.set()

    async def take(self) -> list[tuple[Claimed, Result]]:
        """All results so far, at least one."""
        await self._filled.wait()
        self._filled.clear()
        taken, self._results = self._results, []
        return taken


def send(claimed: Sequence[Claimed], verdicts: Verdicts, context: DeliveryContext) -> AsyncIterator[Decided]:
    """Send what may be sent, at once; a letter with a verdict is decided without the relay."""
    clear = [(one, verdicts.get(one.letter) or _suppressed(one)) for one in claimed]
    decided = [(one, verdict) for one, verdict in clear if verdict]
    going = [one for one, verdict in clear if not verdict]
    tray = ResultBuffer()
    context.dispatch.deliver(going, tray.put)
    return _outcomes(decided, tray, len(going), context.clock)


def _suppressed(one: Claimed) -> Outcome | None:
    problem = suppression_problem(one.suppressions, one.letter.category) if one.suppressions else None
    return Suppressed(problem) if problem else None


async def _outcomes(decided: Decided, tray: ResultBuffer, open_: int, clock: Clock) -> AsyncIterator[Decided]:
    if decided:
        yield decided
    while open_:
        results = await tray.take()
        reach("answered")
        open_ -= len(results)
        yield [(one, _classify(one, result, clock)) for one, result in results]


def _classify(one: Claimed, result: Result, clock: Clock) -> Outcome:
    # the fence lets an expired letter pass as little as one that is somebody else's
    fenced = isinstance(result, NotSent) and result.fenced
    if fenced and one.letter.expires is not None and one.letter.expires <= clock.now():
        return Expired(expired(one.letter))
    return classify_reply(result)
