"""Leases: which workers of a shared ledger are alive, and who may take what from whom.

On SQLite one process holds the file's lock, and the lock replaces the lease: it never expires. On PostgreSQL
each worker has a row in the table `worker` under its epoch (`worker_epoch`), an integer that only grows.
`letter.worker_epoch` names the owner of a row; 0 is no owner. All lease times are the database's clock.

States of an epoch
    registered --renew (every 5 s, for 20 s)--> registered
    registered --20 s without renewal--> expired
    expired    --renew--> registered            after an outage of the database every lease expires, and none
                                                is lost as long as no other worker declares it dead
    expired    --declare_dead / claim_recovery by another worker--> dead      lease_until = 0
    registered --deregister, or a restart of the same process--> dead         lease_until = 0
A dead epoch stays dead. A worker that finds its epoch dead registers again under a new epoch and continues;
its earlier claims are not sent any more, because the fence compares the epoch.

Invariants of ownership
    1. A row is sent only by the epoch that it names: the fence updates `letter` where the epoch is equal.
    2. An epoch is declared dead only in the transaction that takes something from it, under FOR UPDATE of its
       row. A worker that takes or recalls letters holds its own row FOR KEY SHARE (`lock_lease`), which
       excludes being declared dead meanwhile and does not block its renewal.
    3. Letters that a dead epoch had recalled from the ledger are recovered once: `claim_recovery` marks the
       epoch as recovered in the same statement that declares it dead.
    4. Content leaves only while the lease is trusted by this machine's own clock.

Trust window: the heartbeat counts the lease from before each renewal was requested, by the monotonic clock,
less MARGIN_SECONDS. `Heartbeat.lease_until` therefore ends before the database's own lease does; letters that
passed the fence and would leave later are held back. After an outage that was longer than a lease,
`grace_until` gives the other workers the time of one lease to renew before this worker recovers anything.

Sessions that outlive their lease: a worker that is stopped (not dead) in the middle of a transaction keeps
its row locks, and other workers wait for them. No server timeout ends that: between two statements of a
pipeline a session is not idle, and `transaction_timeout` needs PostgreSQL 17. At each heartbeat a worker
therefore terminates the sessions of its schema whose transaction is older than a lease and whose worker has
no live lease. The sessions carry the worker's name (`session_name`).

Failure: while the database is away the heartbeat logs "lease not renewed" and tries again at the next beat.
See docs/decisions/0018 and 0021.
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

log = structlog.get_logger("postroom.ledger")

LEASE_SECONDS = 20.0
ALL_WORKERS = "%"
"""The LIKE pattern for all processes: a ledger that serves one profile."""
LEASE_WITHOUT_END = 1e12
"""`lease_until` of a worker that holds the file lock."""


@dataclass(frozen=True, slots=True)
class LedgerMember:
    """A worker of a shared database: the profile that it serves, and its own name.

    The workers of several profiles may share a database. A profile's letters are recovered and recalled only
    by its own workers, because other profiles have other relays and policies.
    """

    profile: str
    """`namespace/name`; neither contains a space or a wildcard of LIKE."""
    name: str

    @property
    def process(self) -> str:
        """The value of `worker.process`."""
        return f"{self.profile} {self.name}"

    @property
    def profile_workers(self) -> str:
        """The LIKE pattern for the processes of its profile."""
        return f"{self.profile} %"


_IS_LIVE = worker.c.lease_until > database_time()
_HAS_EXPIRED = worker.c.lease_until <= database_time()

_SELECT_LIVE = select(worker.c.worker_epoch).where(_IS_LIVE)
_SELECT_LIVE_PROCESSES = select(worker.c.process).where(_IS_LIVE)
_SELECT_EXISTING = select(worker.c.worker_epoch).where(
    worker.c.worker_epoch.in_(bindparam("epochs", expanding=True))
)
_OTHER = worker.alias("other")


def _expired(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those of these epochs whose lease has expired, locked against `lock_lease`, not against a renewal."""
    has_expired = _OTHER.c.lease_until <= database_time()
    return worker.c.worker_epoch.in_(
        select(_OTHER.c.worker_epoch).where(has_expired, *which).with_for_update()
    )


