"""A pool of SMTP connections to one relay: the implementation of `ports.relay.Relay`.

In: outbound messages, in order. Out: one `Result` for each message, in groups. The fence is called for a
message as soon as a connection takes it, as its current letter or as the one whose envelope is sent with the
content before it. The commit of the ledger therefore overlaps the reply of the relay.

`SmtpRelay` has the queue and the connections. `RelayConnection` joins the transactions of one connection to
its socket and checks its timeouts. `ConnectionGrowth` opens connections when they are needed.
`ResultDispatcher` groups the results.

No letter has a task, future, timer or log line of its own: connections are callbacks on sockets, one sweep
per second checks all timeouts, and results and fence calls are grouped per iteration of the event loop.

Failure: when no connection is open and none can be opened, every queued message is reported as `Lost` with
the reason; later messages wait for the next attempt. While at least one connection is open, failed attempts
only limit the size of the pool.
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
    """Collects results and reports them once per iteration of the event loop, one call for each `report`.

    A report that raises does not affect the others; its exception goes to the loop's exception handler.
    """

    def __init__(self, counters: RelayCounters) -> None:
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._pending: dict[Report, list[tuple[OutboundMessage, Result]]] = {}

    def add(self, queued: QueuedMessage, result: Result) -> None:
        """Count the result of a message and report it in the next group."""
        self._count(result)
        groups = self._pending
        if not groups:
            self._loop.call_soon(self.flush)
        group = groups.get(queued.report)
        if group is None:
            groups[queued.report] = [(queued.message, result)]
        else:
            group.append((queued.message, result))

    def flush(self) -> None:
        """Report the collected results now."""
        groups, self._pending = self._pending, {}
        for report, results in groups.items():
            try:
                report(results)
            except Exception as error:  # noqa: BLE001 - a bug in one report must not block the others
                context = {"message": "a report callback raised; its results are lost", "exception": error}
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
    """Opens connections on demand and delays the attempts after a failure.

    After a failure there is no attempt during `retry_delay`. Then there is a single attempt, and more follow
    when it succeeds. While other connections are open the delay doubles from `Backoff.first` to
    `Backoff.ceiling`, because the relay may limit their number. With none open the delay stays at
    `Backoff.first`: the circuit breaker counts those failures, and letters go to a fallback relay sooner. A
    random factor between 1 and 1.5 spreads the attempts of many workers; it never shortens a delay, so that
    each failure counts.
    """

    def __init__(
        self,
        dialer: Dialer,
        backoff: Backoff,
        on_session: Callable[[Session], None],
        on_dial_error: Callable[[DialError], None],
    ) -> None:
        self._dialer = dialer
        self._backoff = backoff
        self._on_session = on_session
        self._on_dial_error = on_dial_error
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        """Consecutive failures."""
        self._failed_at = 0.0
        self._jitter = 1.0

    @property
    def attempts(self) -> int:
        """The number of attempts in progress."""
        return len(self._tasks)

    def open_more(self, wanted: int, *, alone: bool) -> None:
        """Open up to `wanted` connections, as the delay allows; `alone`: no connection is open."""
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
        """Cancel the attempts in progress."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            session = await self._dialer.open()
        except DialError as failure:
            self._tasks.discard(task)
            self._record_failure()
            self._on_dial_error(failure)
        except Exception as error:  # noqa: BLE001 - after a bug too, queued letters need a result
            self._tasks.discard(task)
            self._record_failure()
            self._loop.call_exception_handler(
                {"message": "opening a connection raised; counted as a failed attempt", "exception": error}
            )
            self._on_dial_error(DialError(Stage.CONNECT, f"{type(error).__name__}: {error}"))
        else:
            self._tasks.discard(task)
            self._failures = 0
            self._on_session(session)
        finally:
            self._tasks.discard(task)

    def retry_delay(self, *, alone: bool) -> float:
        """Seconds from the last failure to the next attempt."""
        first, ceiling = self._backoff.first, self._backoff.ceiling
        # the exponent is capped so that a long outage cannot overflow a float
        return self._jitter * (first if alone else min(ceiling, first * 2.0 ** min(self._failures - 1, 32)))

    def _record_failure(self) -> None:
        """Count a failure; attempts that fail at the same time count as a single failure."""
        now = self._loop.time()
        if not self._failures or now >= self._failed_at + self._backoff.first:
            self._failures += 1
            self._failed_at = now
            self._jitter = random.uniform(1.0, 1.5)  # noqa: S311 - spreads load, not for security


class PoolCallbacks(SendQueue, Protocol):
    """The pool, as a connection uses it."""

    counters: RelayCounters

    def on_connection_idle(self, connection: "RelayConnection") -> None: ...
    def on_connection_closed(self, connection: "RelayConnection", cause: CloseCause, reason: str) -> None: ...


