"""Mode Log: every letter is rendered, fenced and settled, and none is sent.

Parcels in → `Reply(DOT, 250, "logged, not sent")` for each one that the fence granted, and one log line a
group with masked addresses. Failure: none of its own; what the fence refuses is withheld, as over SMTP.
"""

from collections.abc import Iterable

import structlog

from postroom.adapters.smtp.counters import RelayCounters
from postroom.adapters.smtp.fence import FenceBatcher, FenceVerdict
from postroom.adapters.smtp.pool import ResultDispatcher
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.letter.address import mask_address
from postroom.ports.relay import Fence, NotSent, OutboundMessage, Rate, Reply, Report, Stage

log = structlog.get_logger(__name__)

LOGGED = Reply(Stage.END_OF_DATA, 250, "logged, not sent")
SHOWN = 20
"""Addresses that a log line names; the rest is a number."""


class LogRelay:
    """Implements `ports.relay.Relay` without a relay."""

    def __init__(self) -> None:
        self.counters = RelayCounters()
        self._draining = True

    async def open(self, fence: Fence) -> None:
        """Start, or start again after `drain`."""
        self._reports = ResultDispatcher(self.counters)
        self._fencing = FenceBatcher(fence, self._fenced, self.counters)
        self._draining = False

    def deliver(self, messages: Iterable[OutboundMessage], report: Report) -> None:
        """Have parcels fenced, then logged. After `drain` they are handed back before this returns."""
        if self._draining:
            report([(message, NotSent(fenced=False)) for message in messages])
            return
        for message in messages:
            self._fencing.ask(QueuedMessage(message, report))

    async def drain(self, grace: float) -> None:
        """Hand back what the fence was not asked for yet, wait for its running answer."""
        if self._draining:
            return
        self._draining = True
        handed_back = self._fencing.recall()
        await self._fencing.finish(grace)
        for queued in [*handed_back, *self._fencing.abandon()]:
            self._reports.add(queued, NotSent(fenced=False))
        self._reports.flush()

    def limit(self, rate: Rate | None) -> None:
        """A log is as fast as it goes: nobody is written to."""

    @property
    def last_error(self) -> str:
        """A log has none."""
        return ""

    @property
    def reachable(self) -> bool | None:
        """There is none to be reached."""
        return None

    def _fenced(self, verdicts: list[FenceVerdict]) -> None:
        logged = []
        for queued, withheld in verdicts:
            self._reports.add(queued, withheld or LOGGED)
            if withheld is None:
                logged.append(queued.message.envelope.recipient)
        if logged:
            shown = [mask_address(recipient) for recipient in logged[:SHOWN]]
            log.info("letters logged, not sent", letters=len(logged), recipients=shown)
