"""Feed records to the pipeline and commit offsets: Record → batches → Progress → offsets.

Duty: cut received records into batches, process them concurrently in one task each, pause the topic while too
much is in progress, and commit the offset of each partition up to which every record is finished (its
watermark). A record that another worker holds is claimed again after a short delay; until then its offset
stays open. When a partition is revoked, letters in progress get a grace period to be settled first.

Failure: an error in a batch ends `run` with that error. Records that are not committed are received again.
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
    """The offset of one partition up to which every received record is finished.

    Offsets are received in order and finished in any order. The watermark counts received records, not
    offset numbers, because transactions and compaction leave gaps.
    """

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._next: int | None = None

    def receive(self, offset: int) -> None:
        """Note a received record."""
        self._order.append(offset)
        self._open.add(offset)

    def finish(self, offset: int) -> None:
        """Mark a record as finished; offsets that this assignment did not receive are ignored."""
        self._open.discard(offset)

    def advance(self) -> int | None:
        """Return the offset to commit (the next to read) if it moved since the last call."""
        moved = False
        while self._order and self._order[0] not in self._open:
            self._next = self._order.popleft() + 1
            moved = True
        return self._next if moved else None

    @property
    def next(self) -> int | None:
        """The offset to commit; None while no record is finished."""
        return self._next

    @property
    def held(self) -> int:
        """The number of records that the watermark has not passed."""
        return len(self._order)

    @property
    def open(self) -> int:
        """The number of records that are not finished."""
        return len(self._open)


MAX_BATCH_RECORDS = 250
"""Records in a batch; larger batches save little and delay the first letter."""

MAX_BATCH_BYTES = 4 << 20
"""Bytes of event values in a batch; large events make smaller batches."""

MAX_IN_FLIGHT = 2000
"""Maximum number of unfinished records; at this limit the consumer pauses."""

MAX_IN_FLIGHT_BYTES = 64 << 20
"""Maximum bytes of unfinished events; with attachments a letter takes several times this in memory."""

MAX_UNCOMMITTED = 10_000
"""Maximum number of records that the watermark has not passed, finished ones behind a slow one included."""

RECHECK_SECONDS = 0.25
"""How soon held records are claimed again, and how often `drain` checks whether it is finished."""

MAX_RECHECK_SECONDS = 2.0
"""The limit of the growing delay; another worker may hold records until its lease ends."""


@dataclass(frozen=True, slots=True)
class BatchHandler:
    """The callbacks of the consumer: process a batch, report progress, withdraw letters."""

    process: Callable[[Sequence[Record]], AsyncIterator[Progress]]
    report: Callable[[Progress], None]
    withdraw: Callable[[Collection[Partition]], None]
    grace: float
    """Seconds that letters in progress may take when their partition is revoked."""


class BatchConsumer:
    """Implements `ports.kafka.RecordReceiver`; all methods run on the event loop."""

    def __init__(self, events: EventConsumer, handler: BatchHandler) -> None:
        self._events = events
        self._handler = handler
        self._marks: dict[Partition, Watermark] = {}
        self._held: list[Record] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_progress: Counter[Partition] = Counter()
        self._progressed = asyncio.Event()
        self._bytes = 0
        self._paused = False
        self._closing = False

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self._marks |= {partition: Watermark() for partition in partitions}

    def received(self, records: Sequence[Record]) -> None:
        if self._closing:
            return  # they are not committed, so they are received again
        current = self._assigned_records(records)
        for record in current:
            self._marks[record.topic, record.partition].receive(record.offset)
        reach("received")
        self._start(current)
        if self._fill() >= 1 and not self._paused:
            self._paused = True
            self._events.pause()

    async def revoked(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        await self._finish_or_withdraw(partitions)
        gone = [(partition, self._marks.pop(partition, None)) for partition in partitions]
        self._resume_if_possible()
        return {partition: offset for partition, mark in gone if mark and (offset := _committable(mark))}

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._handler.withdraw(partitions)
        self._forget_held(partitions)
        for partition in partitions:
            self._marks.pop(partition, None)
        self._resume_if_possible()

    @property
    def open_records(self) -> int:
        """The number of records that are not finished."""
        return sum(mark.open for mark in self._marks.values())

    @property
    def partitions(self) -> Sequence[Partition]:
        """The partitions that are assigned to this worker."""
        return list(self._marks)

    async def run(self) -> None:
        """Retry held records until cancelled; raises the error of a failed batch."""
        loop = asyncio.get_running_loop()
        delay, retry_at = RECHECK_SECONDS, loop.time()
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.discard(task)
                task.result()
            now = loop.time()
            if self._held and not self._closing and now >= retry_at:
                held, self._held = self._held, []
                self._start(held)
                long_ago = now - retry_at > MAX_RECHECK_SECONDS
                delay = RECHECK_SECONDS if long_ago else min(2 * delay, MAX_RECHECK_SECONDS)
                retry_at = now + delay

    async def drain(self) -> Mapping[Partition, int]:
        """Accept no more records and wait for those in progress; returns the offsets to commit."""
        self._closing = True
        return await self.revoked(list(self._marks))

    def _start(self, records: Sequence[Record]) -> None:
        for batch in _cut(records):
            self._in_progress.update((record.topic, record.partition) for record in batch)
            self._bytes += _size(batch)
            self._tasks.add(asyncio.create_task(self._process(batch)))

    async def _process(self, batch: Sequence[Record]) -> None:
        try:
            async for progress in self._handler.process(batch):
                self._take(progress)
        finally:
            self._in_progress.subtract((record.topic, record.partition) for record in batch)
            self._bytes -= _size(batch)
            self._resume_if_possible()
            self._progressed.set()

    def _take(self, progress: Progress) -> None:
        reach("settled")
        for record in progress.finished():
            mark = self._marks.get((record.topic, record.partition))
            if mark is not None:
                mark.finish(record.offset)
        self._held.extend(self._assigned_records(progress.held))
        self._handler.report(progress)
        self._progressed.set()
        moved = {partition: offset for partition, mark in self._marks.items() if (offset := mark.advance())}
        if moved:
            self._events.commit(moved)
        self._resume_if_possible()

    def _resume_if_possible(self) -> None:
        if self._paused and self._fill() <= 0.5:
            self._paused = False
            self._events.resume()

    def _fill(self) -> float:
        """The highest used fraction of the three limits; 1 or more is full."""
        behind = sum(mark.held for mark in self._marks.values())
        return max(
            self.open_records / MAX_IN_FLIGHT, self._bytes / MAX_IN_FLIGHT_BYTES, behind / MAX_UNCOMMITTED
        )

    def _assigned_records(self, records: Sequence[Record]) -> list[Record]:
        """Drop records of partitions that this worker no longer has."""
        return [record for record in records if (record.topic, record.partition) in self._marks]

    async def _finish_or_withdraw(self, partitions: Sequence[Partition]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._handler.grace
        while loop.time() < end:
            # repeated, because a batch that was still being claimed reaches the dispatch only now
            self._handler.withdraw(partitions)
            self._forget_held(partitions)
            if not any(self._in_progress[partition] > 0 for partition in partitions):
                return
            self._progressed.clear()
            await _wait_for(self._progressed)

    def _forget_held(self, partitions: Sequence[Partition]) -> None:
        self._held = [record for record in self._held if (record.topic, record.partition) not in partitions]


def _cut(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut records into batches, in order, within the limits of number and bytes."""
    batch: list[Record] = []
    size = 0
    for record in records:
        if batch and (len(batch) == MAX_BATCH_RECORDS or size >= MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record.value or b"")
    if batch:
        yield batch


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)


def _committable(mark: Watermark) -> int | None:
    mark.advance()
    return mark.next


async def _wait_for(event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECHECK_SECONDS):
            await event.wait()
