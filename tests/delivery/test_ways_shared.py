"""Workers on one PostgreSQL ledger agree: on who is dead, on a rate, on how often one is written to."""

import asyncio

import pytest

from postroom.policy.circuit_breaker import CircuitRules, Phase
from postroom.policy.outcomes import Progress
from postroom.ports.ledger import State
from postroom.ports.relay import Rate
from tests.delivery.letters import PROFILE
from tests.delivery.scripted_relay import served
from tests.delivery.worker_harness import (
    Host,
    Line,
    arrivals,
    charged,
    peak,
    pour,
    states,
    wait_until,
    whole,
    working,
)
from tests.ledger.postgres_ledgers import execute

pytestmark = pytest.mark.postgres
RULES = CircuitRules(3, reset_after=60.0)
OVERTAKEN_SECONDS = 5.0
"""Twice what it is by design, for a machine that others use as well."""


@whole
async def test_what_one_worker_finds_dead_another_does_not_knock_at(database: str) -> None:
    dead = Host(dead=True)
    async with served(dead):
        line = Line(PROFILE, dead, RULES)
        async with working(database, "a", line) as one, working(database, "b", line) as two:
            while one.phase is Phase.CLOSED:
                await one.carry(5)
            await wait_until(lambda: two.phase is Phase.OPEN, "the other to know")
            knocks = dead.knocks
            progress = await two.carry(20)
            assert (len(progress.finished()), dead.knocks) == (20, knocks)
    assert set(states(database, PROFILE)) == {State.DEFERRED}
    assert charged(database, PROFILE) == 0


@whole
async def test_a_rate_is_kept_by_workers_that_come_and_go(database: str) -> None:
    host, rate = Host(), Rate(40, 1.0)
    async with served(host):
        line = Line(PROFILE, host, RULES, rate)
        async with working(database, "a", line) as one:
            await pour(one, 50)
            async with working(database, "b", line) as two:
                halves = lambda: (one.share, two.share) == (20, 20)  # noqa: E731
                await wait_until(halves, "each to have a half")
                await asyncio.gather(pour(one, 50), pour(two, 50))
            await wait_until(lambda: one.share == 40, "all of it again")
            await pour(one, 50)
            await wait_until(lambda: len(host.accepted) == 200, "all letters")
    moments = arrivals(host)
    assert (len(moments), states(database, PROFILE)) == (200, {State.ACCEPTED: 200})
    assert 20 <= peak(moments, rate.seconds) <= rate.count


@whole
async def test_under_overload_of_a_rate_letters_leave_in_about_the_order_they_came(database: str) -> None:
    """Twice the rate for fourteen seconds: at the end so many wait as leave in fourteen more."""
    host, rate, carrying = Host(), Rate(30, 1.0), list[asyncio.Task[Progress]]()
    async with served(host):
        line = Line(PROFILE, host, RULES, rate)
        async with working(database, "a", line) as one, working(database, "b", line) as two:
            await wait_until(lambda: (one.share, two.share) == (15, 15), "each to have a half")
            for _ in range(140):
                carrying += [asyncio.create_task(station.carry(3)) for station in (one, two)]
                await asyncio.sleep(0.1)
            await wait_until(lambda: len(host.accepted) == 840, "all letters")
            await asyncio.gather(*carrying)
    arrivals(host)
    numbers = [int(seen.recipients[0].partition("@")[0][1:]) for seen in host.accepted]
    oldest, most = numbers[-1], 0
    for number in reversed(numbers):
        oldest = min(oldest, number)
        most = max(most, number - oldest)
    print(f"overload: at most {most} of 840 letters came between a letter and one that overtook it")
    assert most < 60 * OVERTAKEN_SECONDS


@whole
async def test_a_recipient_is_written_to_so_often_whichever_worker_has_the_letter(database: str) -> None:
    host, rate = Host(), Rate(3, 60.0)
    async with served(host):
        line = Line(PROFILE, host, RULES, per_recipient=rate)
        async with working(database, "a", line) as one, working(database, "b", line) as two:
            same = "ada@example.net"
            await asyncio.gather(one.carry(4, recipient=same), two.carry(4, recipient=same), two.carry(5))
    assert [seen.recipients for seen in host.accepted].count([same]) == rate.count
    assert states(database, PROFILE) == {State.ACCEPTED: rate.count + 5, State.DEFERRED: 5}
    assert execute(database, "SELECT count(*) FROM letter WHERE state = 'deferred' AND attempts > 0") == [
        (0,)
    ]
