"""A PostgreSQL server as the ledger reaches it: its address, its sessions, what its errors mean.

In: a URL and a schema. Out: an engine whose sessions live in that schema and notice within seconds when the
server is gone; nothing connects before it is used. A URL or schema that can't be right is Rejected; a
server that can't be reached is Unreachable.
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
"""serialization_failure and deadlock_detected: done again, they work."""
READ_ONLY_STATE = "25006"
"""What a server says that was primary until a moment ago."""

CONNECT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's: a server that vanished without a word is noticed in some ten seconds, well within a lease."""

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
# every statement of a worker is made for an index; left to its estimates, the server reads all identities for
# a batch of claims while they are hundreds of thousands. A table without an index for a statement is read all
# the same, and nothing is to be compiled because of that
# a commit is on the server's disk when it returns, which is what the fence relies on; a session whose worker
# was cut off holds no lock for longer than a lease: the server notices as we do (one that only stands still
# answers for its machine: see standstill)


def ledger_engine(url: str, schema: str, name: str = "postroom") -> Engine:
    """An engine for the ledger in this schema; `name` is what its sessions are called."""
    if not SCHEMA.fullmatch(schema):
        raise invalid_setting(
            "ledger-schema", f"`{schema}` is no plain name: use a-z, 0-9 and _, at most 63 signs"
        )
    parsed = _parse(url)
    told = {key: value for key, value in CONNECT_OPTIONS.items() if key not in parsed.query}
    made = create_engine(
        parsed,
        pool_size=2,  # the writer and the heartbeat
        # an error that quotes the parameters would carry addresses into the log
        hide_parameters=True,
        connect_args=told,
    )

    @event.listens_for(made, "connect")
    def settle_in(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SESSION, (schema, name))
        connection.commit()

    return made


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in SCHEMES or not parsed.database:
        # the URL itself holds a password: it is not quoted
        raise invalid_setting(
            "ledger-url", "it is no URL of the form postgresql://user:password@host:5432/database"
        )
    return parsed.set(drivername="postgresql+psycopg")


def invalid_setting(field: str, message: str) -> Rejected:
    """A setting of the ledger that a person has to mend."""
    return Rejected(Problem(Code.SETTING_INVALID, field, message))


def sqlstate(error: DBAPIError) -> str:
    """The five signs that PostgreSQL has for an error; empty where the server said nothing."""
    return getattr(error.orig, "sqlstate", None) or ""


def error_text(error: DBAPIError) -> str:
    """The error in one line."""
    return " ".join(str(error.orig).split())


def is_transient(error: DBAPIError) -> bool:
    """Whether time mends it: the server is away, refuses for now, or this is not the primary any more."""
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError)
        or sqlstate(error) == READ_ONLY_STATE
    )


@contextmanager
def unreachable_errors() -> Iterator[None]:
    """Turn what a server that is away causes into Unreachable."""
    try:
        yield
    except DBAPIError as error:
        if is_transient(error):
            raise LedgerUnavailable(error_text(error)) from None
        raise


def lock_key(schema: str, purpose: str) -> int:
    """The key of an advisory lock: they are shared by the whole database, so each schema has its own."""
    return int.from_bytes(
        blake2b(f"postroom {schema} {purpose}".encode(), digest_size=8).digest(), signed=True
    )
