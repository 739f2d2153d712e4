"""Asks the fence in groups: one call for all letters that came up since the last one began.

Tickets in → a verdict for each: granted (`ticket.granted_until` says how long), or `NotSent`. A letter's
result is reported only after the call that names it has returned: the ledger records `sending` first.

Failure: a fence that raises has answered nothing; its letters are handed back as not fenced, and the
exception goes to the loop's handler.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from postroom.adapters.smtp.counters import RelayCounters
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.ports.relay import Fence, FenceGrant, NotSent, OutboundMessage

FenceVerdict = tuple[QueuedMessage, NotSent | None]
"""None: the fence granted it, `ticket.granted_until` says for how long."""


class FenceBatcher:
    """One running call at a time; the next one takes everything that waits."""

    def __init__(
        self, fence: Fence, answered: Callable[[list[FenceVerdict]], None], counters: RelayCounters
    ) -> None:
        self._fence = fence
        self._counters = counters
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._waiting: list[QueuedMessage] = []
        self._running: list[QueuedMessage] = []
        self._task: asyncio.Task[None] | None = None
        self._due = False

    @property
    def running(self) -> bool:
        """Whether the fence is at work."""
        return self._task is not None

    def ask(self, queued: QueuedMessage) -> None:
        """Have the ticket in the next call, once."""
        if queued.fence_requested:
            return
        queued.fence_requested = True
        self._waiting.append(queued)
        if not self._due and self._task is None:
            self._due = True
            self._loop.call_soon(self._call)

    def _call(self) -> None:
        self._due = False
        group = []
        for queued in self._waiting:
            if queued.settled:
                queued.fence_requested = False
            else:
                queued.in_fence_call = True
                group.append(queued)
        self._waiting = []
        if group:
            self._counters.fence_calls += 1
            self._running = group
            self._task = self._loop.create_task(self._run([queued.message for queued in group]))

    def recall(self) -> list[QueuedMessage]:
        """The tickets that wait for a call, which will not be made."""
        waiting, self._waiting = self._waiting, []
        for queued in waiting:
            queued.fence_requested = False
        return waiting

    async def finish(self, grace: float) -> None:
        """Wait for the running call, at most `grace` seconds."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=grace)

    def abandon(self) -> list[QueuedMessage]:
        """Wait no longer for the running call: its tickets, whose answer will not be heard."""
        group, self._running = self._running, []
        for queued in group:
            queued.fence_requested = queued.in_fence_call = False
        return group

    async def _run(self, messages: list[OutboundMessage]) -> None:
        grant: FenceGrant | None = None
        try:
            grant = await self._fence(messages)
        except Exception as error:  # noqa: BLE001 - whatever the ledger raised, the letters must not be lost
            context = {"message": "the fence raised; its letters are handed back", "exception": error}
            self._loop.call_exception_handler(context)
        self._task = None
        self._answered(apply_grant(self.abandon(), grant, monotonic()))
        if self._waiting and not self._due and self._task is None:
            self._call()


def apply_grant(group: list[QueuedMessage], grant: FenceGrant | None, now: float) -> list[FenceVerdict]:
    """What an answer of the fence means for each letter that it was asked for.

    A grant that lapsed before it arrived is none: the letter has not left and may come again.
    """
    granted = set() if grant is None else {id(message) for message in grant.messages}
    verdicts: list[FenceVerdict] = []
    for queued in group:
        owned = id(queued.message) in granted
        if grant is not None and owned and now < grant.until:
            queued.granted_until = grant.until
            verdicts.append((queued, None))
        else:
            verdicts.append((queued, NotSent(fenced=grant is not None and not owned)))
    return verdicts
