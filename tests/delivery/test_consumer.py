"""Reception: back-pressure, records in somebody's hands, and partitions that come and go."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from postroom.delivery import consumer
from postroom.delivery.consumer import MAX_BATCH_RECORDS, MAX_IN_FLIGHT, BatchConsumer, BatchHandler
from postroom.letter.event import Record
from postroom.policy.outcomes import Progress
from postroom.ports.kafka import Partition
from tests.delivery.async_test import async_test
from tests.delivery.fakes import FakeEvents, ignore, until
from tests.delivery.letters import NOON, TOPIC

ZERO, ONE = (TOPIC, 0), (TOPIC, 1)


def records(count: int, partition: int = 0, start: int = 0) -> list[Record]:
    return [Record(TOPIC, partition, start + n, NOON, None, b"") for n in range(count)]


@dataclass
class Desk:
    """Carries batches as a test says: each waits until its answer is given."""

    events: FakeEvents = field(default_factory=FakeEvents)
    batches: list[tuple[Sequence[Record], asyncio.Queue[Progress | Exception | None]]] = field(
        default_factory=list
    )
    withdrawn: list[Collection[Partition]] = field(default_factory=list)
    gives_back: bool = True
    """Whether a batch hands everything back when it is called back."""

    def reception(self, grace: float = 5) -> BatchConsumer:
        reception = BatchConsumer(self.events, BatchHandler(self.carry, ignore, self.withdraw, grace))
        reception.assigned([ZERO, ONE])
        return reception

    async def carry(self, batch: Sequence[Record]) -> AsyncIterator[Progress]:
        answers: asyncio.Queue[Progress | Exception | None] = asyncio.Queue()
        self.batches.append((batch, answers))
        while (answer := await answers.get()) is not None:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def withdraw(self, partitions: Collection[Partition]) -> None:
        self.withdrawn.append(partitions)
        if self.gives_back:
            for batch, answers in self.batches:
                answers.put_nowait(Progress(held=list(batch)))
                answers.put_nowait(None)
            self.batches.clear()

    def is_paused(self) -> bool:
        return self.events.paused

    def finish(self, place: int = 0) -> None:
        """The batch's letters are all on record."""
        batch, answers = self.batches[place]
        answers.put_nowait(Progress(duplicates=list(batch)))
        answers.put_nowait(None)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "RECHECK_SECONDS", 0.005)


@async_test
async def test_offsets_are_committed_up_to_the_first_open_record(desk: Desk) -> None:
    reception = desk.reception()
    reception.received(records(MAX_BATCH_RECORDS * 2))
    await until(lambda: len(desk.batches) == 2)
    desk.finish(1)
    await until(lambda: reception._in_progress[ZERO] == MAX_BATCH_RECORDS)
    assert desk.events.committed == {}
    desk.finish(0)
    await until(lambda: desk.events.committed)
    assert desk.events.committed == {ZERO: MAX_BATCH_RECORDS * 2}
    assert reception.open_records == 0


