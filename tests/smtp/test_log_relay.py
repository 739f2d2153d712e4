"""Mode Log: letters are fenced and settled like others, and never sent."""

import asyncio
import math
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from postroom.adapters.log_relay import LogRelay
from postroom.letter.address import mask_address
from postroom.ports.relay import FenceGrant, NotSent, OutboundMessage, Reply, Stage
from tests.smtp.outbound_messages import Letter, Register, grant_all, letters

LOGGED = Reply(Stage.END_OF_DATA, 250, "logged, not sent")


def test_letters_are_logged_in_one_line_with_masked_addresses_and_reported_as_accepted() -> None:
    async def run() -> None:
        relay, register = LogRelay(), Register()
        await relay.open(grant_all)
        with capture_logs() as lines:
            relay.deliver(letters(30), register.note)
            assert await register.of(30) == [LOGGED] * 30
        assert relay.reachable is None, "there is no relay"
        (line,) = lines
        assert line["letters"] == 30
        assert line["recipients"] == ["r…@example.net"] * 20
        assert register.groups == [30]
        await relay.drain(1)

    asyncio.run(run())


def test_letters_that_the_fence_refuses_are_not_logged() -> None:
    async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
        return FenceGrant(messages[:1], math.inf)

    async def run() -> None:
        relay, register = LogRelay(), Register()
        await relay.open(fence)
        relay.deliver(letters(2), register.note)
        assert await register.of(2) == [LOGGED, NotSent(fenced=True)]

    asyncio.run(run())


def test_a_drain_returns_letters_without_a_fence_call_and_waits_for_the_running_call() -> None:
    async def run() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
            asked.set()
            await answer.wait()
            return FenceGrant(messages, math.inf)

        relay, register = LogRelay(), Register()
        await relay.open(fence)
        relay.deliver([Letter("first@example.net")], register.note)
        await asked.wait()
        relay.deliver([Letter("second@example.net")], register.note)
        draining = asyncio.create_task(relay.drain(5))
        await asyncio.sleep(0)
        answer.set()
        await draining
        relay.deliver([Letter("third@example.net")], register.note)
        assert register.results == {
            "first@example.net": LOGGED,
            "second@example.net": NotSent(fenced=False),
            "third@example.net": NotSent(fenced=False),
        }

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "masked"),
    [("alice@example.net", "a…@example.net"), ("x@y.org", "x…@y.org"), ("@y.org", "…@y.org")],
)
def test_an_address_is_masked_to_its_first_character_and_its_domain(address: str, masked: str) -> None:
    assert mask_address(address) == masked
