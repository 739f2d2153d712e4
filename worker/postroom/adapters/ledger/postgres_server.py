"""A PostgreSQL server as the ledger uses it: its address, its sessions, the meaning of its errors.

In: a URL and a schema. Out: an engine whose sessions use that schema and notice within seconds when the
server is gone; no connection is made before the first use. A URL or schema that cannot be right is Rejected;
a server that cannot be reached is Unreachable.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from postroom.letter.problems import Code, Problem, Rejected
from postroom.ports.world import LedgerUnavailable

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
RETRYABLE_STATES = ("40001", "40P01")
"""SQLSTATEs serialization_failure and deadlock_detected: the transaction succeeds when it is repeated."""
READ_ONLY_STATE = "25006"
"""SQLSTATE read_only_sql_transaction: the server is no primary any more."""

CONNECT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Options of libpq: a server that vanishes is noticed in about ten seconds, less than a lease."""

_SESSION = """
SELECT set_config('search_path', %s, false),
       set_config('application_name', %s, false),
       set_config('lock_timeout', '10s', false),
       set_config('enable_seqscan', 'off', false),
       set_config('jit', 'off', false),
       set_config('idle_in_transaction_session_timeout', '15s', false),
       set_config('tcp_keepalives_idle', '5', false),
       set_config('tcp_keepalives_interval', '2', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('tcp_user_timeout', '10s', false),
       CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', false) END
"""
# enable_seqscan, jit: every statement of a worker has an index; by its estimates the server would read
# hundreds of thousands of identities for one batch of claims. A table without a suitable index is still
# read. synchronous_commit: a commit is on the server's disk when it returns, which the fence relies on.
# keepalives: the server ends the session of a worker whose machine is gone, so that it holds no lock for
# longer than a lease. A stopped worker's machine still answers them: see leases.end_stuck_sessions.


def ledger_engine(url: str, schema: str, name: str = "postroom") -> Engine:
    """An engine for the ledger in this schema; `name` is the application_name of its sessions."""
    if not SCHEMA.fullmatch(schema):
        raise invalid_setting(
            "ledger-schema", f"`{schema}` is not a plain name: use a-z, 0-9 and _, at most 63 characters"
        )
    parsed = _parse(url)
    options = {key: value for key, value in CONNECT_OPTIONS.items() if key not in parsed.query}
    created = create_engine(
        parsed,
        pool_size=2,  # the writer and the heartbeat
        # an error that quotes the parameters would put addresses into the log
        hide_parameters=True,
        connect_args=options,
    )

    @event.listens_for(created, "connect")
    def configure_session(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SESSION, (schema, name))
        connection.commit()

    return created


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in SCHEMES or not parsed.database:
        # the URL contains a password: it is not quoted
        raise invalid_setting(
            "ledger-url", "not a URL of the form postgresql://user:password@host:5432/database"
        )
    return parsed.set(drivername="postgresql+psycopg")


def invalid_setting(field: str, message: str) -> Rejected:
    """The error for a setting of the ledger that is wrong."""
    return Rejected(Problem(Code.SETTING_INVALID, field, message))


def sqlstate(error: DBAPIError) -> str:
    """The SQLSTATE of an error, five characters; empty where the server sent none."""
    return getattr(error.orig, "sqlstate", None) or ""


def error_text(error: DBAPIError) -> str:
    """The error in one line."""
    return " ".join(str(error.orig).split())


def is_transient(error: DBAPIError) -> bool:
    """Whether the error passes: the server is away, refuses for now, or is no primary any more."""
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError)
        or sqlstate(error) == READ_ONLY_STATE
    )


@contextmanager
def unreachable_errors() -> Iterator[None]:
    """Turn the errors of a server that is away into Unreachable."""
    try:
        yield
    except DBAPIError as error:
        if is_transient(error):
            raise LedgerUnavailable(error_text(error)) from None
        raise


def lock_key(schema: str, purpose: str) -> int:
    """The key of an advisory lock; keys are shared by the whole database, so each schema has its own."""
    return int.from_bytes(
        blake2b(f"postroom {schema} {purpose}".encode(), digest_size=8).digest(), signed=True
    )
