"""After an unclean exit: who killed the worker, and who only stood beside."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

import pytest

from postroom.delivery import poison
from postroom.delivery.poison import MAX_ATTEMPTS, PoisonFilter
from postroom.letter.event import Record, unpack_record
from postroom.letter.problems import Code
from tests.delivery.async_test import async_test
from tests.delivery.letters import WINDOW, record
from tests.ledger.memory_ledger import MemoryLedger, MemoryStore


class WorkerDied(Exception):
    """The whole worker went, not only the process beside it."""


class Stage:
    """Implements ports.world.IsolatedRenderer: some records kill the process, some the worker with it.

    After each death, and at first, the process needs `slow` starts.
    """

    def __init__(self, deadly: Collection[int] = (), fatal: Collection[int] = (), slow: int = 1) -> None:
        self.deadly, self.fatal = deadly, fatal
        self.last_error = ""
        self.tried: list[int] = []
        self.closed = False
        self.slow = self.missing = slow

    async def ready(self) -> bool:
        await asyncio.sleep(0)
        self.missing = max(0, self.missing - 1)
        return self.missing == 0

    async def renders_safely(self, payload: bytes) -> bool:
        offset = unpack_record(payload).offset
        self.tried.append(offset)
        if offset in self.fatal:
            raise WorkerDied
        if offset in self.deadly:
            self.missing = self.slow
        return offset not in self.deadly

    async def close(self) -> None:
        self.closed = True


def records(count: int, first: int = 0) -> list[Record]:
    return [record(f"e{number}", number) for number in range(first, first + count)]


@async_test
async def test_after_an_orderly_exit_nobody_is_suspected() -> None:
    caution = PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), Stage(), 0)
    assert not caution.applies_to(records(1))


@async_test
async def test_harmless_records_pass_in_order_and_the_stage_closes_behind_them() -> None:
    stage = Stage()
    caution = PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), stage, 100)
    safe, poisonous = await caution.filter(records(100))
    assert ([one.offset for one in safe], poisonous) == (list(range(100)), [])
    assert stage.closed
    assert not caution.applies_to(records(1, 100))


@async_test
async def test_a_record_that_kills_three_times_is_poison_and_its_neighbours_pass() -> None:
    stage = Stage(deadly={3})
    safe, poisonous = await PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), stage, 100).filter(records(6))
    assert [one.offset for one in safe] == [0, 1, 2, 4, 5]
    assert [(one.record.offset, one.problems[0].code) for one in poisonous] == [(3, Code.POISON)]
    assert stage.tried.count(3) == 1 + MAX_ATTEMPTS


@async_test
async def test_a_record_that_takes_the_worker_with_it_is_found_over_several_lives() -> None:
    store, stage, lives = MemoryStore(), Stage(fatal={2}), 0
    while True:
        lives += 1
        assert lives < 10
        try:
            safe, poisonous = await PoisonFilter(MemoryLedger(store, WINDOW), stage, 100).filter(records(5))
            break
        except WorkerDied:
            continue
    assert lives == 1 + MAX_ATTEMPTS + 1
    assert [one.record.offset for one in poisonous] == [2]
    assert [one.offset for one in safe] == [0, 1, 3, 4]


@async_test
async def test_a_worker_that_is_killed_over_a_group_blames_nobody() -> None:
    store = MemoryStore()
    for _ in range(10):
        await MemoryLedger(store, WINDOW).mark_suspects(records(5))  # and then the power goes
    safe, poisonous = await PoisonFilter(MemoryLedger(store, WINDOW), Stage(), 100).filter(records(5))
    assert (len(safe), poisonous) == (5, [])


@async_test
async def test_each_partition_has_suspects_of_its_own() -> None:
    caution = PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), Stage(), 5)
    await caution.filter(records(5))
    assert not caution.applies_to(records(1, 5))
    assert caution.applies_to([replace(one, partition=1) for one in records(1)])


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not start is started again at once."""
    monkeypatch.setattr(poison, "RECHECK_SECONDS", 0.0)


@pytest.mark.usefixtures("hurried")
@async_test
async def test_records_wait_for_a_process_that_does_not_start_and_are_all_tried() -> None:
    stage = Stage(deadly={3}, slow=5)
    safe, poisonous = await PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), stage, 100).filter(records(6))
    assert [one.offset for one in safe] == [0, 1, 2, 4, 5]
    assert [one.record.offset for one in poisonous] == [3]
    assert set(stage.tried) == set(range(6))


@async_test
async def test_a_process_that_does_not_start_speaks_against_no_record() -> None:
    store = MemoryStore()
    await MemoryLedger(store, WINDOW).mark_suspects(records(5))  # a worker died over them
    for _ in range(10):
        caution = PoisonFilter(MemoryLedger(store, WINDOW), Stage(slow=10**6), 100)
        caution.stop()
        assert await caution.filter(records(5)) == ([], [])
        assert caution.gave_up
    safe, poisonous = await PoisonFilter(MemoryLedger(store, WINDOW), Stage(), 100).filter(records(5))
    assert (len(safe), poisonous) == (5, [])


@async_test
async def test_a_worker_that_ends_waits_for_no_process() -> None:
    caution = PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), Stage(slow=10**6), 100)
    sifting = asyncio.create_task(caution.filter(records(200)))
    await asyncio.sleep(0)
    assert not caution.gave_up
    caution.stop()
    assert await sifting == ([], [])
    assert caution.gave_up


@async_test
async def test_what_was_tried_before_the_end_goes_on() -> None:
    stage = Stage(deadly={70}, slow=1)
    caution = PoisonFilter(MemoryLedger(MemoryStore(), WINDOW), stage, 100)
    stage.slow = 10**6
    caution.stop()
    safe, poisonous = await caution.filter(records(100))
    assert [one.offset for one in safe] == list(range(70))
    assert (poisonous, caution.gave_up) == ([], True)
