"""Asks the fence in groups: one call for all letters that came up since the last one began.

Tickets in → a verdict for each: granted (`ticket.until` says how long), or `Withheld`. A letter's result
is never told while a call that names it is running: the ledger hears of the letter's `sending` first.

Failure: a fence that raises has answered nothing; its letters are handed back as not fenced, and the
exception goes to the loop's handler.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from postroom.adapters.smtp.counters import Counters
from postroom.adapters.smtp.ticket import Ticket
from postroom.ports.relay import Fence, Grant, Parcel, Withheld

Verdict = tuple[Ticket, Withheld | None]
"""None: the fence granted it, `ticket.until` says for how long."""


class Fencing:
    """One running call at a time; the next one takes everything that waits."""

    def __init__(self, fence: Fence, answered: Callable[[list[Verdict]], None], counters: Counters) -> None:
        self._fence = fence
        self._counters = counters
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._task: asyncio.Task[None] | None = None
        self._due = False

    @property
    def running(self) -> bool:
        """Whether the fence is at work."""
        return self._task is not None

    def ask(self, ticket: Ticket) -> None:
        """Have the ticket in the next call, once."""
        if ticket.asked:
            return
        ticket.asked = True
        self._waiting.append(ticket)
        if not self._due and self._task is None:
            self._due = True
            self._loop.call_soon(self._call)

    def _call(self) -> None:
        self._due = False
        group = []
        for ticket in self._waiting:
            if ticket.done:
                ticket.asked = False
            else:
                ticket.fencing = True
                group.append(ticket)
        self._waiting = []
        if group:
            self._counters.fence_calls += 1
            self._running = group
            self._task = self._loop.create_task(self._run([ticket.parcel for ticket in group]))

    def recall(self) -> list[Ticket]:
        """The tickets that wait for a call, which will not be made."""
        waiting, self._waiting = self._waiting, []
        for ticket in waiting:
            ticket.asked = False
        return waiting

    async def finish(self, grace: float) -> None:
        """Wait for the running call, at most `grace` seconds."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=grace)

    def abandon(self) -> list[Ticket]:
        """Wait no longer for the running call: its tickets, whose answer will not be heard."""
        group, self._running = self._running, []
        for ticket in group:
            ticket.asked = ticket.fencing = False
        return group

    async def _run(self, parcels: list[Parcel]) -> None:
        grant: Grant | None = None
        try:
            grant = await self._fence(parcels)
        except Exception as error:  # noqa: BLE001 - whatever the ledger raised, the letters must not be lost
            context = {"message": "the fence raised; its letters are handed back", "exception": error}
            self._loop.call_exception_handler(context)
        self._task = None
        self._answered(judge(self.abandon(), grant, monotonic()))
        if self._waiting and not self._due and self._task is None:
            self._call()


def judge(group: list[Ticket], grant: Grant | None, now: float) -> list[Verdict]:
    """What an answer of the fence means for each letter that it was asked for.

    A grant that lapsed before it arrived is none: the letter has not left and may come again.
    """
    granted = set() if grant is None else {id(parcel) for parcel in grant.parcels}
    verdicts: list[Verdict] = []
    for ticket in group:
        owned = id(ticket.parcel) in granted
        if grant is not None and owned and now < grant.until:
            ticket.until = grant.until
            verdicts.append((ticket, None))
        else:
            verdicts.append((ticket, Withheld(fenced=grant is not None and not owned)))
    return verdicts
