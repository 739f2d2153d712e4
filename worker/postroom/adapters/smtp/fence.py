"""Calls the fence in groups: one call for all letters that were queued while the previous call ran.

In: queued messages. Out: a verdict for each: granted, with the deadline in `granted_until`, or `NotSent`. The
result of a letter is reported only after the fence call that contains it has returned, so that the ledger
records `sending` first.

Failure: when the fence raises, its letters are returned unsent (`fenced=False`) and the exception goes to the
event loop's exception handler.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from postroom.adapters.smtp.counters import RelayCounters
from postroom.adapters.smtp.transaction import QueuedMessage
from postroom.ports.relay import Fence, FenceGrant, NotSent, OutboundMessage

FenceVerdict = tuple[QueuedMessage, NotSent | None]
"""None: the fence granted the message until `granted_until`."""


class FenceBatcher:
    """Runs one call at a time; the next call contains everything that was added meanwhile."""

    def __init__(
        self, fence: Fence, on_verdicts: Callable[[list[FenceVerdict]], None], counters: RelayCounters
    ) -> None:
        self._fence = fence
        self._counters = counters
        self._on_verdicts = on_verdicts
        self._loop = asyncio.get_running_loop()
        self._waiting: list[QueuedMessage] = []
        self._running: list[QueuedMessage] = []
        self._task: asyncio.Task[None] | None = None
        self._due = False

    @property
    def running(self) -> bool:
        """Whether a call of the fence is running."""
        return self._task is not None

    def ask(self, queued: QueuedMessage) -> None:
        """Add the message to the next call, unless it is in one already."""
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
        """Remove and return the messages that are in no call yet."""
        waiting, self._waiting = self._waiting, []
        for queued in waiting:
            queued.fence_requested = False
        return waiting

    async def finish(self, grace: float) -> None:
        """Wait for the running call, at most `grace` seconds."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=grace)

    def abandon(self) -> list[QueuedMessage]:
        """Stop waiting for the running call and return its messages; its reply is discarded."""
        group, self._running = self._running, []
        for queued in group:
            queued.fence_requested = queued.in_fence_call = False
        return group

    async def _run(self, messages: list[OutboundMessage]) -> None:
        grant: FenceGrant | None = None
        try:
            grant = await self._fence(messages)
        except Exception as error:  # noqa: BLE001 - no error of the ledger may lose letters
            context = {"message": "the fence raised; its letters are returned unsent", "exception": error}
            self._loop.call_exception_handler(context)
        self._task = None
        self._on_verdicts(apply_grant(self.abandon(), grant, monotonic()))
        if self._waiting and not self._due and self._task is None:
            self._call()


def apply_grant(group: list[QueuedMessage], grant: FenceGrant | None, now: float) -> list[FenceVerdict]:
    """Give the verdict for each message of a fence call; None as grant: the call failed.

    A grant that expired before it arrived is not used: the letter is returned unsent and may be retried.
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
