"""A pool of SMTP connections to one relay: `ports.relay.Relay` in earnest.

Parcels in, first come first served → one `Result` each, in groups. The fence is asked as soon as a parcel
is given to a connection, as its current letter or as the one whose envelope travels with the content
before it, so that the ledger's commit overlaps the relay's answer.

No task, future, timer or log line is made for a letter: connections are callbacks on sockets, one sweep a
second watches over their patience, results and questions to the fence go out once a turn of the loop.

Failure: when no connection is open and none can be opened, every parcel that waits is reported `Lost`
with the reason; parcels that come later wait for the next attempt. While one works, failures to open
more only keep the pool small.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic

import structlog

from postroom.adapters.smtp.connection import Connection
from postroom.adapters.smtp.counters import Cause, Counters
from postroom.adapters.smtp.fencing import Fencing, Verdict
from postroom.adapters.smtp.growth import Growth
from postroom.adapters.smtp.opening import Opened, Opener, Unopened
from postroom.adapters.smtp.reports import Reports
from postroom.adapters.smtp.settings import RelaySettings
from postroom.adapters.smtp.throttle import STEP_SECONDS, Throttle
from postroom.adapters.smtp.ticket import Ticket
from postroom.letter.address import mask_addresses
from postroom.ports.relay import Fence, Lost, Parcel, Rate, Report, Result, Withheld

log = structlog.get_logger(__name__)

SWEEP = 1.0
"""Seconds between two looks at what is overdue."""
LONGEST_WAIT = 60.0
"""The pool looks at its rate again after this long, in seconds, whatever it is."""


class SmtpRelay:
    """Implements `ports.relay.Relay`. All methods belong to the event loop that `open` ran in."""

    def __init__(self, settings: RelaySettings) -> None:
        self.settings = settings
        self.counters = Counters()
        self._opener = Opener(settings)
        self._queue: deque[Ticket] = deque()
        self._connections: set[Connection] = set()
        self._resting: list[Connection] = []
        """Connections without a letter, the one that rested last first; some may be gone by now."""
        self._draining = True
        self._reachable: bool | None = None
        self._trouble = ""
        self._throttle: Throttle | None = None
        self._throttled: asyncio.TimerHandle | None = None

    async def open(self, fence: Fence) -> None:
        """Start, or start again after `drain`; connections are opened when there are letters."""
        self._loop = asyncio.get_running_loop()
        self._reports = Reports(self.counters)
        self._fencing = Fencing(fence, self._fenced, self.counters)
        self._growth = Growth(self._opener, self.settings.backoff, self._opened, self._failed)
        self._quiet = asyncio.Event()
        self._draining = False
        self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    def deliver(self, parcels: Iterable[Parcel], report: Report) -> None:
        """Queue parcels. After `drain` they are handed back before this returns."""
        if self._draining:
            report([(parcel, Withheld(fenced=False)) for parcel in parcels])
            return
        self._queue.extend([Ticket(parcel, report) for parcel in parcels])
        self._dispatch()

    async def drain(self, grace: float) -> None:
        """Hand back what has not reached its content, wait for the rest, close.

        A letter that the fence is at work on is handed back when the fence has answered.
        """
        if self._draining:
            return
        self._draining = True
        while self._queue:
            self.give_back(self._queue.popleft())
        for connection in list(self._connections):
            connection.dialogue.stop()
        await self._growth.stop()
        self._look_for_quiet()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._quiet.wait()
        for connection in list(self._connections):
            connection.dialogue.lose(Cause.DRAINED, f"no answer within {grace:g} s of grace")
        for ticket in self._fencing.abandon():
            self._conclude(ticket, None)
        self._reports.flush()
        self._sweeping.cancel()
        if self._throttled is not None:
            self._throttled.cancel()

    def limit(self, rate: Rate | None) -> None:
        """See the port; what waits for the old rate looks at the new one at once."""
        if rate is None:
            self._throttle = None
        elif self._throttle is None:
            self._throttle = Throttle(rate, self.now())
        else:
            self._throttle.change(rate, self.now())
        if self._throttled is not None:
            self._throttled.cancel()
            self._wake()

    @property
    def trouble(self) -> str:
        """Why the last attempt to reach the relay failed; empty when it did not."""
        return self._trouble

    @property
    def reachable(self) -> bool | None:
        """Whether the last attempt to reach the relay worked; None before the first."""
        return self._reachable

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    @property
    def queued(self) -> int:
        """Parcels that no connection has taken yet."""
        return len(self._queue)

    # --- the desk of the dialogues ---------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds."""
        return monotonic()

    def take(self) -> Ticket | None:
        """The next letter, when there is one and the rate allows it."""
        queue = self._queue
        while queue:
            if queue[0].done:
                queue.popleft()
            elif self._throttle is not None and not self._throttle.pass_one(self.now()):
                self._wake_later(self._throttle.wait())
                return None
            else:
                ticket = queue.popleft()
                ticket.counted = self._throttle is not None
                return ticket
        return None

    def ask(self, ticket: Ticket) -> None:
        """Ask the fence, unless its grant still stands."""
        if not ticket.asked and ticket.until <= self.now():
            self._fencing.ask(ticket)

    def settle(self, ticket: Ticket, result: Result) -> None:
        """Decide a letter; the result is told when no fence call that names it is running."""
        if ticket.done:
            return
        ticket.done = True
        self._uncount(ticket)
        if ticket.fencing:
            ticket.result = result
        else:
            self._reports.tell(ticket, result)

    def give_back(self, ticket: Ticket) -> None:
        """Put a letter at the head of the queue; hand it back when draining."""
        if self._draining:
            self.settle(ticket, Withheld(fenced=False))
        elif not ticket.done:
            self._uncount(ticket)
            self._queue.appendleft(ticket)

    # --- what the connections say ----------------------------------------------------------------

    def rested(self, connection: Connection) -> None:
        """Keep a connection for the letters to come."""
        self._resting.append(connection)

    def ended(self, connection: Connection, cause: Cause, reason: str) -> None:
        """Forget a connection; open another when letters wait."""
        self._connections.discard(connection)
        self.counters.drops[cause] += 1
        if cause not in (Cause.QUIT, Cause.DRAINED):
            log.info(
                "relay connection ended", relay=self.settings.host, cause=cause, reason=mask_addresses(reason)
            )
        if self._draining:
            self._look_for_quiet()
        else:
            self._dispatch()

    # --- within ----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give waiting letters to resting connections; open more when those are not enough."""
        while self._queue and self._resting and self._throttled is None:
            connection = self._resting.pop()
            if connection.dialogue.resting:
                connection.dialogue.begin()
        self._grow()

    def _grow(self) -> None:
        if self._queue and not self._resting and not self._draining:
            wanted = len(self._queue) - self._growth.attempts
            self._growth.grow(min(self._room(), wanted), alone=not self._connections)

    def _room(self) -> int:
        """How many more connections may be opened."""
        return self.settings.connections - len(self._connections) - self._growth.attempts

    def _opened(self, opened: Opened) -> None:
        if self._draining:
            opened.channel.close()
            return
        self.counters.connects += 1
        if self._reachable is not True:
            log.info("relay reached", relay=self.settings.host, port=self.settings.port)
        self._reachable, self._trouble = True, ""
        connection = Connection(opened, self, self.settings)
        self._connections.add(connection)
        connection.start()
        self._grow()

    def _failed(self, failure: Unopened) -> None:
        self.counters.connect_failures += 1
        stage, reason = failure.stage, failure.reason
        log.warning(
            "relay not reached", relay=self.settings.host, stage=stage, reason=reason, waiting=self.queued
        )
        if self._connections or self._growth.attempts:
            return
        self._reachable, self._trouble = False, mask_addresses(f"{stage}: {reason}")
        lost = Lost(stage, False, reason)
        while self._queue:
            self.settle(self._queue.popleft(), lost)

    def _fenced(self, verdicts: list[Verdict]) -> None:
        """The fence has answered: resume who waited for it, let go what it withheld."""
        for ticket, withheld in verdicts:
            if ticket.done:
                self._conclude(ticket, withheld if withheld is not None and withheld.fenced else None)
            elif withheld is not None:
                self.settle(ticket, withheld)
            holder, ticket.holder = ticket.holder, None
            if holder is not None:
                holder.resume()
        if self._draining:
            self._look_for_quiet()

    def _conclude(self, ticket: Ticket, instead: Result | None) -> None:
        """Tell the result that was decided while the fence was at work, or the fence's own."""
        result = instead or ticket.result
        assert result is not None
        self._reports.tell(ticket, result)

    def _wake_later(self, wait: float) -> None:
        if self._throttled is None:
            wait = min(LONGEST_WAIT, max(STEP_SECONDS, wait))
            self._throttled = self._loop.call_later(wait, self._wake)

    def _wake(self) -> None:
        self._throttled = None
        self._dispatch()

    def _uncount(self, ticket: Ticket) -> None:
        """A letter that the rate counts is not under way any more."""
        if ticket.counted:
            ticket.counted = False
            if self._throttle is not None:
                self._throttle.answered(self.now())

    def _look_for_quiet(self) -> None:
        if not self._connections and not self._fencing.running:
            self._quiet.set()

    def _sweep(self) -> None:
        """Once a second: whose patience is at its end, and whether the relay may be tried again."""
        self._sweeping = self._loop.call_later(SWEEP, self._sweep)
        now = self.now()
        for connection in list(self._connections):
            connection.check(now)
        self._resting = [connection for connection in self._resting if connection.dialogue.resting]
        if not self._draining:
            self._let_go(now)
            self._dispatch()

    def _let_go(self, now: float) -> None:
        """Free letters that wait behind a slow answer, as many as there are other ways for."""
        free = self._room() + len(self._resting)
        for connection in self._connections:
            if free > len(self._queue):
                connection.let_go(now)
