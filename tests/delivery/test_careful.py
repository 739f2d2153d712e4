"""After an unclean exit: who killed the worker, and who only stood beside."""

from collections.abc import Collection
from dataclasses import replace

from postroom.delivery.careful import ATTEMPTS, Caution
from postroom.letter.event import Record, unpack
from postroom.letter.problems import Code
from tests.delivery.letters import WINDOW, record
from tests.delivery.memory_ledger import MemoryLedger, MemoryStore
from tests.delivery.scenario import scenario


class WorkerDied(Exception):
    """The whole worker went, not only the process beside it."""


class Stage:
    """Implements ports.rehearsal.Rehearsal: some records kill the process, some the worker with it."""

    def __init__(self, deadly: Collection[int] = (), fatal: Collection[int] = ()) -> None:
        self.deadly, self.fatal = deadly, fatal
        self.tried: list[int] = []
        self.closed = False

    async def survives(self, payload: bytes) -> bool:
        offset = unpack(payload).offset
        self.tried.append(offset)
        if offset in self.fatal:
            raise WorkerDied
        return offset not in self.deadly

    async def close(self) -> None:
        self.closed = True


def records(count: int, first: int = 0) -> list[Record]:
    return [record(f"e{number}", number) for number in range(first, first + count)]


@scenario
async def test_after_an_orderly_exit_nobody_is_suspected() -> None:
    caution = Caution(MemoryLedger(MemoryStore(), WINDOW), Stage(), 0)
    assert not caution.concerns(records(1))


@scenario
async def test_harmless_records_pass_in_order_and_the_stage_closes_behind_them() -> None:
    stage = Stage()
    caution = Caution(MemoryLedger(MemoryStore(), WINDOW), stage, 100)
    safe, poisonous = await caution.sift(records(100))
    assert ([one.offset for one in safe], poisonous) == (list(range(100)), [])
    assert stage.closed
    assert not caution.concerns(records(1, 100))


@scenario
async def test_a_record_that_kills_three_times_is_poison_and_its_neighbours_pass() -> None:
    stage = Stage(deadly={3})
    safe, poisonous = await Caution(MemoryLedger(MemoryStore(), WINDOW), stage, 100).sift(records(6))
    assert [one.offset for one in safe] == [0, 1, 2, 4, 5]
    assert [(one.record.offset, one.problems[0].code) for one in poisonous] == [(3, Code.POISON)]
    assert stage.tried.count(3) == 1 + ATTEMPTS


@scenario
async def test_a_record_that_takes_the_worker_with_it_is_found_over_several_lives() -> None:
    store, stage, lives = MemoryStore(), Stage(fatal={2}), 0
    while True:
        lives += 1
        assert lives < 10
        try:
            safe, poisonous = await Caution(MemoryLedger(store, WINDOW), stage, 100).sift(records(5))
            break
        except WorkerDied:
            continue
    assert lives == 1 + ATTEMPTS + 1
    assert [one.record.offset for one in poisonous] == [2]
    assert [one.offset for one in safe] == [0, 1, 3, 4]


@scenario
async def test_a_worker_that_is_killed_over_a_group_blames_nobody() -> None:
    store = MemoryStore()
    for _ in range(10):
        await MemoryLedger(store, WINDOW).suspect(records(5))  # and then the power goes
    safe, poisonous = await Caution(MemoryLedger(store, WINDOW), Stage(), 100).sift(records(5))
    assert (len(safe), poisonous) == (5, [])


@scenario
async def test_each_partition_has_suspects_of_its_own() -> None:
    caution = Caution(MemoryLedger(MemoryStore(), WINDOW), Stage(), 5)
    await caution.sift(records(5))
    assert not caution.concerns(records(1, 5))
    assert caution.concerns([replace(one, partition=1) for one in records(1)])
