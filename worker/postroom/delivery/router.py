"""Where letters leave: the profile's relay, and while its circuit is open the fallback's; each at its rate.

Implements ports.relay.Relay for the dispatch. A letter for which no way is open is handed back at once as
Postponed: it waits in the ledger, and no partition waits with it. A fallback's own fallback is never asked,
so there are no chains and no loops.

With neither a circuit open nor a limit set, a batch costs a look at two flags.
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

LOOK_SECONDS = 1.0
"""How often a worker looks at what is agreed: all know of an open circuit within so long."""
KEPT_SECONDS = 10.0
"""A letter that an open circuit keeps back is due after so long; it is recalled when the circuit lets it. One
that was due at the circuit's end would wait for it where a changed password closes the circuit before."""


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """One relay: whose it is, when to stop knocking, how fast it may be asked."""

    profile: str
    """`namespace/name` of the profile whose relay it is."""
    relay: Relay
    rules: CircuitRules
    rate: Rate | None = None


class Route:
    """An outlet with what this worker knows of it."""

    def __init__(self, outlet: RelayTarget, ledger: Ledger, clock: Clock, via: str) -> None:
        self.target, self.relay, self.via = outlet, outlet.relay, via
        self.breaker = RelayCircuit(outlet.profile, outlet.rules, ledger, clock)
        self.rate_share = RateShare(outlet.profile, outlet.rate, ledger) if outlet.rate else None
        self.letters = 0
        """Handed over since the start."""

    @property
    def open(self) -> bool:
        """Whether letters may go this way, all of them."""
        return self.breaker.phase is Phase.CLOSED

    def room(self, waiting: int, *, recalled: bool) -> int | None:
        """How many more may wait here for their turn; None: any number."""
        return (
            rates.admission_limit(self.rate_share.rate, waiting, recalled=recalled)
            if self.rate_share
            else None
        )

    async def look(self, *, used: bool) -> None:
        """See what is agreed; a rate is shared in by those alone who use it."""
        await self.breaker.sync()
        if self.rate_share is not None and used:
            await self.rate_share.sync()
            self.relay.limit(self.rate_share.rate)
        elif self.rate_share is not None and self.rate_share.count:
            await self.rate_share.release()


