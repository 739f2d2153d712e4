"""Pruning: old letters are deleted and undecided ones end, once an hour, by the profile's times."""

import asyncio
from dataclasses import replace

import pytest

from postroom.letter.problems import Code
from postroom.ports.ledger import State
from postroom.ports.relay import Lost, Stage
from postroom.worker import maintenance
from tests.delivery.async_test import async_test
from tests.delivery.fakes import until
from tests.delivery.letters import HOUSE, POLICY, record
from tests.delivery.pipeline_harness import Bench

PARK = replace(HOUSE, retry=replace(POLICY, on_in_doubt="Park"))
DROPPED = Lost(Stage.END_OF_DATA, end_of_data_sent=True, reason="connection reset")
DAY_SECONDS = 86_400.0


@pytest.fixture
def bench() -> Bench:
    return Bench(policy=PARK)


async def parked(bench: Bench) -> None:
    """A letter in doubt, and one that was accepted."""
    bench.relay.answers["a@example.net"] = DROPPED
    await bench.carry(record("a", 0), record("b", 1))
    assert (bench.state("a"), bench.state("b")) == (State.IN_DOUBT, State.ACCEPTED)


@async_test
async def test_a_parked_letter_waits_for_thirty_days_and_is_then_a_dead_letter(bench: Bench) -> None:
    await parked(bench)
    bench.clock.pass_(29 * DAY_SECONDS)
    assert await maintenance.end_undecided(bench.ledger, bench.clock, PARK) == 0
    bench.clock.pass_(2 * DAY_SECONDS)
    assert await maintenance.end_undecided(bench.ledger, bench.clock, PARK) == 1
    assert (bench.state("a"), bench.row("a").stored) == (State.FAILED, None)
    assert bench.buried == [(0, "undecided")]
    [waiting] = bench.store.outbox
    assert "within 720 h" in waiting.dead_letter.problems[0].message
    assert await maintenance.end_undecided(bench.ledger, bench.clock, PARK) == 0


@async_test
async def test_it_is_forgotten_as_every_letter_is_a_window_after_its_end(bench: Bench) -> None:
    await parked(bench)
    bench.clock.pass_(31 * DAY_SECONDS)
    await maintenance.end_undecided(bench.ledger, bench.clock, PARK)
    assert await maintenance.prune_ledger(bench.ledger, bench.clock, PARK) == 1
    bench.clock.pass_(PARK.window + 1)
    assert await maintenance.prune_ledger(bench.ledger, bench.clock, PARK) == 1
    assert bench.store.rows == {}


@async_test
async def test_the_worker_is_told_how_many_ended_undecided(bench: Bench) -> None:
    await parked(bench)
    bench.clock.pass_(31 * DAY_SECONDS)
    counts: list[int] = []
    running = asyncio.create_task(maintenance.run_pruning(bench.ledger, bench.clock, PARK, counts.append))
    await until(lambda: bool(counts))
    running.cancel()
    assert counts == [1]


def test_the_reason_names_the_field_and_the_way_out() -> None:
    why = maintenance.undecided_problem(720 * 3600.0)
    assert (why.code, why.field) == (Code.UNDECIDED, "spec.parkedFor")
    assert "--insist undecided" in why.message
