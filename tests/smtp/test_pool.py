"""The pool over real sockets: number and lifetime of connections, timeouts, rates, failures."""

import asyncio
import math
import socket
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.adapters.smtp import pool as pool_module
from postroom.adapters.smtp.counters import CloseCause
from postroom.adapters.smtp.settings import Backoff, Timeouts
from postroom.adapters.smtp.throttle import Throttle
from postroom.ports.relay import FenceGrant, Lost, OutboundMessage, Rate, Reply, Stage
from tests.delivery.scripted_relay import OK, SILENCE, ScriptedRelay, Step, Wait, served
from tests.smtp.outbound_messages import ACCEPTED, Letter, Register, letters, pool, until

QUICK = Backoff(first=0.01, ceiling=0.04)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep a hundred times a second, so that the tests are fast."""
    monkeypatch.setattr(pool_module, "SWEEP_SECONDS", 0.01)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port without a listener."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_nothing_is_opened_before_there_is_a_letter_and_no_more_than_letters() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, connections=10) as sender:
            before = (sender.reachable, relay.connections)
            sender.deliver(letters(3), register.note)
            await register.of(3)
            assert before == (None, 0)
            assert sender.reachable is True
            assert 1 <= relay.connections <= 3

    asyncio.run(run())


def test_connections_share_the_letters_and_are_reused() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, connections=4) as sender:
            sender.deliver(letters(100), register.note)
            assert await register.of(100) == [ACCEPTED] * 100
        assert relay.connections == 4
        assert sender.counters.accepted == sender.counters.letters == 100
        assert sender.counters.connects == 4
        assert sender.counters.pipelined > 80
        assert max(register.groups) > 1

    asyncio.run(run())


def test_a_letter_behind_a_slow_reply_is_sent_over_another_connection() -> None:
    async def run() -> None:
        answer, register = asyncio.Event(), Register()
        relay = ScriptedRelay({"DOT": [Wait(answer)]})
        timeouts = Timeouts(next_letter=0.05)
        async with served(relay), pool(relay.port, connections=2, timeouts=timeouts) as sender:
            sender.deliver(letters(6), register.note)
            assert await register.of(5) == [ACCEPTED] * 5
            answer.set()
            assert await register.of(6) == [ACCEPTED] * 6
            assert sender.counters.drops[CloseCause.RESEQUENCED] == 1
        assert len(relay.accepted) == 6

    asyncio.run(run())


def test_without_another_connection_a_letter_waits_behind_a_slow_reply() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(delay=0.2), Register()
        timeouts = Timeouts(next_letter=0.05)
        async with served(relay), pool(relay.port, connections=1, timeouts=timeouts) as sender:
            sender.deliver(letters(3), register.note)
            assert await register.of(3) == [ACCEPTED] * 3
            assert sender.counters.drops[CloseCause.RESEQUENCED] == 0
        assert relay.connections == 1

    asyncio.run(run())


def test_a_connection_ends_with_quit_after_its_messages() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, messages_per_connection=3) as sender:
            sender.deliver(letters(7), register.note)
            assert await register.of(7) == [ACCEPTED] * 7
        assert relay.connections == 3
        assert relay.commands.count("QUIT") == 3

    asyncio.run(run())


def test_an_unused_connection_is_closed_with_quit() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, timeouts=Timeouts(idle=0.02)) as sender:
            sender.deliver(letters(1), register.note)
            await until(lambda: sender.counters.drops[CloseCause.QUIT] == 1)
            assert relay.commands[-1] == "QUIT"
            assert sender.connections == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("verb", "stage"), [("MAIL", Stage.MAIL), ("DATA", Stage.DATA), ("DOT", Stage.END_OF_DATA)]
)
def test_a_connection_without_a_reply_is_closed_after_the_timeout(verb: str, stage: Stage) -> None:
    async def run() -> None:
        relay, register = ScriptedRelay({verb: [SILENCE]}), Register()
        timeouts = Timeouts(command=0.03, data=0.03, end_of_data=0.03)
        async with served(relay), pool(relay.port, timeouts=timeouts) as sender:
            sender.deliver(letters(2), register.note)
            lost, other = await register.of(2)
        assert isinstance(lost, Lost)
        assert (lost.stage, lost.end_of_data_sent) == (stage, stage is Stage.END_OF_DATA)
        assert lost.reason == f"no reply to {stage.replace('_', ' ').upper()} within 0.03 s"
        assert other == ACCEPTED

    asyncio.run(run())


def test_a_connection_without_a_greeting_is_closed_after_the_timeout() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay({"greeting": [SILENCE]}), Register()
        async with served(relay), pool(relay.port, timeouts=Timeouts(command=0.03)) as sender:
            sender.deliver(letters(1), register.note)
            (result,) = await register.of(1)
        assert isinstance(result, Lost)
        assert "did not greet within 0.03 s" in result.reason

    asyncio.run(run())


def test_every_queued_letter_is_lost_when_the_relay_is_unreachable(closed_port: int) -> None:
    async def run() -> None:
        register = Register()
        async with pool(closed_port, connections=8, backoff=QUICK) as sender:
            sender.deliver(letters(20), register.note)
            results = await register.of(20)
            assert sender.reachable is False
        assert all(
            isinstance(r, Lost) and r.stage is Stage.CONNECT and not r.end_of_data_sent for r in results
        )
        assert isinstance(results[0], Lost)
        assert results[0].reason == f"127.0.0.1:{closed_port} did not accept a connection: Connection refused"

    asyncio.run(run())


def test_letters_delivered_after_a_failure_wait_for_the_next_attempt() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay({"greeting": ["421 4.3.2 busy", "421 4.3.2 busy"]}), Register()
        async with served(relay), pool(relay.port, connections=2, backoff=QUICK) as sender:
            sender.deliver([Letter("early@example.net")], register.note)
            await register.of(1)
            sender.deliver(letters(5), register.note)
            assert sender.queued == 5
            await register.of(6)
            assert all(isinstance(register.results[letter.recipient], Lost) for letter in letters(5))
            assert relay.connections == 2
            sender.deliver([Letter("late@example.net")], register.note)
            await register.of(7)
            assert register.results["late@example.net"] == ACCEPTED
            assert sender.reachable is True

    asyncio.run(run())


def test_failures_to_open_more_only_keep_the_pool_small() -> None:
    async def run() -> None:
        busy: list[Step] = ["421 4.7.0 too many connections"] * 500
        relay, register = ScriptedRelay({"greeting": [OK, *busy]}), Register()
        async with served(relay), pool(relay.port, connections=8, backoff=QUICK) as sender:
            sender.deliver(letters(50), register.note)
            assert await register.of(50) == [ACCEPTED] * 50
            assert sender.reachable is True
            assert sender.counters.connect_failures >= 7

    asyncio.run(run())


def test_the_fence_is_asked_in_groups() -> None:
    async def run() -> None:
        groups: list[int] = []

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            groups.append(len(messages))
            await asyncio.sleep(0.002)
            return FenceGrant(messages, math.inf)

        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, fence, connections=8) as sender:
            sender.deliver(letters(80), register.note)
            await register.of(80)
        assert sum(groups) == 80
        assert max(groups) >= 4

    asyncio.run(run())


def test_a_letter_given_back_with_its_grant_is_not_asked_for_again() -> None:
    async def run() -> None:
        asked: list[str] = []

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            asked.extend(message.envelope.recipient for message in messages)
            return FenceGrant(messages, math.inf)

        relay, register = ScriptedRelay({"DOT": ["421 4.3.2 closing"]}), Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(2), register.note)
            assert await register.of(2) == [Reply(Stage.END_OF_DATA, 421, "4.3.2 closing"), ACCEPTED]
        assert sorted(asked) == ["reader0@example.net", "reader1@example.net"]
        assert relay.connections == 2

    asyncio.run(run())


def test_the_rate_delays_letters() -> None:
    async def run() -> float:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, connections=4) as sender:
            sender.limit(Rate(100, 1.0))
            loop = asyncio.get_running_loop()
            began = loop.time()
            sender.deliver(letters(20), register.note)
            assert await register.of(20) == [ACCEPTED] * 20
            return loop.time() - began

    assert asyncio.run(run()) >= 0.09


def test_a_rate_of_zero_stops_all_and_another_rate_resumes_at_once() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port) as sender:
            sender.limit(Rate(0))
            sender.deliver(letters(3), register.note)
            await until(lambda: relay.connections == 1)
            await asyncio.sleep(0)
            assert register.results == {}
            sender.limit(None)
            assert await register.of(3) == [ACCEPTED] * 3

    asyncio.run(run())


@pytest.mark.searches
@given(
    st.integers(1, 60),
    st.sampled_from([1.0, 10.0, 60.0]),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), min_size=50, max_size=300),
)
def test_whatever_the_delay_of_letters_no_window_contains_more_than_the_rate(
    count: int, seconds: float, steps: list[tuple[float, float]]
) -> None:
    """A letter arrives between its release and its reply; the latest time is the worst case."""
    throttle, now, arrived, due = Throttle(Rate(count, seconds), now=0.0), 0.0, list[float](), list[float]()
    for pause, way in steps:
        now += pause * seconds / count
        while due and due[0] <= now:
            throttle.release(due.pop(0))
        while throttle.try_acquire(now):
            arrived.append(now + way * seconds / count)
            due = sorted([*due, arrived[-1]])
    arrived.sort()
    for first in range(len(arrived) - count):
        assert arrived[first + count] - arrived[first] > seconds * (1 - 1e-6)


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 5000])
def test_a_throttle_with_fast_replies_admits_nearly_its_rate(count: int) -> None:
    throttle, passed = Throttle(Rate(count), now=0.0), 0
    for tick in range(1, 1001):
        while throttle.try_acquire(tick * 0.02):
            throttle.release(tick * 0.02 + 0.01)
            passed += 1
    assert 0.95 * 20 * count <= passed <= 20 * count


@pytest.mark.filterwarnings("ignore")
def test_a_report_that_raises_does_not_affect_others() -> None:
    async def run() -> None:
        messages: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: messages.append(context["message"])
        )

        def fail(results: object) -> None:
            raise RuntimeError("a bug")

        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver([Letter("unlucky@example.net")], fail)
            sender.deliver(letters(2), register.note)
            assert await register.of(2) == [ACCEPTED] * 2
        assert messages == ["a report callback raised; its results are lost"]

    asyncio.run(run())


def test_a_burst_after_an_idle_time_is_no_larger_than_the_first() -> None:
    throttle = Throttle(Rate(60, 60.0), now=0.0)
    assert sum(throttle.try_acquire(0.0) for _ in range(20)) == 1
    assert sum(throttle.try_acquire(3600.0) for _ in range(20)) == 1
    assert throttle.delay() == pytest.approx(1.0)


def test_the_retry_delay_is_constant_without_and_doubles_with_other_connections(
    closed_port: int,
) -> None:
    async def run() -> list[tuple[float, float]]:
        register, waits = Register(), []
        async with pool(closed_port, backoff=QUICK) as sender:
            for number in range(4):
                sender.deliver([Letter(f"reader{number}@example.net")], register.note)
                await register.of(number + 1)
                waits.append(
                    (sender._growth.retry_delay(alone=True), sender._growth.retry_delay(alone=False))
                )
        return waits

    waits = asyncio.run(run())
    assert all(0.01 <= alone <= 0.015 for alone, _ in waits)
    assert [round(beside / alone) for alone, beside in waits] == [1, 2, 4, 4]


def test_a_requeued_letter_is_sent_before_the_queued_letters() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay({"DOT": ["421 4.3.2 closing"]}), Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver(letters(4), register.note)
            await register.of(4)
        assert [seen.recipients[0] for seen in relay.seen] == [letter.recipient for letter in letters(4)]

    asyncio.run(run())
