"""Mode Log: letters are rendered, fenced and settled, but not sent.

In: outbound messages. Out: `Reply(END_OF_DATA, 250, "logged, not sent")` for each message that the fence
granted, and one log line per group with masked addresses.

Failure: messages that the fence refuses are reported as `NotSent`, as over SMTP.
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
"""The most addresses in one log line."""


class LogRelay:
    """Implements `ports.relay.Relay` without a relay."""

    def __init__(self) -> None:
        self.counters = RelayCounters()
        self._draining = True

    async def open(self, fence: Fence) -> None:
        """Start, or restart after `drain`."""
        self._results = ResultDispatcher(self.counters)
        self._fence = FenceBatcher(fence, self._on_fence_answer, self.counters)
        self._draining = False

    def deliver(self, messages: Iterable[OutboundMessage], report: Report) -> None:
        """Fence and log messages. After `drain` they are reported as not sent before this returns."""
        if self._draining:
            report([(message, NotSent(fenced=False)) for message in messages])
            return
        for message in messages:
            self._fence.ask(QueuedMessage(message, report))

    async def drain(self, grace: float) -> None:
        """Report messages that are in no fence call as not sent, and wait for the running call."""
        if self._draining:
            return
        self._draining = True
        recalled = self._fence.recall()
        await self._fence.finish(grace)
        for queued in [*recalled, *self._fence.abandon()]:
            self._results.add(queued, NotSent(fenced=False))
        self._results.flush()

    def limit(self, rate: Rate | None) -> None:
        """No effect: nothing is sent."""

    @property
    def last_error(self) -> str:
        """Always empty: there is no connection."""
        return ""

    @property
    def reachable(self) -> bool | None:
        """Always None: there is no connection."""
        return None

    def _on_fence_answer(self, verdicts: list[FenceVerdict]) -> None:
        logged = []
        for queued, not_sent in verdicts:
            self._results.add(queued, not_sent or LOGGED)
            if not_sent is None:
                logged.append(queued.message.envelope.recipient)
        if logged:
            shown = [mask_address(recipient) for recipient in logged[:SHOWN]]
            log.info("letters logged, not sent", letters=len(logged), recipients=shown)
