"""Over real sockets: no content leaves without a grant, and the fence is called no more than needed."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from postroom.ports.relay import FenceGrant, NotSent, OutboundMessage, Result
from tests.delivery.scripted_relay import FULL, OK, ScriptedRelay, Wait, served
from tests.smtp.outbound_messages import ACCEPTED, Register, grant_all, letters, pool, until

LOCKSTEP = tuple(word for word in FULL if word != "PIPELINING")
MODES = pytest.mark.parametrize("extensions", [FULL, LOCKSTEP], ids=["pipelined", "lockstep"])


@MODES
def test_a_letter_that_the_fence_refuses_never_leaves(extensions: Sequence[str]) -> None:
    relay = ScriptedRelay(extensions=extensions)
    refused = {"reader1@example.net", "reader4@example.net"}

    async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
        return FenceGrant([p for p in messages if p.envelope.recipient not in refused], math.inf)

    async def run() -> dict[str, Result]:
        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(6), register.note)
            await register.of(6)
        return register.results

    results = asyncio.run(run())
    assert {r for r, result in results.items() if result == NotSent(fenced=True)} == refused
    assert {seen.recipients[0] for seen in relay.seen}.isdisjoint(refused)
    assert len(relay.accepted) == 4
    assert all(seen.content for seen in relay.seen)


def test_content_waits_after_354_until_the_fence_has_answered() -> None:
    relay = ScriptedRelay()

    async def run() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            asked.set()
            await answer.wait()
            return FenceGrant(messages, math.inf)

        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(1), register.note)
            await asked.wait()
            await until(lambda: "DATA" in relay.commands)
            assert relay.seen == []
            answer.set()
            assert await register.of(1) == [ACCEPTED]

    asyncio.run(run())


def test_a_grant_that_expired_before_the_354_is_requested_again() -> None:
    loop_time: list[float] = []
    relay = ScriptedRelay()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        relay.steps["DOT"].append(Wait(late := asyncio.Event()))

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            loop_time.append(loop.time())
            return FenceGrant(messages, loop.time() + 0.02)

        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(2), register.note)
            await until(lambda: len(relay.seen) == 1 and loop.time() > loop_time[-1] + 0.03)
            late.set()
            assert await register.of(2) == [ACCEPTED, ACCEPTED]

    asyncio.run(run())
    assert len(loop_time) == 3
    assert relay.connections == 1


def test_a_grant_that_expired_before_it_arrived_sends_nothing() -> None:
    relay = ScriptedRelay()

    async def run() -> list[Result]:
        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            return FenceGrant(messages, asyncio.get_running_loop().time() - 1)

        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(2), register.note)
            return await register.of(2)

    assert asyncio.run(run()) == [NotSent(fenced=False)] * 2
    assert relay.seen == []


def test_a_fence_that_raises_sends_nothing_and_loses_nothing() -> None:
    relay = ScriptedRelay()
    failures: list[str] = []

    async def run() -> list[Result]:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context["message"])
        )
        calls = 0

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ConnectionError("the ledger is gone")
            return await grant_all(messages)

        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(3), register.note)
            return await register.of(3)

    results = asyncio.run(run())
    assert results.count(NotSent(fenced=False)) == 1
    assert results.count(ACCEPTED) == 2
    assert len(failures) == 1


def test_a_letter_that_both_the_relay_and_the_fence_refuse_is_reported_as_not_sent() -> None:
    """Another worker owns the letter, so the reply of the relay must not settle it."""
    relay = ScriptedRelay({"RCPT": ["550 5.1.1 unknown"]})

    async def run() -> list[Result]:
        answer = asyncio.Event()

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            await answer.wait()
            return FenceGrant([], math.inf)

        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(1), register.note)
            await until(lambda: "DATA" in relay.commands and sender.connections == 1)
            await until(lambda: sender._connections.copy().pop().transactions.idle)
            assert register.results == {}
            answer.set()
            return await register.of(1)

    assert asyncio.run(run()) == [NotSent(fenced=True)]


def test_a_requeued_letter_that_the_fence_refuses_is_not_sent() -> None:
    async def run() -> None:
        answer, greet = asyncio.Event(), asyncio.Event()
        relay = ScriptedRelay({"greeting": [OK, Wait(greet)], "DOT": ["421 4.3.2 closing"]})

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            if messages[0].envelope.recipient == "reader1@example.net":
                await answer.wait()
                return FenceGrant(messages[1:], math.inf)
            return FenceGrant(messages, math.inf)

        register = Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(3), register.note)
            await until(lambda: relay.connections == 2)
            answer.set()
            await register.of(2)
            greet.set()
            await register.of(3)
        assert register.results["reader1@example.net"] == NotSent(fenced=True)
        assert register.results["reader2@example.net"] == ACCEPTED
        assert relay.connections == 2
        assert "RCPT TO:<reader1@example.net>" not in relay.commands

    asyncio.run(run())
