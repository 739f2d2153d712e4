"""The heartbeat: a thread that keeps a worker's lease running, lets go of what those hold who stand still,
and turns the ledger's calendar, and tells the time.

In: a generation and its lease. Out: `until`, the moment up to which the lease is sure by this machine's
monotonic clock. It is reckoned from before each renewal was asked for, less a margin, so that it always ends
before the database's own. `now`: the database's time, carried on by the monotonic clock from the last beat,
so that this machine's own time matters to nobody. A worker that was declared dead meanwhile goes on as a new
generation: nothing is sent any more under the old one.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

import structlog
from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger import days, leases, standstill
from postroom.adapters.ledger.leases import LEASE_SECONDS, Member
from postroom.adapters.ledger.server import lock_key, reason

BEAT_SECONDS = 5.0
MARGIN_SECONDS = 2.0
"""How much sooner than the database a worker holds its lease to be over: clocks do not run alike."""

CLEAR_SECONDS = 1.0
"""An answer that took longer says too little of the time."""
FAR_SECONDS = 5.0
"""A clock of this machine that is further from the database's is worth a line in the log."""

log = structlog.get_logger("postroom.ledger")


class Heartbeat:
    """Keeps one worker's lease; `reborn` is told the new generation when the old one was lost."""

    def __init__(self, engine: Engine, member: Member, schema: str) -> None:
        self._engine = engine
        self.member = member
        self._schema = schema
        self.calendar_key = lock_key(schema, "calendar")
        self._asked = monotonic()
        self._reborn: Callable[[int], None] = lambda _: None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ledger lease", daemon=True)
        self.until = -float("inf")
        self.quiet_until = -float("inf")
        """After an outage others get as long to come back as a lease: until then nobody is taken for dead."""
        self.generation = 0
        self._told = 0.0
        """What has to be added to the monotonic clock for the database's time; 0 before it was ever asked."""
        self._far = False

    def enlist(self, connection: Connection, started_at: float) -> bool:
        """Take a generation; returns whether the worker that ended last did so in order."""
        self._tell_time(connection)
        asked = monotonic()
        clean, self.generation = leases.enlist(connection, self.member.process, started_at, self.member.kin)
        self._renewed(asked)
        return clean

    def start(self, reborn: Callable[[int], None]) -> None:
        """Beat from now on."""
        self._reborn = reborn
        self._thread.start()

    def now(self, wall: datetime) -> datetime:
        """The database's time; `wall` is this machine's, for a warning where they are far apart."""
        now = datetime.fromtimestamp(self._told + monotonic(), UTC)
        ahead = (now - wall).total_seconds()
        if self._far != (abs(ahead) > FAR_SECONDS):
            self._far = not self._far
            log.warning(
                "this machine's clock is wrong; the database's is used"
                if self._far
                else "clocks agree again",
                seconds=round(-ahead, 1),
            )
        return now

    def stop(self) -> None:
        """Beat no more; what is left of the lease runs out."""
        self._stopping.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            try:
                self.beat()
            except DBAPIError as error:
                log.warning(
                    "lease not renewed", reason=reason(error), left=round(self.until - monotonic(), 1)
                )

    def beat(self) -> None:
        """Renew the lease, or take a new generation; then see who stands still, and what day it is."""
        asked = monotonic()
        with self._engine.begin() as connection:
            alive = leases.renew(connection, self.generation)
            self._tell_time(connection)
        if alive:
            self._renewed(asked)
        else:
            self._begin_anew()
        self.see_who_stands_still()
        self.see_the_day()

    def see_who_stands_still(self) -> None:
        """End the sessions of workers that stopped in the middle of a transaction."""
        with self._engine.begin() as connection:
            ended = standstill.end_sessions(connection, self._schema)
        if ended:
            log.warning("ended sessions of a worker that stands still and held locks", sessions=ended)

    def see_the_day(self) -> None:
        """Turn the calendar where a new day has begun."""
        with self._engine.begin() as connection:
            if days.is_behind(connection):
                days.turn(connection, self.calendar_key)

    def _tell_time(self, connection: Connection) -> None:
        asked = monotonic()
        there = leases.now(connection)
        answered = monotonic()
        if answered - asked < CLEAR_SECONDS or not self._told:
            self._told = there - (asked + answered) / 2

    def _renewed(self, asked: float) -> None:
        if asked - self._asked > LEASE_SECONDS:
            self.quiet_until = asked + LEASE_SECONDS
        self._asked = asked
        self.until = asked + LEASE_SECONDS - MARGIN_SECONDS

    def _begin_anew(self) -> None:
        self.until, lost, asked = -float("inf"), self.generation, monotonic()
        with self._engine.begin() as connection:
            _, self.generation = leases.enlist(connection, self.member.process, kin=self.member.kin)
        log.error("lease lost: going on as a new worker", lost=lost, generation=self.generation)
        self._reborn(self.generation)  # first: the new lease is for letters of the new generation only
        self._renewed(asked)
