"""The ledger's tables, in SQLAlchemy Core: the same rows on SQLite and on PostgreSQL.

`letter` holds one row for each letter under a time-ordered key. `identity` is the narrow table that makes an
identity unique, in buckets of the day on which it was first seen, so that inserts stay close together and few
pages are searched. Random keys over the whole table would cost many times more at a million rows.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

VERSION = 1
"""Stored in SQLite's user_version; a file with a newer version is refused."""

# on PostgreSQL the version is a revision of migrations/, which must create exactly these tables (a test
# compares)

metadata = MetaData()


class database_time(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's clock, at the time of the statement, not of the transaction."""

    type = Float()
    inherit_cache = True


@compiles(database_time, "postgresql")
def _on_postgresql(_element: Any, _compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(database_time, "sqlite")
def _on_sqlite(_element: Any, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


letter = Table(
    "letter",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("profile", String, nullable=False),
    Column("source", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column("event_type", String, nullable=False),
    Column("digest", LargeBinary(16), nullable=False),
    Column("state", String, nullable=False),
    Column("worker_epoch", Integer, nullable=False),
    Column("replies", SmallInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("in_doubt_count", SmallInteger, nullable=False, default=0),
    Column("due", Float),
    Column("code", String),
    Column("reason", Text),
    Column("reply", Text),
    Column("template", String),
    Column("revision", String),
    Column("message_id", String),
    Column("topic", String, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("user_id", String),
    Column("request_id", String),
    Column("metadata", Text),
    Column("event", LargeBinary),
    Column("received_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    # the retry queue: only rows with a due time have an entry
    Index(
        "letter_due", "due", sqlite_where=text("due IS NOT NULL"), postgresql_where=text("due IS NOT NULL")
    ),
    # the same for one profile: the backlog of other profiles in the database is not read
    Index("letter_due_of_profile", "profile", "due", postgresql_where=text("due IS NOT NULL")).ddl_if(
        dialect="postgresql"
    ),
    # recovery of recalled letters: only rows that hold their event have an entry
    Index(
        "letter_stored",
        "worker_epoch",
        sqlite_where=text("event IS NOT NULL"),
        postgresql_where=text("event IS NOT NULL"),
    ),
    # orphans, by the position of their record: offsets arrive in runs, so that this index needs a few bytes
    # for each page and costs almost nothing
    Index(
        "letter_position",
        "offset",
        postgresql_using="brin",
        postgresql_ops={"offset": "int8_minmax_multi_ops"},
        postgresql_with={"pages_per_range": 16},
    ).ddl_if(dialect="postgresql"),
)

identity = Table(
    "identity",
    metadata,
    Column("bucket", Integer, nullable=False),
    Column("hash", BigInteger, nullable=False),
    Column("row", BigInteger, nullable=False),
    PrimaryKeyConstraint("bucket", "hash"),
    sqlite_with_rowid=False,
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("row", BigInteger, nullable=False),
    Column("worker_epoch", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("result", String, nullable=False),
    Column("stage", String),
    Column("code", Integer),
    Column("text", Text),
    Column("revision", String),
    # the profile whose relay was used, if not the letter's own
    Column("relay", String),
    # keys are in time order, so that this index grows at its end too
    Index("attempt_row", "row"),
)

dead_letter_outbox = Table(
    "dead_letter_outbox",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("dead_letter", String, nullable=False, unique=True),
    Column("record", LargeBinary, nullable=False),
    Column("problems", Text, nullable=False),
    Column("at", Float, nullable=False),
    # the worker that publishes it; rows of a dead worker are adopted by another one of its profile
    Column("worker_epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
)

notification_outbox = Table(
    "notification_outbox",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # the name of a callback; empty for the status topic
    Column("destination", String, nullable=False),
    Column("notification_id", String, nullable=False),
    Column("key", String, nullable=False),
    Column("type", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("letter", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    # the worker that publishes it; rows of a dead worker are adopted by another one of its profile
    Column("worker_epoch", Integer, nullable=False),
    Index("notification_due", "destination", "due"),
)
"""Notifications about letters. Empty and never read where a profile has no notification rules."""

report = Table(
    "report",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("letter", BigInteger, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("status", String, nullable=False),
    Column("text", Text),
    Column("mta", String),
    # the state that it proves, and the reason for an entry of the suppression list, if any
    Column("proves", String),
    Column("suppress", String),
    # true while its effect is not applied, because a worker owns the letter
    Column("pending", Boolean, nullable=False),
    Column("content", LargeBinary),
    UniqueConstraint("letter", "fingerprint", name="report_once"),
    Index("report_pending", "letter", sqlite_where=text("pending"), postgresql_where=text("pending")),
)
"""Reports about letters."""

worker = Table(
    "worker",
    metadata,
    Column("worker_epoch", Integer, primary_key=True),
    Column("process", String, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_in_order", Boolean, nullable=False, default=False),
    # by the database's clock; 0 when the worker ended or was declared dead, which is final
    Column("lease_until", Float, nullable=False),
    # whether the letters that it had recalled were recovered
    Column("recovered", Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)

poison_marks = Table(
    "poison_mark",
    metadata,
    Column("topic", String, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    PrimaryKeyConstraint("topic", "partition", "offset"),
    sqlite_with_rowid=False,
)

replay = Table(
    "replay",
    metadata,
    # the digest of the replay's id
    Column("id", String, primary_key=True),
    Column("at", Float, nullable=False),
)
"""Replays that were consumed: each may reopen a letter once."""

suppression = Table(
    "suppression",
    metadata,
    Column("profile", String, nullable=False),
    # the digest of the address: it identifies the entry, and it stays when a person is erased
    Column("hash", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("address", String),
    Column("note", Text),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("profile", "hash", "reason"),
)

shared_states = Table(
    "shared_state",
    metadata,
    Column("subject", String, primary_key=True),
    Column("text", Text, nullable=False),
    # by the database's clock; older states are deleted
    Column("until", Float, nullable=False),
)
"""States that all workers share: circuits, shares of a rate. Few rows, and no addresses."""

calendar = Table(
    "calendar",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    # the only bucket that takes identities now; it never decreases
    Column("bucket", Integer, nullable=False),
    # the oldest revision that a program must know to use this schema
    Column("floor", String, nullable=False),
)
"""One row, on PostgreSQL only: what all workers of a ledger must share. A file has one worker."""

TABLES_OF_A_FILE = [table for table in metadata.sorted_tables if table is not calendar]
