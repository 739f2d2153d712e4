"""Workers that stand still: what they hold in the database is let go of when their lease is over.

A worker that is stopped (not dead) in the middle of a transaction holds its rows' locks for as long as it
stands, and everybody else waits for them. No timeout of the server ends that: between two statements of a
pipeline a session is not idle, and `transaction_timeout` is of PostgreSQL 17. So each living worker looks for
sessions whose transaction is older than a lease and whose worker's lease does not run, and ends them. All
of a worker's sessions bear its name, which says whose they are; those of other schemas and roles are left
alone.
"""

from hashlib import blake2b

from sqlalchemy import text
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import leases
from postroom.adapters.ledger.leases import LEASE_SECONDS

LONGEST_NAME = 63
"""PostgreSQL cuts application_name off there."""

_END = text(
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
    return f"{_house(schema)}{_sign(process)} {name}"[:LONGEST_NAME]


def end_sessions(connection: Connection, schema: str) -> list[str]:
    """End what workers left open that stand still; returns the names of the sessions that were ended."""
    living = [session_name(schema, process) for process in leases.living_processes(connection)]
    told = {"house": _house(schema), "living": living, "lease": LEASE_SECONDS}
    return list(connection.execute(_END, told).scalars())


def _house(schema: str) -> str:
    return f"postroom {_sign(schema)} "


def _sign(text_: str) -> str:
    """Short, so that a name has room for it; two of one database have the same once in 2³² cases."""
    return blake2b(text_.encode(), digest_size=4).hexdigest()
