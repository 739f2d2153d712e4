"""Workers of a profile in one process, on a real ledger and real sockets, and a host that can be dead."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from time import monotonic
from typing import Any

from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.adapters.smtp.pool import SmtpRelay
from postroom.adapters.smtp.settings import RelaySettings
from postroom.clock import SystemClock
from postroom.delivery.context import DeliveryContext
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.pipeline import deliver
from postroom.delivery.router import RelayRouter, RelayTarget
from postroom.delivery.shared_state import RecipientRateLimiter
from postroom.policy.circuit_breaker import CircuitRules, Phase
from postroom.policy.outcomes import Progress
from postroom.ports.relay import Rate
from postroom.worker.maintenance import DueLetters
from tests.delivery.fakes import Shelf, ignore
from tests.delivery.letters import HOUSE, WINDOW, record
from tests.delivery.pipeline_harness import total
from tests.delivery.scripted_relay import ScriptedRelay
from tests.ledger.postgres_ledgers import SCHEMA, execute
from tests.smtp.outbound_messages import IN_CLEAR

PATIENCE_SECONDS = 90.0
BATCH = 25
NUMBERS = count()


@dataclass
class Host(ScriptedRelay):
    """A relay that ends every connection at once while it is dead."""

    dead: bool = False
    knocks: int = 0
    """Connections that found it dead."""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.dead:
            self.knocks += 1
            writer.transport.abort()
            return
        await super().converse(reader, writer)


@dataclass(frozen=True, slots=True)
class Line:
    """How a profile reaches its relay."""

    profile: str
    host: Host
    rules: CircuitRules
    rate: Rate | None = None
    per_recipient: Rate | None = None
    connections: int = 4

    def target(self) -> RelayTarget:
        """A worker's own pool towards it."""
        settings = RelaySettings("127.0.0.1", self.host.port, IN_CLEAR, connections=self.connections)
        return RelayTarget(self.profile, SmtpRelay(settings), self.rules, self.rate)


@dataclass
class Station:
    """One worker at work."""

    ledger: PostgresLedger
    router: RelayRouter
    post: DeliveryContext

    @property
    def phase(self) -> Phase:
        """The circuit of its own relay, as it knows it."""
        return self.router.own.breaker.phase

    @property
    def share(self) -> int:
        """Its part of the rate."""
        portion = self.router.own.rate_share
        return portion.count if portion else 0

    async def carry(self, letters: int, **members: Any) -> Progress:
        """So many new records, one batch; `members` replace or add to each event."""
        now = self.post.clock.now()
        numbers = [next(NUMBERS) for _ in range(letters)]
        records = [record(f"n{number}", number, at=now, **members) for number in numbers]
        return total([progress async for progress in deliver(records, self.post)])


@asynccontextmanager
async def working(
    database: str, name: str, own: Line, fallback: Line | None = None
) -> AsyncIterator[Station]:
    """A worker with its retry queue, from its start to its end in order."""
    clock = SystemClock()
    ledger = await PostgresLedger.open(database, SCHEMA, LedgerMember(own.profile, name), WINDOW, clock.now())
    ways = RelayRouter(own.target(), fallback.target() if fallback else None, ledger, clock)
    ways.recipient_limits = (
        RecipientRateLimiter(own.profile, own.per_recipient, ledger) if own.per_recipient else None
    )
    dispatch = Dispatch(ways, ledger, clock, 4 * own.connections, ways)
    await dispatch.open()
    post = DeliveryContext(replace(HOUSE, profile=own.profile), ledger, Shelf(), dispatch, clock)
    deferred = DueLetters(post, ignore)
    running = [asyncio.create_task(ways.watch()), asyncio.create_task(deferred.run())]
    try:
        yield Station(ledger, ways, post)
    finally:
        deferred.stop()
        await dispatch.drain(5.0)
        await deferred.settled()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await ways.leave()
        await ledger.close()


async def wait_until(true: Callable[[], bool], what: str) -> float:
    """Let the workers work until something holds; seconds that it took."""
    begun = monotonic()
    while not true():
        assert monotonic() - begun < PATIENCE_SECONDS, f"still not true: {what}"
        await asyncio.sleep(0.01)
    return monotonic() - begun


def whole(test: Callable[[str], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """The test as pytest runs it, with a database; it has longer than a scenario."""

    def run(postgres_ledger: str) -> None:
        asyncio.run(test(postgres_ledger))

    run.__name__ = test.__name__
    return run


async def pour(station: Station, letters: int) -> tuple[int, float]:
    """Carry letters in batches, two at a time; how many records were done, and seconds."""
    begun, done = monotonic(), 0
    for _ in range(0, letters, 2 * BATCH):
        both = await asyncio.gather(station.carry(BATCH), station.carry(BATCH))
        done += sum(len(progress.finished()) for progress in both)
    return done, monotonic() - begun


async def all_know(*stations: Station) -> None:
    """Wait until every worker knows that the circuit is not closed."""
    await wait_until(lambda: all(each.phase is not Phase.CLOSED for each in stations), "the circuit open")


def states(database: str, profile: str) -> dict[str, int]:
    """Letters of a profile by state."""
    found = execute(
        database, f"SELECT state, count(*) FROM letter WHERE profile = '{profile}' GROUP BY state"
    )
    return {str(state): int(str(number)) for state, number in found}


def charged(database: str, profile: str) -> int:
    """Letters of a profile that an attempt was charged to."""
    [[found]] = execute(database, f"SELECT count(*) FROM letter WHERE profile = '{profile}' AND replies > 0")
    return int(str(found))


def arrivals(host: Host) -> list[float]:
    """When each letter came that was accepted; no recipient's came twice."""
    recipients = [seen.recipients[0] for seen in host.accepted]
    assert len(set(recipients)) == len(recipients), "doubled"
    return [seen.at for seen in host.accepted]


def peak(moments: Sequence[float], seconds: float) -> int:
    """The most moments in any window of this length."""
    ordered, first, most = sorted(moments), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
