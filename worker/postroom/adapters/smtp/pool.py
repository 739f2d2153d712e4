"""Hands results back in groups: one call of each `report` for all that was decided in a turn of the loop.

Failure: a report that raises is a bug of its owner; it goes to the loop's handler and holds up no other.

Opens connections on demand, and knocks softly at a relay that does not answer.

How many are wanted → `opened(Opened)` for each that came up, `failed(Unopened)` for each that did not.
After a failure nothing is tried for a while; then one attempt goes first, and the others follow when it has
worked. While other connections carry letters the wait doubles, from 1 s up to 30 s: a relay that takes no
more of them should not be bothered for it. With none open it stays at 1 s: the circuit counts those failures
and ends the knocking, and letters leave by another way the sooner. A wait is up to a half longer by chance,
so that many workers don't knock at once, and never shorter, so that each failure counts.

One open connection: the wire, the replies it brings, the dialogue, and the patience with the relay.

A pool of SMTP connections to one relay: `ports.relay.Relay` in earnest.

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
import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Protocol

import structlog

from postroom.adapters.smtp.counters import CloseCause, RelayCounters
from postroom.adapters.smtp.dialer import Dialer, DialError, Session
from postroom.adapters.smtp.fence import FenceBatcher, FenceVerdict
from postroom.adapters.smtp.settings import Backoff, RelaySettings
from postroom.adapters.smtp.throttle import STEP_SECONDS, Throttle
from postroom.adapters.smtp.transaction import QueuedMessage, SendQueue, TransactionPipeline
from postroom.adapters.smtp.transport import SocketTransport
from postroom.letter.address import mask_addresses
from postroom.ports.relay import Fence, Lost, NotSent, OutboundMessage, Rate, Reply, Report, Result, Stage


class ResultDispatcher:
    """Results that wait for the end of the turn."""

    def __init__(self, counters: RelayCounters) -> None:
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._pending: dict[Report, list[tuple[OutboundMessage, Result]]] = {}

    def add(self, queued: QueuedMessage, result: Result) -> None:
        """Have a ticket's result reported, and count it."""
        self._count(result)
        told = self._pending
        if not told:
            self._loop.call_soon(self.flush)
        group = told.get(queued.report)
        if group is None:
            told[queued.report] = [(queued.message, result)]
        else:
            group.append((queued.message, result))

    def flush(self) -> None:
        """Report now what is decided."""
        told, self._pending = self._pending, {}
        for report, results in told.items():
            try:
                report(results)
            except Exception as error:  # noqa: BLE001 - one owner's bug must not keep others from their results
                context = {"message": "a report of results raised", "exception": error}
                self._loop.call_exception_handler(context)

    def _count(self, result: Result) -> None:
        counters = self._counters
        if type(result) is Reply:
            if result.code < 400:
                counters.accepted += 1
            elif result.code < 500:
                counters.deferred += 1
            else:
                counters.refused += 1
        elif type(result) is Lost:
            counters.lost += 1
            counters.in_doubt += result.end_of_data_sent
        else:
            counters.not_sent += 1


