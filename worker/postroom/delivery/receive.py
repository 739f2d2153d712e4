"""Records in: batches for the journey, back-pressure, and the watermark that offsets are committed by.

In: records from the event source. Out: batches carried side by side, one task a batch, and offsets to
commit. A record that is in somebody else's hands is looked at again a little later; until then its offset
stays open. When a partition goes, what is under way is brought to a decision first.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from postroom.delivery.outcome import Progress
from postroom.delivery.watermark import Watermark
from postroom.failpoint import reach
from postroom.letter.event import Record
from postroom.ports.kafka import EventConsumer, Partition

BATCH = 250
"""Records carried together; more saves little and makes the first wait longer."""

BATCH_BYTES = 4 << 20
"""A batch of large events is cut sooner."""

ROOM = 2000
"""Records under way, at most; then the source pauses."""

ROOM_BYTES = 64 << 20
"""Bytes of events under way, at most: attachments make letters several times that size in memory."""

GAP = 10_000
"""Records received and not yet behind the watermark, at most: done ones wait there for a slow one before."""

LOOK_AGAIN_SECONDS = 0.25
"""How soon records in somebody's hands are claimed anew, and how often a drain looks whether it is done."""

LOOK_AGAIN_MOST_SECONDS = 2.0
"""Another worker may have them until its lease ends: each look that finds them held waits longer."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """What is done with a batch: the journey, who is told of it, how letters are called back."""

    carry: Callable[[Sequence[Record]], AsyncIterator[Progress]]
    report: Callable[[Progress], None]
    withdraw: Callable[[Collection[Partition]], None]
    grace: float
    """Seconds that letters under way may take when their partition goes."""


class Reception:
    """Implements ports.events.Receiver; lives on the event loop."""

    def __init__(self, events: EventConsumer, carrier: Carrier) -> None:
        self._events = events
        self._carrier = carrier
        self._marks: dict[Partition, Watermark] = {}
        self._held: list[Record] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[Partition] = Counter()
        self._moved = asyncio.Event()
        self._bytes = 0
        self._paused = False
        self._closing = False

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """See the port."""
        self._marks |= {partition: Watermark() for partition in partitions}

    def received(self, records: Sequence[Record]) -> None:
        """See the port."""
        if self._closing:
            return  # nothing of them is committed, so they come again
        ours = self._ours(records)
        for record in ours:
            self._marks[record.topic, record.partition].receive(record.offset)
        reach("received")
        self._start(ours)
        if self._fill() >= 1 and not self._paused:
            self._paused = True
            self._events.pause()

    async def revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """See the port."""
        await self._settle_down(partitions)
        gone = [(partition, self._marks.pop(partition, None)) for partition in partitions]
        self._resume_when_there_is_room()
        return {partition: offset for partition, mark in gone if mark and (offset := _committable(mark))}

    def lost(self, partitions: Sequence[Partition]) -> None:
        """See the port."""
        self._carrier.withdraw(partitions)
        self._forget_held(partitions)
        for partition in partitions:
            self._marks.pop(partition, None)
        self._resume_when_there_is_room()

    @property
    def open_records(self) -> int:
        """Records received and not yet done."""
        return sum(mark.open for mark in self._marks.values())

    @property
    def partitions(self) -> Sequence[Partition]:
        """What is assigned to this worker."""
        return list(self._marks)

    async def run(self) -> None:
        """Look again at held records until cancelled; a failed batch ends it with the batch's error."""
        loop = asyncio.get_running_loop()
        patience, again = LOOK_AGAIN_SECONDS, loop.time()
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            now = loop.time()
            if self._held and not self._closing and now >= again:
                held, self._held = self._held, []
                self._start(held)
                long_ago = now - again > LOOK_AGAIN_MOST_SECONDS
                patience = LOOK_AGAIN_SECONDS if long_ago else min(2 * patience, LOOK_AGAIN_MOST_SECONDS)
                again = now + patience

    async def drain(self) -> Mapping[Partition, int]:
        """Take no more, bring what is under way to a decision; returns the offsets to commit."""
        self._closing = True
        return await self.revoked(list(self._marks))

    def _start(self, records: Sequence[Record]) -> None:
        for batch in _cut(records):
            self._under_way.update((one.topic, one.partition) for one in batch)
            self._bytes += _size(batch)
            self._tasks.add(asyncio.create_task(self._carry(batch)))

    async def _carry(self, batch: Sequence[Record]) -> None:
        try:
            async for progress in self._carrier.carry(batch):
                self._take(progress)
        finally:
            self._under_way.subtract((one.topic, one.partition) for one in batch)
            self._bytes -= _size(batch)
            self._resume_when_there_is_room()
            self._moved.set()

    def _take(self, progress: Progress) -> None:
        reach("settled")
        for record in progress.finished():
            mark = self._marks.get((record.topic, record.partition))
            if mark is not None:
                mark.finish(record.offset)
        self._held.extend(self._ours(progress.held))
        self._carrier.report(progress)
        self._moved.set()
        moved = {partition: offset for partition, mark in self._marks.items() if (offset := mark.advance())}
        if moved:
            self._events.commit(moved)
        self._resume_when_there_is_room()

    def _resume_when_there_is_room(self) -> None:
        if self._paused and self._fill() <= 0.5:
            self._paused = False
            self._events.resume()

    def _fill(self) -> float:
        """How full the room is: 1 and more is full."""
        behind = sum(mark.held for mark in self._marks.values())
        return max(self.open_records / ROOM, self._bytes / ROOM_BYTES, behind / GAP)

    def _ours(self, records: Sequence[Record]) -> list[Record]:
        """Without those whose partition went meanwhile: they are another worker's now."""
        return [one for one in records if (one.topic, one.partition) in self._marks]

    async def _settle_down(self, partitions: Sequence[Partition]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._carrier.grace
        while loop.time() < end:
            # again and again: a batch that was still being claimed reaches the dispatch only now
            self._carrier.withdraw(partitions)
            self._forget_held(partitions)
            if not any(self._under_way[partition] > 0 for partition in partitions):
                return
            self._moved.clear()
            await _wait_for(self._moved)

    def _forget_held(self, partitions: Sequence[Partition]) -> None:
        self._held = [one for one in self._held if (one.topic, one.partition) not in partitions]


def _cut(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Records into batches, in order, none too long and none too heavy."""
    batch: list[Record] = []
    weight = 0
    for record in records:
        if batch and (len(batch) == BATCH or weight >= BATCH_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(record)
        weight += len(record.value or b"")
    if batch:
        yield batch


def _size(records: Sequence[Record]) -> int:
    return sum(len(one.value or b"") for one in records)


def _committable(mark: Watermark) -> int | None:
    mark.advance()
    return mark.next


async def _wait_for(event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LOOK_AGAIN_SECONDS):
            await event.wait()
