"""Dead letters that the brokers refuse: they stay in the ledger, across deaths, until they are taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from postroom.letter.event import Record
from postroom.ports.ledger import DeadLetter
from postroom.worker.maintenance import publish_dead_letters
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, TOPIC
from tests.delivery.pipeline_harness import Bench, offsets
from tests.faults.results import Fault
from tests.ledger.test_sqlite import FileLives

pytestmark = pytest.mark.faults


@dataclass
class Brokers:
    """Refuse every dead letter until they are open."""

    open: bool = False
    asked: int = 0
    taken: list[str] = field(default_factory=list)

    async def publish(self, dead_letters: Sequence[DeadLetter], seconds: float = 1.0) -> Sequence[bool]:
        self.asked += 1
        if self.open:
            self.taken += [one.id for one in dead_letters]
        return [self.open] * len(dead_letters)


@pytest.mark.fault(21)
@async_test
async def test_a_dead_letter_that_nobody_takes_is_in_the_ledger_before_its_offset_is_done(
    tmp_path: Path, fault: Fault
) -> None:
    malformed = fault.size(200, 2000)
    lives, brokers = FileLives(tmp_path / "ledger.sqlite"), Brokers()
    bench = Bench()
    bench.ledger = await lives.begin()  # type: ignore[assignment]
    records = [Record(TOPIC, 0, number, NOON, None, b"no json") for number in range(malformed)]
    progress = await bench.carry(*records)
    assert offsets(progress.finished()) == list(range(malformed))
    assert len(await bench.ledger.pending_dead_letters(malformed + 1)) == malformed

    assert await publish_dead_letters(bench.ledger, brokers) == 0
    await lives.die()

    ledger = await lives.begin()
    kept = len(await ledger.pending_dead_letters(malformed + 1))
    brokers.open = True
    while await publish_dead_letters(ledger, brokers):
        pass
    assert (kept, len(set(brokers.taken)), len(brokers.taken)) == (malformed, malformed, malformed)
    await ledger.close()
    fault.record(f"{malformed} dead letters refused, {kept} kept over a kill, {len(brokers.taken)} published")


@async_test
async def test_an_offset_is_not_done_while_its_dead_letter_cannot_be_put_on_record() -> None:
    bench = Bench()
    await bench.open()

    async def refuse(_: Sequence[DeadLetter]) -> None:
        raise OSError("the disk is full")

    bench.ledger.add_dead_letters = refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="full"):
        await bench.carry(Record(TOPIC, 0, 0, NOON, None, b"no json"))