class ConnectionGrowth:
    """The attempts under way, and when the next one may be made."""

    def __init__(
        self,
        opener: Dialer,
        backoff: Backoff,
        opened: Callable[[Session], None],
        failed: Callable[[DialError], None],
    ) -> None:
        self._dialer = opener
        self._backoff = backoff
        self._on_session = opened
        self._on_dial_error = failed
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        """In a row."""
        self._failed_at = 0.0
        self._jitter = 1.0

    @property
    def attempts(self) -> int:
        """Connections that are being opened."""
        return len(self._tasks)

    def open_more(self, wanted: int, *, alone: bool) -> None:
        """Open `wanted` more connections, or as many as is decent now; `alone`: there is no other yet."""
        if wanted <= 0:
            return
        if self._failures:
            if self._tasks or self._loop.time() < self._failed_at + self.retry_delay(alone=alone):
                return
            wanted = 1
        for _ in range(wanted):
            task = self._loop.create_task(self._open())
            self._tasks.add(task)

    async def stop(self) -> None:
        """Give up what is being opened."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            opened = await self._dialer.open()
        except DialError as failure:
            self._tasks.discard(task)
            self._record_failure()
            self._on_dial_error(failure)
        except Exception as error:  # noqa: BLE001 - a bug here must still tell the letters that wait
            self._tasks.discard(task)
            self._record_failure()
            self._loop.call_exception_handler({"message": "opening a connection raised", "exception": error})
            self._on_dial_error(DialError(Stage.CONNECT, f"{type(error).__name__}: {error}"))
        else:
            self._tasks.discard(task)
            self._failures = 0
            self._on_session(opened)
        finally:
            self._tasks.discard(task)

    def retry_delay(self, *, alone: bool) -> float:
        """Seconds from the last failure to the next attempt."""
        first, ceiling = self._backoff.first, self._backoff.ceiling
        # the exponent is capped so that a long outage cannot overflow a float
        return self._jitter * (first if alone else min(ceiling, first * 2.0 ** min(self._failures - 1, 32)))

    def _record_failure(self) -> None:
        """Take note of a failure; attempts that fail together count as one."""
        now = self._loop.time()
        if not self._failures or now >= self._failed_at + self._backoff.first:
            self._failures += 1
            self._failed_at = now
            self._jitter = random.uniform(1.0, 1.5)  # noqa: S311 - spreads load, guards nothing


class PoolCallbacks(SendQueue, Protocol):
    """The desk, and who keeps the connections."""

    counters: RelayCounters

    def on_connection_idle(self, connection: "RelayConnection") -> None: ...
    def on_connection_closed(self, connection: "RelayConnection", cause: CloseCause, reason: str) -> None: ...


class RelayConnection:
    """The line of a dialogue. Ends by itself and says so to its post, once."""

    def __init__(self, opened: Session, post: PoolCallbacks, settings: RelaySettings) -> None:
        self._session = opened
        self._pool = post
        self._timeouts = settings.patience
        self._last_progress_at = post.now()
        self._socket_transport = SocketTransport(opened.stream, self)
        self.transactions = TransactionPipeline(
            self, post, opened.capabilities, settings.messages_per_connection
        )

    def start(self) -> None:
        """Begin with the first letter, unless the relay has something to say unasked."""
        for code, text in self._session.stream.unsolicited:
            if not self.transactions.over:
                self.transactions.on_reply(code, text)
        if not self.transactions.over:
            self.transactions.start_next()

    # --- the wire's reader -----------------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        """Take bytes of the relay."""
        dialogue, replies = self.transactions, self._session.stream.replies
        self._last_progress_at = self._pool.now()
        for code, text in replies.feed(data):
            dialogue.on_reply(code, text)
            if dialogue.over:
                return
        if replies.error is not None:
            dialogue.abort(CloseCause.PROTOCOL_ERROR, replies.error)

    def on_broken(self, cause: CloseCause, reason: str) -> None:
        """Take note that the wire is gone."""
        if not self.transactions.over:
            self.transactions.abort(cause, reason)

    # --- the dialogue's line ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send commands; the relay's time to answer begins."""
        self._last_progress_at = self._pool.now()
        self._socket_transport.write(data)

    def write_content(self, content: bytes, following: bytes) -> None:
        """Send a letter and the commands after it."""
        counters = self._pool.counters
        counters.letters += 1
        counters.pipelined += following != b""
        self._socket_transport.write_content(content, following)

    @property
    def end_of_data_sent(self) -> bool:
        """Whether the dot was handed to the socket."""
        return self._socket_transport.end_of_data_sent

    def on_idle(self) -> None:
        """Wait for letters."""
        self._pool.on_connection_idle(self)

    def close(self, cause: CloseCause, reason: str) -> None:
        """Close, and tell the post."""
        self._socket_transport.close()
        self._pool.on_connection_closed(self, cause, reason)

    # --- the sweep -------------------------------------------------------------------------------

    def check_deadline(self, now: float) -> None:
        """End the connection when the relay's answer is overdue, or nobody needed it for long."""
        if self._socket_transport.progressed():
            self._last_progress_at = now
        silent = now - self._last_progress_at
        if self.transactions.idle:
            if silent > self._timeouts.idle:
                self.transactions.quit()
        elif self.transactions.awaiting_reply and silent > self._limit():
            self.transactions.abort(
                CloseCause.DEADLINE, f"no answer to {self._awaited_command()} within {self._limit():g} s"
            )

    def release_next(self, now: float) -> None:
        """Give back the letter, if there is one, that has waited long behind the relay's answer."""
        if (
            self.transactions.stage is Stage.END_OF_DATA
            and now - self._last_progress_at > self._timeouts.behind
        ):
            self.transactions.release_next()

    def _limit(self) -> float:
        patience, dialogue = self._timeouts, self.transactions
        if dialogue.current is None:
            return patience.quit
        if dialogue.stage is Stage.END_OF_DATA:
            return patience.dot if self.end_of_data_sent else patience.block
        return patience.data if dialogue.stage is Stage.DATA else patience.command

    def _awaited_command(self) -> str:
        transactions = self.transactions
        return "QUIT" if transactions.current is None else transactions.stage.replace("_", " ").upper()


