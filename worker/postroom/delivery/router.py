"""Route letters to the profile's relay, or to the fallback's while the circuit is open, within their rates.

Implements `ports.relay.Relay` for the dispatch. A letter for which no route is open is reported at once as
Postponed: it waits in the ledger, and its partition's offsets advance. The fallback of a fallback is never
used, so there are no chains and no loops.

Cost: while no circuit is open and no rate is set, a batch costs two comparisons.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

from postroom.delivery.shared_state import RateShare, RecipientRateLimiter, RelayCircuit
from postroom.policy import rates
from postroom.policy.circuit_breaker import CircuitRules, Phase
from postroom.policy.replies import BEFORE_THE_LETTER
from postroom.ports.ledger import Claimed, Ledger
from postroom.ports.relay import (
    Fence,
    HoldReason,
    Lost,
    NotSent,
    OutboundMessage,
    Postponed,
    Rate,
    Relay,
    Reply,
    Report,
    Result,
)
from postroom.ports.world import Clock

SYNC_SECONDS = 1.0
"""How often the shared state is read; every worker sees an open circuit within this time."""
POSTPONED_SECONDS = 10.0
"""The longest time until a letter that an open circuit postponed is due. The end of the circuit would be too
late, because a changed password may close the circuit earlier."""


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """One relay with its profile, the rules of its circuit and its rate."""

    profile: str
    """`namespace/name` of the profile that defines the relay."""
    relay: Relay
    rules: CircuitRules
    rate: Rate | None = None


class Route:
    """A relay target with its circuit, its rate share and a count, as this worker sees them."""

    def __init__(self, target: RelayTarget, ledger: Ledger, clock: Clock, via: str) -> None:
        self.target, self.relay, self.via = target, target.relay, via
        self.breaker = RelayCircuit(target.profile, target.rules, ledger, clock)
        self.rate_share = RateShare(target.profile, target.rate, ledger) if target.rate else None
        self.letters = 0
        """Letters given to the relay since the start."""

    @property
    def open(self) -> bool:
        """Whether the circuit is closed, so that all letters may use the route."""
        return self.breaker.phase is Phase.CLOSED

    def room(self, waiting: int, *, recalled: bool) -> int | None:
        """Return how many more letters may wait in memory for the rate; None: no limit."""
        return (
            rates.admission_limit(self.rate_share.rate, waiting, recalled=recalled)
            if self.rate_share
            else None
        )

    async def sync(self, *, used: bool) -> None:
        """Read the shared state; only workers that use the route take a share of its rate."""
        await self.breaker.sync()
        if self.rate_share is not None and used:
            await self.rate_share.sync()
            self.relay.limit(self.rate_share.rate)
        elif self.rate_share is not None and self.rate_share.count:
            await self.rate_share.release()


class RelayRouter:
    """Chooses the route for the letters of one profile."""

    def __init__(self, own: RelayTarget, fallback: RelayTarget | None, ledger: Ledger, clock: Clock) -> None:
        self.own = Route(own, ledger, clock, "")
        self.fallback = Route(fallback, ledger, clock, fallback.profile) if fallback else None
        self.recipient_limits: RecipientRateLimiter | None = None
        """Set if the profile limits the rate of each recipient."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._clock = clock

    @property
    def reachable(self) -> bool | None:
        """Whether the last connection to the profile's own relay succeeded; None before the first."""
        return self.own.relay.reachable

    @property
    def last_error(self) -> str:
        """The last error of the profile's own relay."""
        return self.own.relay.last_error

    @property
    def _routes(self) -> list[Route]:
        return [self.own, self.fallback] if self.fallback else [self.own]

    async def open(self, fence: Fence) -> None:
        """Open every relay with the fence, then read the shared state."""
        for route in self._routes:
            await route.relay.open(fence)
        await self.sync()

    def limit(self, rate: Rate | None) -> None:
        self.own.relay.limit(rate)

    async def watch(self) -> None:
        """Synchronize the shared state until cancelled: every second, and at once after a relevant result."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNC_SECONDS):
                    await self._news.wait()
            self._news.clear()
            await self.sync()

    async def sync(self) -> None:
        """Synchronize the shared state of both routes once."""
        await self.own.sync(used=True)
        if self.fallback:
            await self.fallback.sync(used=not self.own.open)

    async def drain(self, grace: float) -> None:
        if self._tasks:
            _, waiting = await asyncio.wait(self._tasks, timeout=grace)
            for task in waiting:
                task.cancel()
        await asyncio.gather(*(route.relay.drain(grace) for route in self._routes))

    async def leave(self) -> None:
        """Release the shares of the rates."""
        for route in self._routes:
            if route.rate_share:
                await route.rate_share.release()

    def retry(self) -> None:
        """Allow a probe of every relay at once, because its Secrets have changed."""
        for route in self._routes:
            route.breaker.retry()
        self._news.set()

    # --- admission -------------------------------------------------------------------------------

    def room(self, waiting: int, *, recalled: bool = False) -> int | None:
        """Return how many more letters are admitted when `waiting` are queued; None: no limit."""
        route = self._open_route()
        if route is not None:
            return route.room(waiting, recalled=recalled)
        return int(self.own.breaker.may_probe and not waiting)

    def recall_limit(self, waiting: int) -> int | None:
        """Return how many letters to recall from the ledger: one if it may be the probe; None: no limit."""
        if self._open_route() is None and self.own.breaker.phase is Phase.HALF_OPEN:
            return 1
        return self.room(waiting, recalled=True)

    def hold_reason(self) -> Postponed:
        """Return the result for letters that are not admitted: the reason and the delay."""
        if self._open_route() is None:
            self.own.breaker.note_waiting_letter()
            reason = f"the circuit of the relay is open: {self.own.breaker.circuit.reason}"
            return Postponed(
                HoldReason.CIRCUIT, min(self.own.breaker.seconds_left, POSTPONED_SECONDS), reason
            )
        reason = "more letters wait than the rate allows within seconds"
        return Postponed(HoldReason.RATE, rates.RETRY_SECONDS, reason)

    def _open_route(self) -> Route | None:
        """The open route for letters other than the probe; None if there is none."""
        if self.own.open:
            return self.own
        return self.fallback if self.fallback and self.fallback.open else None

    # --- delivery --------------------------------------------------------------------------------

    def deliver(self, messages: Iterable[OutboundMessage], report: Report) -> None:
        batch = list(messages)
        if self.recipient_limits is None:
            self._send(batch, report)
            return
        task = asyncio.get_running_loop().create_task(
            self._limit_recipients(self.recipient_limits, batch, report)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _limit_recipients(
        self, limiter: RecipientRateLimiter, batch: list[OutboundMessage], report: Report
    ) -> None:
        try:
            waits = await limiter.admit([message.envelope.recipient for message in batch])
        except BaseException:
            report([(message, NotSent(fenced=False)) for message in batch])
            raise
        reason = "the recipient has received as many letters as its rate allows"
        late: list[tuple[OutboundMessage, Result]] = [
            (message, Postponed(HoldReason.RECIPIENT_RATE, wait, reason))
            for message, wait in zip(batch, waits, strict=True)
            if wait
        ]
        if late:
            report(late)
        self._send([message for message, wait in zip(batch, waits, strict=True) if not wait], report)

    def _send(self, batch: list[OutboundMessage], report: Report) -> None:
        if not batch:
            return
        if not self.own.open and self.own.breaker.may_probe:
            self.own.breaker.begin_probe()
            probe, batch = batch[:1], batch[1:]
            self._deliver_to(self.own, probe, report, probe=True)
        route = self._open_route()
        if not batch:
            return
        if route is None:
            postponed = self.hold_reason()
            report([(message, postponed) for message in batch])
        else:
            if route is self.fallback:
                self.own.breaker.note_waiting_letter()
            self._deliver_to(route, batch, report, probe=False)

    def _deliver_to(self, route: Route, batch: list[OutboundMessage], report: Report, *, probe: bool) -> None:
        route.letters += len(batch)
        if route.via:
            for message in batch:
                cast("Claimed", message).via = route.via
        route.relay.deliver(batch, partial(self._arrived, route, report, probe))

    def _arrived(
        self, route: Route, report: Report, probe: bool, results: Sequence[tuple[OutboundMessage, Result]]
    ) -> None:
        breaker = route.breaker
        if probe or breaker.circuit.failures or any(not _is_success(result) for _, result in results):
            breaker.record_results([result for _, result in results], probe)
            if breaker.has_news:
                self._news.set()
        spare = route is self.own and self.fallback is not None and self.fallback.open
        report([(message, _wait_for_fallback(result)) for message, result in results] if spare else results)


def _wait_for_fallback(result: Result) -> Result:
    """With an open fallback, turn a connection failure into a short postponement instead of a retry."""
    if isinstance(result, Lost) and result.stage in BEFORE_THE_LETTER:
        reason = (
            f"the relay was not reached ({result.reason}); the fallback takes over when its circuit opens"
        )
        return Postponed(HoldReason.CIRCUIT, SYNC_SECONDS, reason)
    return result


def _is_success(result: Result) -> bool:
    """Whether the letter was accepted, which is no news while the circuit is closed without failures."""
    return type(result) is Reply and result.code < 300
