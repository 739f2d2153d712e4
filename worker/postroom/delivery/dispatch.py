"""Queue claimed letters for the relay: (letters, report callback) → a Result for each, in groups.

Duty: the relay gets at most `capacity` letters at a time, a few for each connection. The other letters wait
here, where `withdraw` can take them back at once when their partition is revoked. Letters with the same
record key are sent in order: the next is released when the previous letter has any Result, so a deferred
letter does not delay the next. Letters without a key have no order.

Before content is sent, the relay calls the fence: it filters out expired letters and moves the rows that this
worker still owns to state `sending`.

Failure: a letter that was not sent is reported as NotSent or Postponed, never dropped.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

from postroom.delivery.router import RelayRouter
from postroom.failpoint import reach
from postroom.ports.ledger import Claimed, Ledger
from postroom.ports.relay import FenceGrant, NotSent, OutboundMessage, Relay, Report, Result
from postroom.ports.world import Clock

Waiting = tuple[Claimed, Report]
"""A letter and the callback for its Result."""


class KeyOrder:
    """Queues by record key: one letter of a key is under way, the others wait."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Waiting]] = {}

    def enter(self, claim: Claimed, report: Report) -> bool:
        """Add a letter; True if it may be sent now, False if it waits for an earlier letter of its key."""
        key = claim.letter.record.key
        if key is None:
            return True
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque()
            return True
        queue.append((claim, report))
        return False

    def leave(self, claim: Claimed) -> Waiting | None:
        """Note that the letter has its Result; returns the next letter of its key, which may be sent now."""
        key = claim.letter.record.key
        if key is None:
            return None
        queue = self._queues[key]
        if queue:
            return queue.popleft()
        del self._queues[key]
        return None

    def remove(self, unwanted: Callable[[Claimed], bool]) -> list[Waiting]:
        """Remove unwanted letters from all queues; letters that were sent already are not in them."""
        removed: list[Waiting] = []
        for key, queue in self._queues.items():
            self._queues[key], out = split_queue(queue, unwanted)
            removed.extend(out)
        return removed


def split_queue(
    line: Iterable[Waiting], unwanted: Callable[[Claimed], bool]
) -> tuple[deque[Waiting], list[Waiting]]:
    """Split a queue into the letters to keep, in order, and the unwanted ones."""
    kept: deque[Waiting] = deque()
    removed: list[Waiting] = []
    for entry in line:
        (removed if unwanted(entry[0]) else kept).append(entry)
    return kept, removed


class BatchOrder:
    """Makes batches that are claimed concurrently enter the key queues in the order in which they arrived.

    A batch that takes over claims needs a second commit. Without this order a later batch could overtake it,
    and with it letters of the same key.
    """

    def __init__(self) -> None:
        self._last = asyncio.Event()
        self._last.set()

    @contextmanager
    def join(self) -> Iterator[asyncio.Event]:
        """Join at the end; the yielded event is set when all earlier batches have left, also by an error."""
        before, self._last = self._last, asyncio.Event()
        own = self._last
        try:
            yield before
        finally:
            own.set()


class Dispatch:
    """Feeds one relay; all methods run on the event loop."""

    def __init__(
        self, relay: Relay, ledger: Ledger, clock: Clock, room: int, router: RelayRouter | None = None
    ) -> None:
        """`room`: how many letters the relay may have at a time; a few for each connection."""
        self._router = router
        self._relay = relay
        self._ledger = ledger
        self._clock = clock
        self._capacity = room
        self._in_flight = 0
        self._feeding = False
        self._ready: deque[Waiting] = deque()
        self._key_order = KeyOrder()

    async def open(self) -> None:
        """Open the relay behind the fence."""
        await self._relay.open(self._fence)

    def deliver(self, claimed: Iterable[Claimed], report: Report) -> None:
        """Queue letters; `report` is called with the Result of each."""
        admitted = self._admit(list(claimed), report) if self._router else claimed
        self._ready.extend((claim, report) for claim in admitted if self._key_order.enter(claim, report))
        self._feed()

    @property
    def recall_limit(self) -> int | None:
        """How many letters may be recalled from the ledger now; None: any number."""
        return self._router.recall_limit(self._waiting) if self._router else None

    def withdraw(self, unwanted: Callable[[Claimed], bool]) -> None:
        """Report unwanted letters that the relay does not have yet as NotSent."""
        removed = self._key_order.remove(unwanted)
        self._ready, out = split_queue(self._ready, unwanted)
        for claim, _ in out:
            self._next_of_key(claim)
        for claim, report in removed + out:
            report([(claim, NotSent(fenced=False))])
        self._feed()

    async def drain(self, grace: float) -> None:
        """Report all queued letters as NotSent, and let the relay finish the letters that it is sending."""
        self.withdraw(lambda _: True)
        await self._relay.drain(grace)

    @property
    def _waiting(self) -> int:
        return len(self._ready) + self._in_flight

    def _admit(self, claimed: list[Claimed], report: Report) -> list[Claimed]:
        """Postpone new letters for which the router has no room; returns the admitted letters."""
        assert self._router is not None
        room = self._router.room(self._waiting)
        new = [claim for claim in claimed if claim.from_topic]
        if room is None or len(new) <= room:
            return claimed
        postponed = self._router.hold_reason()
        report([(claim, postponed) for claim in new[room:]])
        return [claim for claim in claimed if not claim.from_topic] + new[:room]

    def _feed(self) -> None:
        if self._feeding:
            return  # the relay may report from within deliver; the outer call continues with what was queued
        self._feeding = True
        while self._ready and self._in_flight < self._capacity:
            report = self._ready[0][1]
            batch: list[Claimed] = []
            while self._ready and self._in_flight < self._capacity and self._ready[0][1] == report:
                batch.append(self._ready.popleft()[0])
                self._in_flight += 1
            self._relay.deliver(batch, partial(self._arrived, report))
        self._feeding = False

    def _arrived(self, report: Report, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        self._in_flight -= len(results)
        for message, _ in results:
            self._next_of_key(cast("Claimed", message))
        report(results)
        self._feed()

    def _next_of_key(self, claim: Claimed) -> None:
        following = self._key_order.leave(claim)
        if following is not None:
            self._ready.append(following)

    async def _fence(self, messages: Sequence[OutboundMessage]) -> FenceGrant:
        """Grant the letters that have not expired and whose rows this worker still owns, durably."""
        now = self._clock.now()
        claimed = cast("Sequence[Claimed]", messages)
        fresh = [claim for claim in claimed if claim.letter.expires is None or claim.letter.expires > now]
        until = self._ledger.lease_until
        granted = await self._ledger.fence(fresh, now) if fresh else ()
        reach("fenced")
        return FenceGrant(frozenset(granted), until)
