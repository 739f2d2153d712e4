"""The ledger's tables, in SQLAlchemy Core so that another database can carry the same rows.

`letter` holds one row a letter under a time-ordered key; `identity` is the narrow table that makes an
identity unique, in buckets of a day of first sight, so that inserts stay close together and few are
searched. Random keys over the whole table would cost many times more at a million rows.
"""

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
    text,
)

VERSION = 1
"""Written to SQLite's user_version; a ledger of a newer version is refused, never guessed at."""

metadata = MetaData()

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
    Column("generation", Integer, nullable=False),
    Column("answers", SmallInteger, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0),
    Column("doubts", SmallInteger, nullable=False, default=0),
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
    # the retry queue: only rows with a time to come back have an entry
    Index(
        "letter_due", "due", sqlite_where=text("due IS NOT NULL"), postgresql_where=text("due IS NOT NULL")
    ),
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
    Column("generation", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("result", String, nullable=False),
    Column("stage", String),
    Column("code", Integer),
    Column("text", Text),
    Column("revision", String),
    # keys are in time order, so this index grows at its end as well
    Index("attempt_row", "row"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("row", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("dead_letter", String, nullable=False, unique=True),
    Column("record", LargeBinary, nullable=False),
    Column("problems", Text, nullable=False),
    Column("at", Float, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("generation", Integer, primary_key=True),
    Column("process", String, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_in_order", Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)

suspect = Table(
    "suspect",
    metadata,
    Column("topic", String, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    PrimaryKeyConstraint("topic", "partition", "offset"),
    sqlite_with_rowid=False,
)
