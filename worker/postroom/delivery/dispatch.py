"""Lanes: letters with one record key go one after the other, others side by side.

In: letters and batches in the order they came. Out: which may go now.

A letter without a key has no lane. The next of a lane may go when the one before has an answer, whatever
it is: a deferred letter does not hold back the next.

The way to the relay: a queue that can be withdrawn from, lanes, and the fence before the dot.

In: claimed letters and whom to report to. Out: a Result for each, in groups. The relay gets only a few
letters more than it has connections; what still waits here goes back at once when its partition goes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

from postroom.failpoint import reach
from postroom.ports.ledger import Claimed, Ledger
from postroom.ports.relay import FenceGrant, NotSent, OutboundMessage, Postponed, Relay, Report, Result
from postroom.ports.world import Clock

Waiting = tuple[Claimed, Report]
"""A letter and whom to tell of its Result."""


class KeyOrder:
    """Who must wait for whom."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, deque[Waiting]] = {}

    def enter(self, one: Claimed, report: Report) -> bool:
        """True: it may go now. False: it waits here for the one before it."""
        key = one.letter.record.key
        if key is None:
            return True
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque()
            return True
        lane.append((one, report))
        return False

    def leave(self, one: Claimed) -> Waiting | None:
        """The letter that went has its answer; returns the next of its lane, which may go now."""
        key = one.letter.record.key
        if key is None:
            return None
        lane = self._lanes[key]
        if lane:
            return lane.popleft()
        del self._lanes[key]
        return None

    def remove(self, unwanted: Callable[[Claimed], bool]) -> list[Waiting]:
        """Take the unwanted out of all waiting lines; those that went already are not here."""
        gone: list[Waiting] = []
        for key, lane in self._lanes.items():
            self._lanes[key], out = split_queue(lane, unwanted)
            gone.extend(out)
        return gone


def split_queue(
    line: Iterable[Waiting], unwanted: Callable[[Claimed], bool]
) -> tuple[deque[Waiting], list[Waiting]]:
    """One line into those that stay, in order, and those that don't."""
    stay: deque[Waiting] = deque()
    gone: list[Waiting] = []
    for entry in line:
        (gone if unwanted(entry[0]) else stay).append(entry)
    return stay, gone


class BatchOrder:
    """Batches are claimed side by side and enter their lanes in the order they came.

    Without it a batch that waits for one commit more, to take over a dead claim, would be overtaken, and
    with it letters of one key.
    """

    def __init__(self) -> None:
        self._last = asyncio.Event()
        self._last.set()

    @contextmanager
    def join(self) -> Iterator[asyncio.Event]:
        """A place at the end; the event is set when those before have left theirs, in whatever way."""
        before, self._last = self._last, asyncio.Event()
        mine = self._last
        try:
            yield before
        finally:
            mine.set()


class AdmissionGate(Protocol):
    """Who says how many letters may wait here."""

    def room(self, waiting: int) -> int | None:
        """How many more new letters may come, with so many here already; None: any number."""
        ...

    def recall_limit(self, waiting: int) -> int | None:
        """How many to recall of those that wait in the ledger; what was recalled always has room."""
        ...

    def hold_reason(self) -> Postponed:
        """What those hear for whom there is no room."""
        ...


class Dispatch:
    """Feeds one relay; lives on the event loop."""

    def __init__(
        self, relay: Relay, ledger: Ledger, clock: Clock, room: int, gate: AdmissionGate | None = None
    ) -> None:
        """`room`: how many letters the relay may have at once; a few for each connection."""
        self._gate = gate
        self._relay = relay
        self._ledger = ledger
        self._clock = clock
        self._capacity = room
        self._handed = 0
        self._feeding = False
        self._ready: deque[Waiting] = deque()
        self._key_order = KeyOrder()

    async def open(self) -> None:
        """Open the relay behind the fence."""
        await self._relay.open(self._fence)

    def deliver(self, claimed: Iterable[Claimed], report: Report) -> None:
        """Queue letters; `report` gets each one's Result."""
        coming = self._admit(list(claimed), report) if self._gate else claimed
        self._ready.extend((one, report) for one in coming if self._key_order.enter(one, report))
        self._feed()

    @property
    def recall_limit(self) -> int | None:
        """How many letters may be recalled from the ledger now; None: any number."""
        return self._gate.recall_limit(self._waiting) if self._gate else None

    def withdraw(self, unwanted: Callable[[Claimed], bool]) -> None:
        """Hand back the unwanted letters that the relay has not got yet."""
        gone = self._key_order.remove(unwanted)
        self._ready, out = split_queue(self._ready, unwanted)
        for one, _ in out:
            self._next_of_key(one)
        for one, report in gone + out:
            report([(one, NotSent(fenced=False))])
        self._feed()

    async def drain(self, grace: float) -> None:
        """Hand back all that waits, and let the relay finish what is past withdrawing."""
        self.withdraw(lambda _: True)
        await self._relay.drain(grace)

    @property
    def _waiting(self) -> int:
        return len(self._ready) + self._handed

    def _admit(self, claimed: list[Claimed], report: Report) -> list[Claimed]:
        """Hand back at once those who would wait here for long."""
        assert self._gate is not None
        room = self._gate.room(self._waiting)
        new = [one for one in claimed if one.from_topic]
        if room is None or len(new) <= room:
            return claimed
        barrier = self._gate.hold_reason()
        report([(one, barrier) for one in new[room:]])
        return [one for one in claimed if not one.from_topic] + new[:room]

    def _feed(self) -> None:
        if self._feeding:
            return  # a relay that drains answers from within deliver; the loop below goes on with what came
        self._feeding = True
        while self._ready and self._handed < self._capacity:
            report = self._ready[0][1]
            batch: list[Claimed] = []
            while self._ready and self._handed < self._capacity and self._ready[0][1] == report:
                batch.append(self._ready.popleft()[0])
                self._handed += 1
            self._relay.deliver(batch, partial(self._arrived, report))
        self._feeding = False

    def _arrived(self, report: Report, results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        self._handed -= len(results)
        for parcel, _ in results:
            self._next_of_key(cast("Claimed", parcel))
        report(results)
        self._feed()

    def _next_of_key(self, one: Claimed) -> None:
        following = self._key_order.leave(one)
        if following is not None:
            self._ready.append(following)

    async def _fence(self, parcels: Sequence[OutboundMessage]) -> FenceGrant:
        """The last look before content leaves: still worth sending, still ours, and durably so."""
        now = self._clock.now()
        claimed = cast("Sequence[Claimed]", parcels)
        fresh = [one for one in claimed if one.letter.expires is None or one.letter.expires > now]
        until = self._ledger.lease_until
        granted = await self._ledger.fence(fresh, now) if fresh else ()
        reach("fenced")
        return FenceGrant(frozenset(granted), until)
