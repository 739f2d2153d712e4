"""What a letter costs: the pool beside Postfix's own load generator, in one run, into the same sink."""

import asyncio
import math
import time
from collections.abc import Sequence
from statistics import median

import pytest

from postroom.adapters.smtp.pool import SmtpRelay
from postroom.adapters.smtp.settings import RelaySettings
from postroom.ports.relay import FenceGrant, OutboundMessage, Reply, Result
from tests.fixtures.postfix import source_cost
from tests.smtp.outbound_messages import IN_CLEAR, Letter

LETTERS = 20_000
CONNECTIONS = 32
SIZE = 10_000
ROUNDS = 3

pytestmark = pytest.mark.bench


async def send_all(port: int) -> float:
    """Microseconds of this process's CPU for a letter."""
    relay = SmtpRelay(RelaySettings("127.0.0.1", port, IN_CLEAR, connections=CONNECTIONS))
    made, decided, over = 0, 0, asyncio.Event()
    content = Letter("reader@example.net", SIZE).content

    class Ready:
        def __init__(self, recipient: str) -> None:
            self.envelope = Letter(recipient).envelope
            self.content = content

    async def fence(parcels: Sequence[OutboundMessage]) -> FenceGrant:
        return FenceGrant(parcels, math.inf)

    def feed() -> None:
        nonlocal made
        batch = min(500, LETTERS - made)
        relay.deliver([Ready(f"reader{made + n}@example.net") for n in range(batch)], note)
        made += batch

    def note(results: Sequence[tuple[OutboundMessage, Result]]) -> None:
        nonlocal decided
        decided += len(results)
        assert all(isinstance(result, Reply) and result.code == 250 for _, result in results)
        if made - decided < 300:
            feed()
        if decided == LETTERS:
            over.set()

    await relay.open(fence)
    began = time.process_time()
    feed()
    await over.wait()
    cost = time.process_time() - began
    await relay.drain(5)
    return cost / LETTERS * 1e6


def test_a_letter_costs_no_more_than_one_and_a_half_times_what_smtp_source_spends(smtp_sink: int) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(asyncio.run(send_all(smtp_sink)))
        theirs.append(source_cost(smtp_sink, LETTERS, SIZE, CONNECTIONS))
    print(f"pool {ours} µs a letter, smtp-source {theirs}: {median(ours) / median(theirs):.2f} x")
    assert median(ours) <= 1.5 * median(theirs)
