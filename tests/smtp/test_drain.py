"""A drain over real sockets: what it reports as not sent, what it waits for, and in which order."""

import asyncio
import math
from collections.abc import Sequence

from postroom.ports.relay import FenceGrant, Lost, NotSent, OutboundMessage, Stage
from tests.delivery.scripted_relay import SILENCE, ScriptedRelay, Wait, served
from tests.smtp.outbound_messages import ACCEPTED, Letter, Register, grant_all, letters, pool, until


def test_a_drain_returns_queued_letters_and_waits_for_the_reply_to_sent_content() -> None:
    async def run() -> None:
        answered = asyncio.Event()
        relay, register = ScriptedRelay({"DOT": [Wait(answered)]}), Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver(letters(5), register.note)
            await until(lambda: len(relay.seen) == 1)
            draining = asyncio.create_task(sender.drain(5))
            await until(lambda: len(register.results) == 4)
            answered.set()
            await draining
            assert register.results.pop("reader0@example.net") == ACCEPTED
            assert set(register.results.values()) == {NotSent(fenced=False)}
        assert len(relay.accepted) == 1

    asyncio.run(run())


def test_a_drain_that_runs_out_of_grace_leaves_the_letter_in_doubt() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay({"DOT": [SILENCE]}), Register()
        async with served(relay), pool(relay.port) as sender:
            sender.deliver(letters(1), register.note)
            await until(lambda: len(relay.seen) == 1)
            await sender.drain(0.02)
            assert await register.of(1) == [Lost(Stage.END_OF_DATA, True, "no reply within 0.02 s of grace")]

    asyncio.run(run())


def test_a_letter_in_a_running_fence_call_is_returned_after_the_call() -> None:
    async def run() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            asked.set()
            await answer.wait()
            return FenceGrant(messages, math.inf)

        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(1), register.note)
            await asked.wait()
            draining = asyncio.create_task(sender.drain(5))
            await until(lambda: sender.connections == 0)
            assert register.results == {}
            answer.set()
            await draining
            assert await register.of(1) == [NotSent(fenced=False)]
        assert relay.seen == []

    asyncio.run(run())


def test_a_fence_call_that_does_not_return_ends_a_drain_after_its_grace() -> None:
    async def run() -> None:
        asked = asyncio.Event()

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            asked.set()
            await asyncio.Event().wait()
            return FenceGrant(messages, math.inf)

        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port, fence) as sender:
            sender.deliver(letters(3), register.note)
            await asked.wait()
            await sender.drain(0.02)
            assert await register.of(3) == [NotSent(fenced=False)] * 3

    asyncio.run(run())


def test_a_letter_delivered_after_a_drain_is_returned_at_once_and_open_restarts() -> None:
    async def run() -> None:
        relay, register = ScriptedRelay(), Register()
        async with served(relay), pool(relay.port) as sender:
            await sender.drain(1)
            sender.deliver([Letter("back@example.net")], register.note)
            assert register.results == {"back@example.net": NotSent(fenced=False)}
            await sender.open(grant_all)
            sender.deliver(letters(3), register.note)
            await register.of(4)
            assert len(relay.accepted) == 3

    asyncio.run(run())