class RelayConnection:
    """One open connection: its socket, reply parser, transactions and timeouts.

    It closes itself and calls `on_connection_closed` of the pool once.
    """

    def __init__(self, session: Session, pool: PoolCallbacks, settings: RelaySettings) -> None:
        self._session = session
        self._pool = pool
        self._timeouts = settings.timeouts
        self._last_progress_at = pool.now()
        self._socket_transport = SocketTransport(session.stream, self)
        self.transactions = TransactionPipeline(
            self, pool, session.capabilities, settings.messages_per_connection
        )

    def start(self) -> None:
        """Start the first letter, unless the relay has sent a reply without a command."""
        for code, text in self._session.stream.unsolicited:
            if not self.transactions.over:
                self.transactions.on_reply(code, text)
        if not self.transactions.over:
            self.transactions.start_next()

    # --- called by the socket transport ----------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        """Process bytes from the relay."""
        transactions, replies = self.transactions, self._session.stream.replies
        self._last_progress_at = self._pool.now()
        for code, text in replies.feed(data):
            transactions.on_reply(code, text)
            if transactions.over:
                return
        if replies.error is not None:
            transactions.abort(CloseCause.PROTOCOL_ERROR, replies.error)

    def on_broken(self, cause: CloseCause, reason: str) -> None:
        """Abort the transactions: the socket failed."""
        if not self.transactions.over:
            self.transactions.abort(cause, reason)

    # --- called by the transactions --------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send commands and restart the timeout of the reply."""
        self._last_progress_at = self._pool.now()
        self._socket_transport.write(data)

    def write_content(self, content: bytes, following: bytes) -> None:
        """Send a letter including its end of data, and the commands after it."""
        counters = self._pool.counters
        counters.letters += 1
        counters.pipelined += following != b""
        self._socket_transport.write_content(content, following)

    @property
    def end_of_data_sent(self) -> bool:
        """Whether the kernel has accepted the last byte of the last content."""
        return self._socket_transport.end_of_data_sent

    def on_idle(self) -> None:
        """Offer the connection to the pool for later letters."""
        self._pool.on_connection_idle(self)

    def close(self, cause: CloseCause, reason: str) -> None:
        """Close the socket and notify the pool."""
        self._socket_transport.close()
        self._pool.on_connection_closed(self, cause, reason)

    # --- the sweep -------------------------------------------------------------------------------

    def check_deadline(self, now: float) -> None:
        """Close the connection when a reply is overdue; send QUIT when it was idle for too long."""
        if self._socket_transport.progressed():
            self._last_progress_at = now
        silent = now - self._last_progress_at
        if self.transactions.idle:
            if silent > self._timeouts.idle:
                self.transactions.quit()
        elif self.transactions.awaiting_reply and silent > self._limit():
            self.transactions.abort(
                CloseCause.DEADLINE, f"no reply to {self._awaited_command()} within {self._limit():g} s"
            )

    def release_next(self, now: float) -> None:
        """Requeue the next letter when it has waited too long for the reply to the end of data."""
        if (
            self.transactions.stage is Stage.END_OF_DATA
            and now - self._last_progress_at > self._timeouts.next_letter
        ):
            self.transactions.release_next()

    def _limit(self) -> float:
        timeouts, transactions = self._timeouts, self.transactions
        if transactions.current is None:
            return timeouts.quit
        if transactions.stage is Stage.END_OF_DATA:
            return timeouts.end_of_data if self.end_of_data_sent else timeouts.block
        return timeouts.data if transactions.stage is Stage.DATA else timeouts.command

    def _awaited_command(self) -> str:
        transactions = self.transactions
        return "QUIT" if transactions.current is None else transactions.stage.replace("_", " ").upper()


log = structlog.get_logger(__name__)

SWEEP_SECONDS = 1.0
"""Seconds between two checks of the timeouts."""
LONGEST_WAIT_SECONDS = 60.0
"""The longest delay of the rate timer, in seconds."""


