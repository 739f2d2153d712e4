"""Leases: which workers live, in the database's own time, and how a dead one is declared dead.

A worker is a generation. Its lease runs until a moment of the database's clock, so that no worker's clock
matters. A lease that ran out ends only when somebody declares it ended, in the very transaction that takes
something from its holder: until then the holder may renew it, as all do after an outage of the database.
A declared end is for good. On SQLite the file lock is the lease, and it never runs out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, bindparam, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from postroom.adapters.ledger.schema import worker

LEASE_SECONDS = 20.0
EVERYBODY = "%"
"""The processes of a ledger that serves one profile."""
FOREVER = 1e12
"""The lease of a worker that holds the file lock."""


@dataclass(frozen=True, slots=True)
class Member:
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
    def kin(self) -> str:
        """The processes of its profile, as a pattern."""
        return f"{self.profile} %"


class database_time(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's clock, now and not at the transaction's begin."""

    type = Float()
    inherit_cache = True


@compiles(database_time, "postgresql")
def _on_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(database_time, "sqlite")
def _on_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


_RUNS = worker.c.lease_until > database_time()
_RAN_OUT = worker.c.lease_until <= database_time()

_LIVING = select(worker.c.generation).where(_RUNS)
_LIVING_PROCESSES = select(worker.c.process).where(_RUNS)
_AMONG = select(worker.c.generation).where(worker.c.generation.in_(bindparam("some", expanding=True)))
_OTHER = worker.alias("other")


def _ending(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those of these whose lease ran out: locked against `hold` from now on, though not against `renew`."""
    ran_out = _OTHER.c.lease_until <= database_time()
    return worker.c.generation.in_(select(_OTHER.c.generation).where(ran_out, *which).with_for_update())


_DECLARE = (
    update(worker)
    .where(_ending(_OTHER.c.generation.in_(bindparam("some", expanding=True))))
    .values(lease_until=0.0)
    .returning(worker.c.generation)
)
_CLEAR = (
    update(worker)
    .where(
        _ending(
            _OTHER.c.generation != bindparam("mine"),
            _OTHER.c.process.like(bindparam("kin")),
            _OTHER.c.cleared.is_(False),
        )
    )
    .values(lease_until=0.0, cleared=True)
    .returning(worker.c.generation)
)
_RENEW = (
    update(worker)
    .where(worker.c.generation == bindparam("g"), worker.c.lease_until > 0)
    .values(lease_until=database_time() + LEASE_SECONDS)
)
_HOLD = (
    select(worker.c.generation)
    .where(worker.c.generation == bindparam("g"), worker.c.lease_until > 0)
    .with_for_update(read=True, key_share=True)
)
# FOR KEY SHARE keeps FOR UPDATE away, by which an end is declared, and not a renewal: a worker whose writer
# waits for somebody's lock lives on
_SIGN_OFF = (
    update(worker)
    .where(worker.c.generation == bindparam("g"))
    .values(ended_in_order=bindparam("in_order"), lease_until=0.0)
)


def enlist(
    connection: Connection, process: str, started_at: float | None = None, kin: str = EVERYBODY
) -> tuple[bool, int]:
    """Take the next generation; says also whether the worker that ended last did so in order.

    `started_at` is for people; without it the database's time is noted. `kin`: those who
    send the same letters. EVERYBODY: a lock says that no other worker lives; else only a former life of this
    very process is known to be over.
    """
    alone = kin == EVERYBODY
    former = update(worker).values(lease_until=0.0)
    connection.execute(former if alone else former.where(worker.c.process == process))
    last = connection.execute(
        select(worker.c.ended_in_order)
        .where(_RAN_OUT, worker.c.process.like(kin))
        .order_by(worker.c.generation.desc())
        .limit(1)
    ).scalar()
    made = connection.execute(
        insert(worker)
        .values(
            process=process,
            started_at=database_time() if started_at is None else started_at,
            lease_until=FOREVER if alone else database_time() + LEASE_SECONDS,
        )
        .returning(worker.c.generation)
    )
    return last is None or bool(last), made.scalar_one()


def renew(connection: Connection, generation: int) -> bool:
    """Let the lease run anew; False when it was declared ended."""
    return connection.execute(_RENEW, {"g": generation}).rowcount == 1


def now(connection: Connection) -> float:
    """The database's time, in seconds since 1970."""
    told: float = connection.execute(select(database_time())).scalar_one()
    return told


def hold(connection: Connection, generation: int) -> bool:
    """Keep others from declaring this lease ended until the transaction is over; False when one has."""
    return connection.execute(_HOLD, {"g": generation}).first() is not None


def living(connection: Connection) -> set[int]:
    """The generations whose leases run."""
    return set(connection.execute(_LIVING).scalars())


def living_processes(connection: Connection) -> set[str]:
    """The processes whose leases run."""
    return set(connection.execute(_LIVING_PROCESSES).scalars())


def declare_dead(connection: Connection, some: Collection[int]) -> set[int]:
    """Those of these generations that are nobody's any more, from now on and for good."""
    wanted = {"some": sorted(some)}
    dead = set(connection.execute(_DECLARE, wanted).scalars())
    return dead | (set(some) - set(connection.execute(_AMONG, wanted).scalars()))


def clear(connection: Connection, mine: int, kin: str) -> list[int]:
    """The dead generations of these processes whose letters nobody has taken up yet; the caller does now."""
    return sorted(connection.execute(_CLEAR, {"mine": mine, "kin": kin}).scalars())


def sign_off(connection: Connection, generation: int, in_order: bool = True) -> None:
    """End the lease, and say whether that was in order."""
    connection.execute(_SIGN_OFF, {"g": generation, "in_order": in_order})
