"""Workers on one PostgreSQL ledger agree: on who is dead, on a rate, on how often one is written to."""

import asyncio

import pytest

from postroom.delivery.decide.breaker import Phase, Rules
from postroom.ports.ledger import State
from postroom.ports.relay import Rate
from tests.delivery.letters import PROFILE
from tests.delivery.postgres_ledgers import execute
from tests.delivery.scripted_relay import served
from tests.delivery.stations import (
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

pytestmark = pytest.mark.postgres
RULES = Rules(3, reset_after=60.0)


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
async def test_a_recipient_is_written_to_so_often_whichever_worker_has_the_letter(database: str) -> None:
    host, rate = Host(), Rate(3, 60.0)
    async with served(host):
        line = Line(PROFILE, host, RULES, per_recipient=rate)
        async with working(database, "a", line) as one, working(database, "b", line) as two:
            same = "ada@example.net"
            await asyncio.gather(one.carry(4, recipient=same), two.carry(4, recipient=same), two.carry(5))
    assert [seen.recipients for seen in host.accepted].count([same]) == rate.count
    assert states(database, PROFILE) == {State.ACCEPTED: rate.count + 5, State.DEFERRED: 5}
    assert execute(database, "SELECT count(*) FROM letter WHERE state = 'deferred' AND tries > 0") == [(0,)]
