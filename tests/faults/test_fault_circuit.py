"""Faults 18 and 19: a relay that is dead beside one that is well, and one that comes back after long."""

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import pytest

from postroom.policy.circuit_breaker import CircuitRules
from postroom.ports.ledger import State
from postroom.ports.relay import Rate
from tests.delivery.letters import PROFILE
from tests.delivery.scripted_relay import Wait, served
from tests.delivery.worker_harness import (
    BATCH,
    Host,
    Line,
    all_know,
    arrivals,
    charged,
    peak,
    pour,
    states,
    wait_until,
    working,
)
from tests.faults.results import Fault
from tests.ledger.postgres_ledgers import execute

pytestmark = [pytest.mark.faults, pytest.mark.postgres]

FAILURES = 5
SPARE = "shop/spare"
WELL = "shop/well"


def in_a_loop(number: int) -> Callable[[Callable[[str, Fault], Coroutine[Any, Any, None]]], Any]:
    """The test of this fault as pytest runs it, with a database and a place for its figures."""

    def made(test: Callable[[str, Fault], Coroutine[Any, Any, None]]) -> Any:
        def run(postgres_ledger: str, fault: Fault) -> None:
            asyncio.run(test(postgres_ledger, fault))

        run.__name__ = test.__name__
        return pytest.mark.fault(number)(run)

    return made


@in_a_loop(18)
async def test_a_dead_relay_is_left_alone_and_blocks_no_letter_of_another_relay(
    database: str, fault: Fault
) -> None:
    """The healthy relay takes its time for each letter: what is measured is who waits for whom."""
    dead, well = Host(dead=True), Host(delay=0.1)
    rules = CircuitRules(FAILURES, reset_after=60.0)
    async with served(dead), served(well):
        line, other = Line(PROFILE, dead, rules), Line(WELL, well, rules)
        async with working(database, "well", other) as healthy:
            await pour(healthy, 2 * BATCH)  # connections and caches
            _, before = await pour(healthy, 8 * BATCH)
            async with working(database, "a", line) as one, working(database, "b", line) as two:
                (_, beside), *_ = await asyncio.gather(
                    *(pour(each, 8 * BATCH) for each in (healthy, one, two))
                )
                await all_know(one, two)
                circuit, knocks = one.router.own.breaker.circuit, dead.knocks
                done, seconds = await pour(one, 8 * BATCH)
                assert (done, dead.knocks) == (8 * BATCH, knocks), "no connection while the circuit is open"
            _, after = await pour(healthy, 8 * BATCH)
    assert circuit.failures == FAILURES
    assert states(database, PROFILE) == {State.DEFERRED: 24 * BATCH}
    assert (charged(database, PROFILE), len(well.accepted)) == (0, 26 * BATCH)
    alone = (before + after) / 2
    fault.record(
        f"two workers, {24 * BATCH} letters for a dead relay: open after {circuit.failures} "
        f"failures and {knocks} connections, then {8 * BATCH} more put off in {seconds:.1f} s without a "
        f"knock, none charged an attempt; the healthy relay at {100 * alone / beside:.0f} % of its "
        f"throughput ({8 * BATCH / alone:.0f}/s alone, {8 * BATCH / beside:.0f}/s beside)"
    )
    assert alone / beside >= 0.9


@in_a_loop(18)
async def test_while_a_relay_is_dead_letters_leave_through_the_fallback_and_the_record_says_so(
    database: str, fault: Fault
) -> None:
    dead, spare = Host(dead=True), Host()
    rules, begun = CircuitRules(FAILURES, reset_after=60.0), monotonic()
    async with served(dead), served(spare):
        own, other = Line(PROFILE, dead, rules), Line(SPARE, spare, rules)
        async with working(database, "a", own, other) as one, working(database, "b", own, other) as two:
            await asyncio.gather(pour(one, 4 * BATCH), pour(two, 4 * BATCH))
            await wait_until(lambda: len(spare.accepted) == 8 * BATCH, "every letter at the fallback")
            seconds = monotonic() - begun
    assert states(database, PROFILE) == {State.ACCEPTED: 8 * BATCH}
    accepted = "SELECT relay, count(*) FROM attempt WHERE result = 'accepted' GROUP BY relay"
    assert execute(database, accepted) == [(SPARE, 8 * BATCH)]
    assert len(arrivals(spare)) == 8 * BATCH
    fault.record(
        f"{8 * BATCH} letters, relay dead, a fallback: all accepted through {SPARE} within "
        f"{seconds:.1f} s, none lost, none doubled, each on record with its relay; {dead.knocks} "
        "connections to the dead one"
    )


@in_a_loop(19)
async def test_a_relay_that_comes_back_gets_one_letter_first_and_then_no_more_than_its_rate(
    database: str, fault: Fault
) -> None:
    """An hour's backlog, due all at once; the hour itself is left out: `resetAfter` is two seconds here."""
    rate, backlog, answered = Rate(50, 1.0), fault.size(400, 2000), asyncio.Event()
    host = Host({"DOT": [Wait(answered)]}, dead=True)
    async with served(host):
        line = Line(PROFILE, host, CircuitRules(3, reset_after=2.0), rate)
        async with working(database, "a", line) as one, working(database, "b", line) as two:
            await asyncio.gather(pour(one, backlog // 2), pour(two, backlog // 2))
            await all_know(one, two)
            await wait_until(lambda: states(database, PROFILE) == {State.DEFERRED: backlog}, "all put off")
            host.dead = False
            execute(database, "UPDATE letter SET due = 1, attempts = 12 WHERE state = 'deferred'")
            await wait_until(lambda: len(host.seen) == 1, "the probe")
            probing = monotonic()
            await wait_until(lambda: monotonic() > probing + 3, "three looks of both workers")
            assert (len(host.seen), host.connections) == (1, 1), "one probe over all workers"
            answered.set()
            seconds = await wait_until(lambda: len(host.accepted) == backlog, "the backlog")
    assert states(database, PROFILE) == {State.ACCEPTED: backlog}
    moments = arrivals(host)
    assert len(moments) == backlog
    most = peak(moments, rate.seconds)
    fault.record(
        f"{backlog} letters due at once, two workers, limits.rate {rate.count}/s: one probe "
        f"alone for 3 s, then all in {seconds:.1f} s ({backlog / seconds:.0f}/s), at most {most} "
        "came in any second; none lost, none doubled"
    )
    assert most <= rate.count
