"""Mode Log: every letter is rendered, fenced and settled, and none is sent.

Parcels in → `Reply(DOT, 250, "logged, not sent")` for each one that the fence granted, and one log line a
group with masked addresses. Failure: none of its own; what the fence refuses is withheld, as over SMTP.
"""

from collections.abc import Iterable

import structlog

from postroom.adapters.smtp.counters import Counters
from postroom.adapters.smtp.fencing import Fencing, Verdict
from postroom.adapters.smtp.reports import Reports
from postroom.adapters.smtp.ticket import Ticket
from postroom.letter.address import mask_address
from postroom.ports.relay import Fence, Parcel, Rate, Reply, Report, Stage, Withheld

log = structlog.get_logger(__name__)

LOGGED = Reply(Stage.DOT, 250, "logged, not sent")
SHOWN = 20
"""Addresses that a log line names; the rest is a number."""


class LogRelay:
    """Implements `ports.relay.Relay` without a relay."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._draining = True

    async def open(self, fence: Fence) -> None:
        """Start, or start again after `drain`."""
        self._reports = Reports(self.counters)
        self._fencing = Fencing(fence, self._fenced, self.counters)
        self._draining = False

    def deliver(self, parcels: Iterable[Parcel], report: Report) -> None:
        """Have parcels fenced, then logged. After `drain` they are handed back before this returns."""
        if self._draining:
            report([(parcel, Withheld(fenced=False)) for parcel in parcels])
            return
        for parcel in parcels:
            self._fencing.ask(Ticket(parcel, report))

    async def drain(self, grace: float) -> None:
        """Hand back what the fence was not asked for yet, wait for its running answer."""
        if self._draining:
            return
        self._draining = True
        handed_back = self._fencing.recall()
        await self._fencing.finish(grace)
        for ticket in [*handed_back, *self._fencing.abandon()]:
            self._reports.tell(ticket, Withheld(fenced=False))
        self._reports.flush()

    def limit(self, rate: Rate | None) -> None:
        """A log is as fast as it goes: nobody is written to."""

    @property
    def trouble(self) -> str:
        """A log has none."""
        return ""

    @property
    def reachable(self) -> bool | None:
        """There is none to be reached."""
        return None

    def _fenced(self, verdicts: list[Verdict]) -> None:
        logged = []
        for ticket, withheld in verdicts:
            self._reports.tell(ticket, withheld or LOGGED)
            if withheld is None:
                logged.append(ticket.parcel.envelope.recipient)
        if logged:
            shown = [mask_address(recipient) for recipient in logged[:SHOWN]]
            log.info("letters logged, not sent", letters=len(logged), recipients=shown)