log = structlog.get_logger(__name__)

SWEEP_SECONDS = 1.0
"""Seconds between two looks at what is overdue."""
LONGEST_WAIT_SECONDS = 60.0
"""The pool looks at its rate again after this long, in seconds, whatever it is."""


class SmtpRelay:
    """Implements `ports.relay.Relay`. All methods belong to the event loop that `open` ran in."""

    def __init__(self, settings: RelaySettings) -> None:
        self.settings = settings
        self.counters = RelayCounters()
        self._dialer = Dialer(settings)
        self._queue: deque[QueuedMessage] = deque()
        self._connections: set[RelayConnection] = set()
        self._idle_connections: list[RelayConnection] = []
        """Connections without a letter, the one that rested last first; some may be gone by now."""
        self._draining = True
        self._reachable: bool | None = None
        self._last_error = ""
        self._throttle: Throttle | None = None
        self._throttled: asyncio.TimerHandle | None = None

    async def open(self, fence: Fence) -> None:
        """Start, or start again after `drain`; connections are opened when there are letters."""
        self._loop = asyncio.get_running_loop()
        self._results = ResultDispatcher(self.counters)
        self._fence = FenceBatcher(fence, self._on_fence_answer, self.counters)
        self._growth = ConnectionGrowth(
            self._dialer, self.settings.backoff, self._on_session, self._on_dial_error
        )
        self._drained = asyncio.Event()
        self._draining = False
        self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def deliver(self, messages: Iterable[OutboundMessage], report: Report) -> None:
        """Queue parcels. After `drain` they are handed back before this returns."""
        if self._draining:
            report([(message, NotSent(fenced=False)) for message in messages])
            return
        self._queue.extend([QueuedMessage(message, report) for message in messages])
        self._dispatch()

    async def drain(self, grace: float) -> None:
        """Hand back what has not reached its content, wait for the rest, close.

        A letter that the fence is at work on is handed back when the fence has answered.
        """
        if self._draining:
            return
        self._draining = True
        while self._queue:
            self.requeue(self._queue.popleft())
        for connection in list(self._connections):
            connection.transactions.stop()
        await self._growth.stop()
        self._check_drained()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._drained.wait()
        for connection in list(self._connections):
            connection.transactions.abort(CloseCause.DRAINED, f"no answer within {grace:g} s of grace")
        for queued in self._fence.abandon():
            self._report(queued, None)
        self._results.flush()
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
            self._on_throttle_timer()

    @property
    def last_error(self) -> str:
        """Why the last attempt to reach the relay failed; empty when it did not."""
        return self._last_error

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

    def take(self) -> QueuedMessage | None:
        """The next letter, when there is one and the rate allows it."""
        queue = self._queue
        while queue:
            if queue[0].settled:
                queue.popleft()
            elif self._throttle is not None and not self._throttle.try_acquire(self.now()):
                self._schedule_dispatch(self._throttle.delay())
                return None
            else:
                queued = queue.popleft()
                queued.rate_counted = self._throttle is not None
                return queued
        return None

    def ask(self, queued: QueuedMessage) -> None:
        """Ask the fence, unless its grant still stands."""
        if not queued.fence_requested and queued.granted_until <= self.now():
            self._fence.ask(queued)

    def settle(self, queued: QueuedMessage, result: Result) -> None:
        """Decide a letter; the result is told when no fence call that names it is running."""
        if queued.settled:
            return
        queued.settled = True
        self._release_rate_slot(queued)
        if queued.in_fence_call:
            queued.result = result
        else:
            self._results.add(queued, result)

    def requeue(self, queued: QueuedMessage) -> None:
        """Put a letter at the head of the queue; hand it back when draining."""
        if self._draining:
            self.settle(queued, NotSent(fenced=False))
        elif not queued.settled:
            self._release_rate_slot(queued)
            self._queue.appendleft(queued)

    # --- what the connections say ----------------------------------------------------------------

    def on_connection_idle(self, connection: RelayConnection) -> None:
        """Keep a connection for the letters to come."""
        self._idle_connections.append(connection)

    def on_connection_closed(self, connection: RelayConnection, cause: CloseCause, reason: str) -> None:
        """Forget a connection; open another when letters wait."""
        self._connections.discard(connection)
        self.counters.drops[cause] += 1
        if cause not in (CloseCause.QUIT, CloseCause.DRAINED):
            log.info(
                "relay connection ended", relay=self.settings.host, cause=cause, reason=mask_addresses(reason)
            )
        if self._draining:
            self._check_drained()
        else:
            self._dispatch()

    # --- within ----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give waiting letters to resting connections; open more when those are not enough."""
        while self._queue and self._idle_connections and self._throttled is None:
            connection = self._idle_connections.pop()
            if connection.transactions.idle:
                connection.transactions.start_next()
        self._grow()

    def _grow(self) -> None:
        if self._queue and not self._idle_connections and not self._draining:
            wanted = len(self._queue) - self._growth.attempts
            self._growth.open_more(min(self._free_slots(), wanted), alone=not self._connections)

    def _free_slots(self) -> int:
        """How many more connections may be opened."""
        return self.settings.connections - len(self._connections) - self._growth.attempts

    def _on_session(self, opened: Session) -> None:
        if self._draining:
            opened.stream.close()
            return
        self.counters.connects += 1
        if self._reachable is not True:
            log.info("relay reached", relay=self.settings.host, port=self.settings.port)
        self._reachable, self._last_error = True, ""
        connection = RelayConnection(opened, self, self.settings)
        self._connections.add(connection)
        connection.start()
        self._grow()

    def _on_dial_error(self, failure: DialError) -> None:
        self.counters.connect_failures += 1
        stage, reason = failure.stage, failure.reason
        log.warning(
            "relay not reached", relay=self.settings.host, stage=stage, reason=reason, waiting=self.queued
        )
        if self._connections or self._growth.attempts:
            return
        self._reachable, self._last_error = False, mask_addresses(f"{stage}: {reason}")
        lost = Lost(stage, False, reason)
        while self._queue:
            self.settle(self._queue.popleft(), lost)

    def _on_fence_answer(self, verdicts: list[FenceVerdict]) -> None:
        """The fence has answered: resume who waited for it, let go what it withheld."""
        for queued, withheld in verdicts:
            if queued.settled:
                self._report(queued, withheld if withheld is not None and withheld.fenced else None)
            elif withheld is not None:
                self.settle(queued, withheld)
            holder, queued.waiter = queued.waiter, None
            if holder is not None:
                holder.resume()
        if self._draining:
            self._check_drained()

    def _report(self, queued: QueuedMessage, instead: Result | None) -> None:
        """Tell the result that was decided while the fence was at work, or the fence's own."""
        result = instead or queued.result
        assert result is not None
        self._results.add(queued, result)

    def _schedule_dispatch(self, wait: float) -> None:
        if self._throttled is None:
            wait = min(LONGEST_WAIT_SECONDS, max(STEP_SECONDS, wait))
            self._throttled = self._loop.call_later(wait, self._on_throttle_timer)

    def _on_throttle_timer(self) -> None:
        self._throttled = None
        self._dispatch()

    def _release_rate_slot(self, queued: QueuedMessage) -> None:
        """A letter that the rate counts is not under way any more."""
        if queued.rate_counted:
            queued.rate_counted = False
            if self._throttle is not None:
                self._throttle.release(self.now())

    def _check_drained(self) -> None:
        if not self._connections and not self._fence.running:
            self._drained.set()

    def _sweep(self) -> None:
        """Once a second: whose patience is at its end, and whether the relay may be tried again."""
        self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        now = self.now()
        for connection in list(self._connections):
            connection.check_deadline(now)
        self._idle_connections = [
            connection for connection in self._idle_connections if connection.transactions.idle
        ]
        if not self._draining:
            self._release_waiting(now)
            self._dispatch()

    def _release_waiting(self, now: float) -> None:
        """Free letters that wait behind a slow answer, as many as there are other ways for."""
        free = self._free_slots() + len(self._idle_connections)
        for connection in self._connections:
            if free > len(self._queue):
                connection.release_next(now)
