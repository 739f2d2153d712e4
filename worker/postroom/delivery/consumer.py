"""The watermark of one partition: how far its records are done, without a hole.

Contiguous over the records that were received, not over offsets: transactions and compaction leave
numbers out. An offset that never was received cannot be finished.

Records in: batches for the journey, back-pressure, and the watermark that offsets are committed by.

In: records from the event source. Out: batches carried side by side, one task a batch, and offsets to
commit. A record that is in somebody else's hands is looked at again a little later; until then its offset
stays open. When a partition goes, what is under way is brought to a decision first.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from postroom.failpoint import reach
from postroom.letter.event import Record
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import EventConsumer, Partition


class Watermark:
    """Offsets received in order, finished in any order."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._next: int | None = None

    def receive(self, offset: int) -> None:
        """A record came in."""
        self._order.append(offset)
        self._open.add(offset)

    def finish(self, offset: int) -> None:
        """A record is done; one that this assignment never received is none of its business."""
        self._open.discard(offset)

    def advance(self) -> int | None:
        """The offset to commit (the next to read), if it moved since the last call."""
        moved = False
        while self._order and self._order[0] not in self._open:
            self._next = self._order.popleft() + 1
            moved = True
        return self._next if moved else None

    @property
    def next(self) -> int | None:
        """The offset to commit, None while nothing is done."""
        return self._next

    @property
    def held(self) -> int:
        """Records received and not yet behind the watermark."""
        return len(self._order)

    @property
    def open(self) -> int:
        """Records received and not yet done."""
        return len(self._open)


MAX_BATCH_RECORDS = 250
"""Records carried together; more saves little and makes the first wait longer."""

MAX_BATCH_BYTES = 4 << 20
"""A batch of large events is cut sooner."""

MAX_IN_FLIGHT = 2000
"""Records under way, at most; then the source pauses."""

MAX_IN_FLIGHT_BYTES = 64 << 20
"""Bytes of events under way, at most: attachments make letters several times that size in memory."""

MAX_UNCOMMITTED = 10_000
"""Records received and not yet behind the watermark, at most: done ones wait there for a slow one before."""

RECHECK_SECONDS = 0.25
"""How soon records in somebody's hands are claimed anew, and how often a drain looks whether it is done."""

MAX_RECHECK_SECONDS = 2.0
"""Another worker may have them until its lease ends: each look that finds them held waits longer."""


@dataclass(frozen=True, slots=True)
class BatchHandler:
    """What is done with a batch: the journey, who is told of it, how letters are called back."""

    carry: Callable[[Sequence[Record]], AsyncIterator[Progress]]
    report: Callable[[Progress], None]
    withdraw: Callable[[Collection[Partition]], None]
    grace: float
    """Seconds that letters under way may take when their partition goes."""


class BatchConsumer:
    """Implements ports.events.Receiver; lives on the event loop."""

    def __init__(self, events: EventConsumer, carrier: BatchHandler) -> None:
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
        patience, again = RECHECK_SECONDS, loop.time()
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            now = loop.time()
            if self._held and not self._closing and now >= again:
                held, self._held = self._held, []
                self._start(held)
                long_ago = now - again > MAX_RECHECK_SECONDS
                patience = RECHECK_SECONDS if long_ago else min(2 * patience, MAX_RECHECK_SECONDS)
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
        return max(
            self.open_records / MAX_IN_FLIGHT, self._bytes / MAX_IN_FLIGHT_BYTES, behind / MAX_UNCOMMITTED
        )

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
        if batch and (len(batch) == MAX_BATCH_RECORDS or weight >= MAX_BATCH_BYTES):
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
        async with asyncio.timeout(RECHECK_SECONDS):
            await event.wait()
