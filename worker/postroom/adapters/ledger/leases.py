"""Workers that stand still: what they hold in the database is let go of when their lease is over.

A worker that is stopped (not dead) in the middle of a transaction holds its rows' locks for as long as it
stands, and everybody else waits for them. No timeout of the server ends that: between two statements of a
pipeline a session is not idle, and `transaction_timeout` is of PostgreSQL 17. So each living worker looks for
sessions whose transaction is older than a lease and whose worker's lease does not run, and ends them. All
of a worker's sessions bear its name, which says whose they are; those of other schemas and roles are left
alone.

Leases: which workers live, in the database's own time, and how a dead one is declared dead.

A worker is a worker_epoch. Its lease runs until a moment of the database's clock, so that no worker's clock
matters. A lease that ran out ends only when somebody declares it ended, in the very transaction that takes
something from its holder: until then the holder may renew it, as all do after an outage of the database.
A declared end is for good. On SQLite the file lock is the lease, and it never runs out.

The heartbeat: a thread that keeps a worker's lease running, lets go of what those hold who stand still,
and turns the ledger's calendar, and tells the time.

In: a worker_epoch and its lease. Out: `until`, the moment up to which the lease is sure by this machine's
monotonic clock. It is reckoned from before each renewal was asked for, less a margin, so that it always ends
before the database's own. `now`: the database's time, carried on by the monotonic clock from the last beat,
so that this machine's own time matters to nobody. A worker that was declared dead meanwhile goes on as a new
worker_epoch: nothing is sent any more under the old one.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from time import monotonic

import structlog
from sqlalchemy import ColumnElement, Engine, bindparam, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from postroom.adapters.ledger import dedupe
from postroom.adapters.ledger.postgres_server import error_text, lock_key
from postroom.adapters.ledger.schema import database_time, worker

MAX_SESSION_NAME = 63
"""PostgreSQL cuts application_name off there."""

_END_STUCK = text(
    """
    WITH stuck AS MATERIALIZED (
        SELECT pid, application_name AS name FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user
          AND starts_with(application_name, CAST(:house AS text))
          AND application_name <> ALL (CAST(:living AS text[]))
          AND xact_start < clock_timestamp() - make_interval(secs => :lease)
    )
    SELECT name FROM stuck WHERE pg_terminate_backend(pid)
    """
)


def session_name(schema: str, process: str) -> str:
    """What the sessions of a worker are called; its last word is the worker's own name, for people."""
    name = process.rpartition(" ")[2].encode("ascii", "replace").decode()
    return f"{_session_prefix(schema)}{_short_hash(process)} {name}"[:MAX_SESSION_NAME]


def end_stuck_sessions(connection: Connection, schema: str) -> list[str]:
    """End what workers left open that stand still; returns the names of the sessions that were ended."""
    living = [session_name(schema, process) for process in live_processes(connection)]
    told = {"house": _session_prefix(schema), "living": living, "lease": LEASE_SECONDS}
    return list(connection.execute(_END_STUCK, told).scalars())


def _session_prefix(schema: str) -> str:
    return f"postroom {_short_hash(schema)} "


def _short_hash(text_: str) -> str:
    """Short, so that a name has room for it; two of one database have the same once in 2³² cases."""
    return blake2b(text_.encode(), digest_size=4).hexdigest()


LEASE_SECONDS = 20.0
ALL_WORKERS = "%"
"""The processes of a ledger that serves one profile."""
LEASE_WITHOUT_END = 1e12
"""The lease of a worker that holds the file lock."""


@dataclass(frozen=True, slots=True)
class LedgerMember:
    """A worker among those that share a database: whose letters it sends, and its own name.

    The workers of several profiles may share one. Each profile's letters wait for its own workers and are
    taken up by them alone: another has another relay, and other rules.
    """

    profile: str
    """`namespace/name`; neither holds a space or a sign that LIKE would read."""
    name: str

    @property
    def process(self) -> str:
        """As it stands in the table of workers."""
        return f"{self.profile} {self.name}"

    @property
    def profile_workers(self) -> str:
        """The processes of its profile, as a pattern."""
        return f"{self.profile} %"


_IS_LIVE = worker.c.lease_until > database_time()
_HAS_EXPIRED = worker.c.lease_until <= database_time()

_SELECT_LIVE = select(worker.c.worker_epoch).where(_IS_LIVE)
_SELECT_LIVE_PROCESSES = select(worker.c.process).where(_IS_LIVE)
_SELECT_EXISTING = select(worker.c.worker_epoch).where(
    worker.c.worker_epoch.in_(bindparam("some", expanding=True))
)
_OTHER = worker.alias("other")