class RelayRouter:
    """The ways of one profile's letters."""

    def __init__(self, own: RelayTarget, fallback: RelayTarget | None, ledger: Ledger, clock: Clock) -> None:
        self.own = Route(own, ledger, clock, "")
        self.fallback = Route(fallback, ledger, clock, fallback.profile) if fallback else None
        self.recipient_limits: RecipientRateLimiter | None = None
        """Asked before a letter goes, where recipients have a rate."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._clock = clock

    @property
    def reachable(self) -> bool | None:
        """Whether the profile's own relay was reached last time."""
        return self.own.relay.reachable

    @property
    def last_error(self) -> str:
        """Why not."""
        return self.own.relay.last_error

    @property
    def _all(self) -> list[Route]:
        return [self.own, self.fallback] if self.fallback else [self.own]

    async def open(self, fence: Fence) -> None:
        """Open every relay behind the fence, once it is known what is agreed."""
        for way in self._all:
            await way.relay.open(fence)
        await self.look()

    def limit(self, rate: Rate | None) -> None:
        """See the port."""
        self.own.relay.limit(rate)

    async def watch(self) -> None:
        """Look at what is agreed until cancelled: every second, and at once when there is news to tell."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            await self.look()

    async def look(self) -> None:
        """See what is agreed now."""
        await self.own.look(used=True)
        if self.fallback:
            await self.fallback.look(used=not self.own.open)

    async def drain(self, grace: float) -> None:
        """See the port."""
        if self._tasks:
            _, waiting = await asyncio.wait(self._tasks, timeout=grace)
            for task in waiting:
                task.cancel()
        await asyncio.gather(*(way.relay.drain(grace) for way in self._all))

    async def leave(self) -> None:
        """Give the shares of the rates up."""
        for way in self._all:
            if way.rate_share:
                await way.rate_share.release()

    def retry(self) -> None:
        """Try every relay as soon as there is a letter: its Secrets have changed, its answer may have too."""
        for way in self._all:
            way.breaker.retry()
        self._news.set()

    # --- who may come ----------------------------------------------------------------------------

    def room(self, waiting: int, *, recalled: bool = False) -> int | None:
        """How many more letters may come, with so many here already; None: any number."""
        way = self._way()
        if way is not None:
            return way.room(waiting, recalled=recalled)
        return int(self.own.breaker.may_probe and not waiting)

    def recall_limit(self, waiting: int) -> int | None:
        """How many letters to recall from the ledger: one where that may lead to a probe."""
        if self._way() is None and self.own.breaker.phase is Phase.HALF_OPEN:
            return 1
        return self.room(waiting, recalled=True)

    def hold_reason(self) -> Postponed:
        """Why there is no room, and when to come again."""
        if self._way() is None:
            self.own.breaker.note_waiting_letter()
            reason = f"the circuit of the relay is open: {self.own.breaker.circuit.reason}"
            return Postponed(HoldReason.CIRCUIT, min(self.own.breaker.seconds_left, KEPT_SECONDS), reason)
        reason = "more letters wait than may leave within seconds"
        return Postponed(HoldReason.RATE, rates.AGAIN_SECONDS, reason)

    def _way(self) -> Route | None:
        """The way for letters that are no probe."""
        if self.own.open:
            return self.own
        return self.fallback if self.fallback and self.fallback.open else None

    # --- how they go -----------------------------------------------------------------------------

    def deliver(self, parcels: Iterable[OutboundMessage], report: Report) -> None:
        """See the port."""
        batch = list(parcels)
        if self.recipient_limits is None:
            self._send(batch, report)
            return
        task = asyncio.get_running_loop().create_task(self._pace(self.recipient_limits, batch, report))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pace(self, paces: RecipientRateLimiter, batch: list[OutboundMessage], report: Report) -> None:
        try:
            waits = await paces.admit([parcel.envelope.recipient for parcel in batch])
        except BaseException:
            report([(parcel, NotSent(fenced=False)) for parcel in batch])
            raise
        reason = "the recipient had as many letters of late as its rate allows"
        late: list[tuple[OutboundMessage, Result]] = [
            (parcel, Postponed(HoldReason.RECIPIENT_RATE, wait, reason))
            for parcel, wait in zip(batch, waits, strict=True)
            if wait
        ]
        if late:
            report(late)
        self._send([parcel for parcel, wait in zip(batch, waits, strict=True) if not wait], report)

    def _send(self, batch: list[OutboundMessage], report: Report) -> None:
        if not batch:
            return
        if not self.own.open and self.own.breaker.may_probe:
            self.own.breaker.begin_probe()
            probe, batch = batch[:1], batch[1:]
            self._hand(self.own, probe, report, probe=True)
        way = self._way()
        if not batch:
            return
        if way is None:
            barrier = self.hold_reason()
            report([(parcel, barrier) for parcel in batch])
        else:
            if way is self.fallback:
                self.own.breaker.note_waiting_letter()
            self._hand(way, batch, report, probe=False)

    def _hand(self, way: Route, batch: list[OutboundMessage], report: Report, *, probe: bool) -> None:
        way.letters += len(batch)
        if way.via:
            for parcel in batch:
                cast("Claimed", parcel).via = way.via
        way.relay.deliver(batch, partial(self._arrived, way, report, probe))

    def _arrived(
        self, way: Route, report: Report, probe: bool, results: Sequence[tuple[OutboundMessage, Result]]
    ) -> None:
        breaker = way.breaker
        if probe or breaker.circuit.failures or any(not _is_success(result) for _, result in results):
            breaker.record_results([result for _, result in results], probe)
            if breaker.has_news:
                self._news.set()
        spare = way is self.own and self.fallback is not None and self.fallback.open
        report([(parcel, _wait_for_fallback(result)) for parcel, result in results] if spare else results)


def _wait_for_fallback(result: Result) -> Result:
    """Where a fallback stands by, a letter that found nobody waits for the circuit and not for a retry."""
    if isinstance(result, Lost) and result.stage in BEFORE_THE_LETTER:
        reason = (
            f"the relay was not reached ({result.reason}); the fallback takes over when its circuit opens"
        )
        return Postponed(HoldReason.CIRCUIT, LOOK_SECONDS, reason)
    return result


def _is_success(result: Result) -> bool:
    """An acceptance: it says nothing new of a relay that is thought to live."""
    return type(result) is Reply and result.code < 300