class SmtpRelay:
    """Implements `ports.relay.Relay`. Call all methods on the event loop that ran `open`."""

    def __init__(self, settings: RelaySettings) -> None:
        self.settings = settings
        self.counters = RelayCounters()
        self._dialer = Dialer(settings)
        self._queue: deque[QueuedMessage] = deque()
        self._connections: set[RelayConnection] = set()
        self._idle_connections: list[RelayConnection] = []
        """Connections without a letter, the most recently used last; some may be closed."""
        self._draining = True
        self._reachable: bool | None = None
        self._last_error = ""
        self._throttle: Throttle | None = None
        self._throttled: asyncio.TimerHandle | None = None

    async def open(self, fence: Fence) -> None:
        """Start, or restart after `drain`; connections are opened when letters are queued."""
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
        """Queue messages. After `drain` they are reported as not sent before this returns."""
        if self._draining:
            report([(message, NotSent(fenced=False)) for message in messages])
            return
        self._queue.extend([QueuedMessage(message, report) for message in messages])
        self._dispatch()

    async def drain(self, grace: float) -> None:
        """Report messages whose content was not begun as not sent, wait for the others, close.

        A message in a running fence call is reported after that call has returned.
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
            connection.transactions.abort(CloseCause.DRAINED, f"no reply within {grace:g} s of grace")
        for queued in self._fence.abandon():
            self._report(queued, None)
        self._results.flush()
        self._sweeping.cancel()
        if self._throttled is not None:
            self._throttled.cancel()

    def limit(self, rate: Rate | None) -> None:
        """Apply another rate; messages that wait for the old rate are checked at once."""
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
        """The reason of the last failed connection attempt; empty after a successful one."""
        return self._last_error

    @property
    def reachable(self) -> bool | None:
        """Whether the last connection attempt succeeded; None before the first attempt."""
        return self._reachable

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    @property
    def queued(self) -> int:
        """The number of messages that no connection has taken yet."""
        return len(self._queue)

    # --- the send queue of the transactions ------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds."""
        return monotonic()

    def take(self) -> QueuedMessage | None:
        """Take the next message, if there is one and the rate allows it."""
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
        """Request a fence verdict, unless the message has a valid grant."""
        if not queued.fence_requested and queued.granted_until <= self.now():
            self._fence.ask(queued)

    def settle(self, queued: QueuedMessage, result: Result) -> None:
        """Set the result of a message; report it when no running fence call contains the message."""
        if queued.settled:
            return
        queued.settled = True
        self._release_rate_slot(queued)
        if queued.in_fence_call:
            queued.result = result
        else:
            self._results.add(queued, result)

    def requeue(self, queued: QueuedMessage) -> None:
        """Put a message at the head of the queue; when draining, report it as not sent."""
        if self._draining:
            self.settle(queued, NotSent(fenced=False))
        elif not queued.settled:
            self._release_rate_slot(queued)
            self._queue.appendleft(queued)

    # --- called by the connections ---------------------------------------------------------------

    def on_connection_idle(self, connection: RelayConnection) -> None:
        """Keep an idle connection for later messages."""
        self._idle_connections.append(connection)

    def on_connection_closed(self, connection: RelayConnection, cause: CloseCause, reason: str) -> None:
        """Remove a connection; open another one when messages are queued."""
        self._connections.discard(connection)
        self.counters.drops[cause] += 1
        if cause not in (CloseCause.QUIT, CloseCause.DRAINED):
            log.info(
                "relay connection closed",
                relay=self.settings.host,
                cause=cause,
                reason=mask_addresses(reason),
            )
        if self._draining:
            self._check_drained()
        else:
            self._dispatch()

    # --- internal --------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Start queued messages on idle connections; open more connections when those are too few."""
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

    def _on_session(self, session: Session) -> None:
        if self._draining:
            session.stream.close()
            return
        self.counters.connects += 1
        if self._reachable is not True:
            log.info("relay connected", relay=self.settings.host, port=self.settings.port)
        self._reachable, self._last_error = True, ""
        connection = RelayConnection(session, self, self.settings)
        self._connections.add(connection)
        connection.start()
        self._grow()

    def _on_dial_error(self, failure: DialError) -> None:
        self.counters.connect_failures += 1
        stage, reason = failure.stage, failure.reason
        log.warning(
            "relay connection failed",
            relay=self.settings.host,
            stage=stage,
            reason=reason,
            queued=self.queued,
        )
        if self._connections or self._growth.attempts:
            return
        self._reachable, self._last_error = False, mask_addresses(f"{stage}: {reason}")
        lost = Lost(stage, False, reason)
        while self._queue:
            self.settle(self._queue.popleft(), lost)

    def _on_fence_answer(self, verdicts: list[FenceVerdict]) -> None:
        """Apply the verdicts of a fence call: report refused messages and resume waiting connections."""
        for queued, not_sent in verdicts:
            if queued.settled:
                self._report(queued, not_sent if not_sent is not None and not_sent.fenced else None)
            elif not_sent is not None:
                self.settle(queued, not_sent)
            waiter, queued.waiter = queued.waiter, None
            if waiter is not None:
                waiter.resume()
        if self._draining:
            self._check_drained()

    def _report(self, queued: QueuedMessage, instead: Result | None) -> None:
        """Report the result that was decided during a fence call, or `instead` of it."""
        result = instead or queued.result
        assert result is not None
        self._results.add(queued, result)

    def _schedule_dispatch(self, delay: float) -> None:
        if self._throttled is None:
            delay = min(LONGEST_WAIT_SECONDS, max(STEP_SECONDS, delay))
            self._throttled = self._loop.call_later(delay, self._on_throttle_timer)

    def _on_throttle_timer(self) -> None:
        self._throttled = None
        self._dispatch()

    def _release_rate_slot(self, queued: QueuedMessage) -> None:
        """Release the rate slot of a message, if it has one."""
        if queued.rate_counted:
            queued.rate_counted = False
            if self._throttle is not None:
                self._throttle.release(self.now())

    def _check_drained(self) -> None:
        if not self._connections and not self._fence.running:
            self._drained.set()

    def _sweep(self) -> None:
        """Once per second: check the timeouts, and open connections when the retry delay has passed."""
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
        """Requeue letters behind a slow reply, as many as other connections can take."""
        free = self._free_slots() + len(self._idle_connections)
        for connection in self._connections:
            if free > len(self._queue):
                connection.release_next(now)