def _expired(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those of these whose lease ran out: locked against `hold` from now on, though not against `renew`."""
    ran_out = _OTHER.c.lease_until <= database_time()
    return worker.c.worker_epoch.in_(select(_OTHER.c.worker_epoch).where(ran_out, *which).with_for_update())


_DECLARE_DEAD = (
    update(worker)
    .where(_expired(_OTHER.c.worker_epoch.in_(bindparam("some", expanding=True))))
    .values(lease_until=0.0)
    .returning(worker.c.worker_epoch)
)
_CLAIM_RECOVERY = (
    update(worker)
    .where(
        _expired(
            _OTHER.c.worker_epoch != bindparam("mine"),
            _OTHER.c.process.like(bindparam("profile_workers")),
            _OTHER.c.recovered.is_(False),
        )
    )
    .values(lease_until=0.0, recovered=True)
    .returning(worker.c.worker_epoch)
)
_RENEW = (
    update(worker)
    .where(worker.c.worker_epoch == bindparam("g"), worker.c.lease_until > 0)
    .values(lease_until=database_time() + LEASE_SECONDS)
)
_LOCK = (
    select(worker.c.worker_epoch)
    .where(worker.c.worker_epoch == bindparam("g"), worker.c.lease_until > 0)
    .with_for_update(read=True, key_share=True)
)
# FOR KEY SHARE keeps FOR UPDATE away, by which an end is declared, and not a renewal: a worker whose writer
# waits for somebody's lock lives on
_DEREGISTER = (
    update(worker)
    .where(worker.c.worker_epoch == bindparam("g"))
    .values(ended_in_order=bindparam("in_order"), lease_until=0.0)
)


def register(
    connection: Connection, process: str, started_at: float | None = None, profile_workers: str = ALL_WORKERS
) -> tuple[bool, int]:
    """Take the next worker_epoch; says also whether the worker that ended last did so in order.

    `started_at` is for people; without it the database's time is noted. `profile_workers`: those who
    send the same letters. EVERYBODY: a lock says that no other worker lives; else only a former life of this
    very process is known to be over.
    """
    alone = profile_workers == ALL_WORKERS
    former = update(worker).values(lease_until=0.0)
    connection.execute(former if alone else former.where(worker.c.process == process))
    last = connection.execute(
        select(worker.c.ended_in_order)
        .where(_HAS_EXPIRED, worker.c.process.like(profile_workers))
        .order_by(worker.c.worker_epoch.desc())
        .limit(1)
    ).scalar()
    made = connection.execute(
        insert(worker)
        .values(
            process=process,
            started_at=database_time() if started_at is None else started_at,
            lease_until=LEASE_WITHOUT_END if alone else database_time() + LEASE_SECONDS,
        )
        .returning(worker.c.worker_epoch)
    )
    return last is None or bool(last), made.scalar_one()


def renew_lease(connection: Connection, worker_epoch: int) -> bool:
    """Let the lease run anew; False when it was declared ended."""
    return connection.execute(_RENEW, {"g": worker_epoch}).rowcount == 1


def database_now(connection: Connection) -> float:
    """The database's time, in seconds since 1970."""
    told: float = connection.execute(select(database_time())).scalar_one()
    return told


def lock_lease(connection: Connection, worker_epoch: int) -> bool:
    """Keep others from declaring this lease ended until the transaction is over; False when one has."""
    return connection.execute(_LOCK, {"g": worker_epoch}).first() is not None


def live_epochs(connection: Connection) -> set[int]:
    """The generations whose leases run."""
    return set(connection.execute(_SELECT_LIVE).scalars())


def live_processes(connection: Connection) -> set[str]:
    """The processes whose leases run."""
    return set(connection.execute(_SELECT_LIVE_PROCESSES).scalars())


def declare_dead(connection: Connection, some: Collection[int]) -> set[int]:
    """Those of these generations that are nobody's any more, from now on and for good."""
    wanted = {"some": sorted(some)}
    dead = set(connection.execute(_DECLARE_DEAD, wanted).scalars())
    return dead | (set(some) - set(connection.execute(_SELECT_EXISTING, wanted).scalars()))


def claim_recovery(connection: Connection, mine: int, profile_workers: str) -> list[int]:
    """The dead generations of these processes whose letters nobody has taken up yet; the caller does now."""
    return sorted(
        connection.execute(_CLAIM_RECOVERY, {"mine": mine, "profile_workers": profile_workers}).scalars()
    )


def deregister(connection: Connection, worker_epoch: int, in_order: bool = True) -> None:
    """End the lease, and say whether that was in order."""
    connection.execute(_DEREGISTER, {"g": worker_epoch, "in_order": in_order})


BEAT_SECONDS = 5.0
MARGIN_SECONDS = 2.0
"""How much sooner than the database a worker holds its lease to be over: clocks do not run alike."""

MAX_CLOCK_ROUND_TRIP = 1.0
"""An answer that took longer says too little of the time."""
CLOCK_WARNING_SECONDS = 5.0
"""A clock of this machine that is further from the database's is worth a line in the log."""

log = structlog.get_logger("postroom.ledger")


class Heartbeat:
    """Keeps one worker's lease; `on_lease_lost` is told the new worker_epoch when the old one was lost."""

    def __init__(self, engine: Engine, member: LedgerMember, schema: str) -> None:
        self._engine = engine
        self.member = member
        self._schema = schema
        self.calendar_key = lock_key(schema, "calendar")
        self._renewed_at = monotonic()
        self._on_lease_lost: Callable[[int], None] = lambda _: None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ledger lease", daemon=True)
        self.lease_until = -float("inf")
        self.grace_until = -float("inf")
        """After an outage others get as long to come back as a lease: until then nobody is taken for dead."""
        self.worker_epoch = 0
        self._clock_offset = 0.0
        """What has to be added to the monotonic clock for the database's time; 0 before it was ever asked."""
        self._clock_warned = False

    def register(self, connection: Connection, started_at: float) -> bool:
        """Take a worker_epoch; returns whether the worker that ended last did so in order."""
        self._read_clock(connection)
        asked = monotonic()
        clean, self.worker_epoch = register(
            connection, self.member.process, started_at, self.member.profile_workers
        )
        self._renewed(asked)
        return clean

    def start(self, on_lease_lost: Callable[[int], None]) -> None:
        """Beat from now on."""
        self._on_lease_lost = on_lease_lost
        self._thread.start()

    def now(self, wall: datetime) -> datetime:
        """The database's time; `wall` is this machine's, for a warning where they are far apart."""
        now = datetime.fromtimestamp(self._clock_offset + monotonic(), UTC)
        ahead = (now - wall).total_seconds()
        if self._clock_warned != (abs(ahead) > CLOCK_WARNING_SECONDS):
            self._clock_warned = not self._clock_warned
            log.warning(
                "this machine's clock is wrong; the database's is used"
                if self._clock_warned
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
                    "lease not renewed",
                    reason=error_text(error),
                    left=round(self.lease_until - monotonic(), 1),
                )

    def beat(self) -> None:
        """Renew the lease, or take a new worker_epoch; then see who stands still, and what day it is."""
        asked = monotonic()
        with self._engine.begin() as connection:
            alive = renew_lease(connection, self.worker_epoch)
            self._read_clock(connection)
        if alive:
            self._renewed(asked)
        else:
            self._register_again()
        self.end_stuck_sessions()
        self.advance_calendar()

    def end_stuck_sessions(self) -> None:
        """End the sessions of workers that stopped in the middle of a transaction."""
        with self._engine.begin() as connection:
            ended = end_stuck_sessions(connection, self._schema)
        if ended:
            log.warning("ended sessions of a worker that stands still and held locks", sessions=ended)

    def advance_calendar(self) -> None:
        """Turn the calendar where a new day has transaction_id."""
        with self._engine.begin() as connection:
            if dedupe.is_day_over(connection):
                dedupe.advance_day(connection, self.calendar_key)

    def _read_clock(self, connection: Connection) -> None:
        asked = monotonic()
        there = database_now(connection)
        answered = monotonic()
        if answered - asked < MAX_CLOCK_ROUND_TRIP or not self._clock_offset:
            self._clock_offset = there - (asked + answered) / 2

    def _renewed(self, asked: float) -> None:
        if asked - self._renewed_at > LEASE_SECONDS:
            self.grace_until = asked + LEASE_SECONDS
        self._renewed_at = asked
        self.lease_until = asked + LEASE_SECONDS - MARGIN_SECONDS

    def _register_again(self) -> None:
        self.lease_until, lost, asked = -float("inf"), self.worker_epoch, monotonic()
        with self._engine.begin() as connection:
            _, self.worker_epoch = register(
                connection, self.member.process, profile_workers=self.member.profile_workers
            )
        log.error("lease lost: going on as a new worker", lost=lost, worker_epoch=self.worker_epoch)
        self._on_lease_lost(
            self.worker_epoch
        )  # first: the new lease is for letters of the new worker_epoch only
        self._renewed(asked)