_DECLARE_DEAD = (
    update(worker)
    .where(_expired(_OTHER.c.worker_epoch.in_(bindparam("epochs", expanding=True))))
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
# FOR KEY SHARE excludes FOR UPDATE, under which an epoch is declared dead, but not the update of a renewal:
# a worker whose writer waits for a lock still renews its lease
_LOCK = (
    select(worker.c.worker_epoch)
    .where(worker.c.worker_epoch == bindparam("g"), worker.c.lease_until > 0)
    .with_for_update(read=True, key_share=True)
)
_DEREGISTER = (
    update(worker)
    .where(worker.c.worker_epoch == bindparam("g"))
    .values(ended_in_order=bindparam("in_order"), lease_until=0.0)
)


def register(
    connection: Connection, process: str, started_at: float | None = None, profile_workers: str = ALL_WORKERS
) -> tuple[bool, int]:
    """Register under the next epoch; returns whether the last worker ended in order, and the epoch.

    `started_at` is informational; by default it is the database's time. `profile_workers` selects the
    processes that send the same letters. With ALL_WORKERS the file lock proves that no other worker is alive,
    so every earlier epoch is dead; otherwise only the earlier epochs of this process are.
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
    """Extend the lease by LEASE_SECONDS from now; False when the epoch is dead."""
    return connection.execute(_RENEW, {"g": worker_epoch}).rowcount == 1


def database_now(connection: Connection) -> float:
    """The database's time, in seconds since 1970."""
    seconds: float = connection.execute(select(database_time())).scalar_one()
    return seconds


def lock_lease(connection: Connection, worker_epoch: int) -> bool:
    """Prevent that this epoch is declared dead until the transaction ends; False when it is dead already."""
    return connection.execute(_LOCK, {"g": worker_epoch}).first() is not None


def live_epochs(connection: Connection) -> set[int]:
    """The epochs with a live lease."""
    return set(connection.execute(_SELECT_LIVE).scalars())


def live_processes(connection: Connection) -> set[str]:
    """The processes with a live lease."""
    return set(connection.execute(_SELECT_LIVE_PROCESSES).scalars())


def declare_dead(connection: Connection, epochs: Collection[int]) -> set[int]:
    """Declare the expired ones of these epochs dead; returns those that are dead now, or were before."""
    wanted = {"epochs": sorted(epochs)}
    dead = set(connection.execute(_DECLARE_DEAD, wanted).scalars())
    return dead | (set(epochs) - set(connection.execute(_SELECT_EXISTING, wanted).scalars()))


def claim_recovery(connection: Connection, mine: int, profile_workers: str) -> list[int]:
    """Declare the expired, unrecovered epochs of these processes dead; the caller recovers their letters."""
    return sorted(
        connection.execute(_CLAIM_RECOVERY, {"mine": mine, "profile_workers": profile_workers}).scalars()
    )


def deregister(connection: Connection, worker_epoch: int, in_order: bool = True) -> None:
    """End the lease; records whether the worker ended in order."""
    connection.execute(_DEREGISTER, {"g": worker_epoch, "in_order": in_order})


STUCK_SECONDS = LEASE_SECONDS
"""From this age on the transaction of a worker without a live lease is ended."""
MAX_SESSION_NAME = 63
"""PostgreSQL truncates application_name at this length."""

_END_STUCK = text(
    """
    WITH stuck AS MATERIALIZED (
        SELECT pid, application_name AS name FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user
          AND starts_with(application_name, CAST(:prefix AS text))
          AND application_name <> ALL (CAST(:live AS text[]))
          AND xact_start < clock_timestamp() - make_interval(secs => :age)
    )
    SELECT name FROM stuck WHERE pg_terminate_backend(pid)
    """
)


def session_name(schema: str, process: str) -> str:
    """The application_name of a worker's sessions; its last word is the worker's name, for people."""
    name = process.rpartition(" ")[2].encode("ascii", "replace").decode()
    return f"{_session_prefix(schema)}{_short_hash(process)} {name}"[:MAX_SESSION_NAME]


def end_stuck_sessions(connection: Connection, schema: str) -> list[str]:
    """Terminate the sessions that outlived their worker's lease; returns their names."""
    live = [session_name(schema, process) for process in live_processes(connection)]
    parameters = {"prefix": _session_prefix(schema), "live": live, "age": STUCK_SECONDS}
    return list(connection.execute(_END_STUCK, parameters).scalars())


def _session_prefix(schema: str) -> str:
    return f"postroom {_short_hash(schema)} "


def _short_hash(name: str) -> str:
    """Eight characters, so that the worker's name fits too; two names collide in one of 2³² cases."""
    return blake2b(name.encode(), digest_size=4).hexdigest()


BEAT_SECONDS = 5.0
MARGIN_SECONDS = 2.0
"""How much earlier than the database a worker considers its lease expired: clocks differ in speed."""

MAX_CLOCK_ROUND_TRIP = 1.0
"""Seconds; a slower reply is too imprecise to set the clock by."""
CLOCK_WARNING_SECONDS = 5.0
"""From this difference between the machine's clock and the database's on, a warning is logged."""


class Heartbeat:
    """A thread that renews one worker's lease, reads the database's clock and advances the dedupe calendar.

    `lease_until` and `now` are its results for the worker. When the epoch was declared dead, it registers
    again and calls `on_lease_lost` with the new epoch.
    """

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
        """Monotonic seconds until which the lease is trusted."""
        self.grace_until = -float("inf")
        """Monotonic seconds until which nothing is recovered after an outage."""
        self.worker_epoch = 0
        self._clock_offset = 0.0
        """The database's time less the monotonic clock; 0 before the first reading."""
        self._clock_warned = False

    def register(self, connection: Connection, started_at: float) -> bool:
        """Register this worker; returns whether the last worker of its profile ended in order."""
        self._read_clock(connection)
        requested = monotonic()
        clean, self.worker_epoch = register(
            connection, self.member.process, started_at, self.member.profile_workers
        )
        self._renewed(requested)
        return clean

    def start(self, on_lease_lost: Callable[[int], None]) -> None:
        """Start the thread."""
        self._on_lease_lost = on_lease_lost
        self._thread.start()

    def now(self, wall: datetime) -> datetime:
        """The database's time; `wall` is this machine's, compared for a warning."""
        now = datetime.fromtimestamp(self._clock_offset + monotonic(), UTC)
        ahead = (now - wall).total_seconds()
        if self._clock_warned != (abs(ahead) > CLOCK_WARNING_SECONDS):
            self._clock_warned = not self._clock_warned
            log.warning(
                "the clock of this machine is wrong; the time of the database is used"
                if self._clock_warned
                else "the clock of this machine is correct again",
                seconds=round(-ahead, 1),
            )
        return now

    def stop(self) -> None:
        """End the thread; the lease expires unless it is deregistered."""
        self._stopping.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            try:
                self.beat()
            except DBAPIError as error:
                log.warning(
                    "lease not renewed; will retry",
                    reason=error_text(error),
                    left=round(self.lease_until - monotonic(), 1),
                )

    def beat(self) -> None:
        """Renew the lease or register again; then end stuck sessions and advance the calendar."""
        requested = monotonic()
        with self._engine.begin() as connection:
            alive = renew_lease(connection, self.worker_epoch)
            self._read_clock(connection)
        if alive:
            self._renewed(requested)
        else:
            self._register_again()
        self.end_stuck_sessions()
        self.advance_calendar()

    def end_stuck_sessions(self) -> None:
        """Terminate the sessions of workers that stopped in the middle of a transaction."""
        with self._engine.begin() as connection:
            ended = end_stuck_sessions(connection, self._schema)
        if ended:
            log.warning("terminated sessions of a stopped worker that held locks", sessions=ended)

    def advance_calendar(self) -> None:
        """Advance the dedupe calendar if a new day has begun by the database's clock."""
        with self._engine.begin() as connection:
            if dedupe.is_day_over(connection):
                dedupe.advance_day(connection, self.calendar_key)

    def _read_clock(self, connection: Connection) -> None:
        requested = monotonic()
        seconds = database_now(connection)
        received = monotonic()
        if received - requested < MAX_CLOCK_ROUND_TRIP or not self._clock_offset:
            self._clock_offset = seconds - (requested + received) / 2

    def _renewed(self, requested: float) -> None:
        if requested - self._renewed_at > LEASE_SECONDS:
            self.grace_until = requested + LEASE_SECONDS
        self._renewed_at = requested
        self.lease_until = requested + LEASE_SECONDS - MARGIN_SECONDS

    def _register_again(self) -> None:
        self.lease_until, lost, requested = -float("inf"), self.worker_epoch, monotonic()
        with self._engine.begin() as connection:
            _, self.worker_epoch = register(
                connection, self.member.process, profile_workers=self.member.profile_workers
            )
        log.error("lease lost; registered again under a new epoch", lost=lost, worker_epoch=self.worker_epoch)
        # before `lease_until` is set: the new lease covers only letters of the new epoch
        self._on_lease_lost(self.worker_epoch)
        self._renewed(requested)