@async_test
async def test_a_full_room_pauses_the_source_and_half_a_room_resumes_it(desk: Desk) -> None:
    reception = desk.reception()
    reception.received(records(MAX_IN_FLIGHT - 1))
    assert not desk.is_paused()
    reception.received(records(1, start=MAX_IN_FLIGHT - 1))
    assert desk.is_paused()
    await until(lambda: len(desk.batches) == MAX_IN_FLIGHT // MAX_BATCH_RECORDS + 1)
    for place in range(MAX_IN_FLIGHT // MAX_BATCH_RECORDS // 2 - 1):
        desk.finish(place)
    await until(lambda: reception.open_records == MAX_IN_FLIGHT // 2 + MAX_BATCH_RECORDS)
    assert desk.is_paused()
    desk.finish(MAX_IN_FLIGHT // MAX_BATCH_RECORDS // 2 - 1)
    await until(lambda: not desk.is_paused())


@async_test
async def test_records_in_somebody_s_hands_are_looked_at_again_and_keep_their_offsets(desk: Desk) -> None:
    reception = desk.reception()
    running = asyncio.ensure_future(reception.run())
    batch = records(3)
    reception.received(batch)
    await until(lambda: desk.batches)
    desk.batches[0][1].put_nowait(Progress(duplicates=[batch[0], batch[2]], held=[batch[1]]))
    desk.batches[0][1].put_nowait(None)
    await until(lambda: len(desk.batches) == 2)
    assert desk.events.committed == {ZERO: 1}
    assert desk.batches[1][0] == [batch[1]]
    desk.finish(1)
    await until(lambda: desk.events.committed == {ZERO: 3})
    running.cancel()


@async_test
async def test_a_batch_that_fails_ends_the_reception_with_its_error(desk: Desk) -> None:
    reception = desk.reception()
    reception.received(records(1))
    await until(lambda: desk.batches)
    desk.batches[0][1].put_nowait(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        await reception.run()
    assert desk.events.committed == {}


@async_test
async def test_a_revoke_waits_for_decisions_and_returns_what_is_done(desk: Desk) -> None:
    desk.gives_back = False
    reception = desk.reception()
    reception.received(records(2, 0) + records(2, 1))
    await until(lambda: desk.batches)
    batch, answers = desk.batches[0]
    revoking = asyncio.ensure_future(reception.revoked([ZERO]))
    await until(lambda: len(desk.withdrawn) > 1)
    assert not revoking.done()
    answers.put_nowait(Progress(duplicates=[batch[0]], held=[batch[1]]))
    answers.put_nowait(None)
    assert await revoking == {ZERO: 1}
    assert reception.partitions == [ONE]
    assert reception._held == []


@async_test
async def test_a_revoke_waits_no_longer_than_its_grace(desk: Desk) -> None:
    desk.gives_back = False
    reception = desk.reception(grace=0.02)
    reception.received(records(2))
    await until(lambda: desk.batches)
    assert await reception.revoked([ZERO, ONE]) == {}
    desk.finish()
    await until(lambda: not reception._in_progress[ZERO])
    assert desk.events.committed == {}


@async_test
async def test_a_lost_partition_is_committed_no_more(desk: Desk) -> None:
    desk.gives_back = False
    reception = desk.reception()
    reception.received(records(2))
    await until(lambda: desk.batches)
    reception.lost([ZERO])
    assert desk.withdrawn == [[ZERO]]
    desk.finish()
    await until(lambda: not reception._in_progress[ZERO])
    assert desk.events.committed == {}
    assert await reception.drain() == {}


@async_test
async def test_what_a_lost_partition_handed_back_is_not_taken_up_again(desk: Desk) -> None:
    """It belongs to another worker now."""
    reception = desk.reception()
    reception.received(records(2))
    await until(lambda: desk.batches)
    reception.lost([ZERO])
    await until(lambda: not reception._in_progress[ZERO])
    assert reception._held == []


@pytest.mark.parametrize("way", ["revoked", "lost"])
@async_test
async def test_a_paused_source_is_resumed_when_what_filled_the_room_is_gone(desk: Desk, way: str) -> None:
    """Nobody else would: no letter is left whose settlement could."""
    reception = desk.reception()
    reception.received(records(MAX_IN_FLIGHT))
    await until(lambda: len(desk.batches) == MAX_IN_FLIGHT // MAX_BATCH_RECORDS)
    assert desk.is_paused()
    if way == "revoked":
        await reception.revoked([ZERO, ONE])
    else:
        reception.lost([ZERO, ONE])
    await until(lambda: not reception._in_progress[ZERO])
    assert not desk.is_paused()


@async_test
async def test_records_that_overtook_their_partition_s_end_are_left_alone(desk: Desk) -> None:
    reception = desk.reception()
    reception.lost([ONE])
    reception.received(records(2, 0) + records(2, 1) + records(2, 0, start=2))
    await until(lambda: desk.batches)
    assert list(desk.batches[0][0]) == records(4, 0)
    desk.finish()
    await until(lambda: desk.events.committed == {ZERO: 4})


@async_test
async def test_a_partition_that_comes_back_begins_anew(desk: Desk) -> None:
    reception = desk.reception()
    reception.received(records(2))
    await until(lambda: desk.batches)
    await reception.revoked([ZERO])
    reception.assigned([ZERO])
    reception.received(records(2))
    await until(lambda: desk.batches)
    desk.finish()
    await until(lambda: desk.events.committed == {ZERO: 2})


@async_test
async def test_a_drain_takes_no_more_and_returns_every_partition_s_offset(desk: Desk) -> None:
    reception = desk.reception()
    reception.received(records(3, 0) + records(2, 1, start=7))
    await until(lambda: desk.batches)
    desk.finish()
    assert await reception.drain() == {ZERO: 3, ONE: 9}
    reception.received(records(5, 0, start=3))
    assert reception.open_records == 0


@async_test
async def test_letters_done_behind_a_slow_one_leave_room_for_others(desk: Desk) -> None:
    reception = desk.reception()
    reception.received(records(MAX_IN_FLIGHT - 1))
    await until(lambda: len(desk.batches) == MAX_IN_FLIGHT // MAX_BATCH_RECORDS)
    for place in range(1, MAX_IN_FLIGHT // MAX_BATCH_RECORDS):
        desk.finish(place)
    await until(lambda: reception.open_records <= MAX_BATCH_RECORDS)
    reception.received(records(1000, start=MAX_IN_FLIGHT))
    assert not desk.is_paused()


@async_test
async def test_heavy_events_fill_the_room_by_their_weight(desk: Desk) -> None:
    reception = desk.reception()
    heavy = [replace(one, value=b"x" * (1 << 20)) for one in records(64)]
    reception.received(heavy)
    await until(lambda: len(desk.batches) == 16)
    assert desk.is_paused()
    for place in range(16):
        desk.finish(place)
    await until(lambda: not desk.is_paused())
