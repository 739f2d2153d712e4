"""All tables of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table with its indexes."""
    _letters()
    _dedupe()
    _outboxes()
    _reports()
    _workers()


def _letters() -> None:
    op.create_table(
        "letter",
        sa.Column("row", sa.BigInteger, primary_key=True, autoincrement=False),
        *(_text(name) for name in ("profile", "source", "event_id", "recipient", "event_type")),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        _text("state"),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
        sa.Column("replies", sa.SmallInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("in_doubt_count", sa.SmallInteger, nullable=False),
        sa.Column("due", sa.Float),
        sa.Column("code", sa.String),
        sa.Column("reason", sa.Text),
        sa.Column("reply", sa.Text),
        *(sa.Column(name, sa.String) for name in ("template", "revision", "message_id")),
        *_position(),
        *(sa.Column(name, sa.String) for name in ("user_id", "request_id")),
        sa.Column("metadata", sa.Text),
        sa.Column("event", sa.LargeBinary),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    has_due = sa.text("due IS NOT NULL")
    op.create_index("letter_due", "letter", ["due"], postgresql_where=has_due)
    op.create_index("letter_due_of_profile", "letter", ["profile", "due"], postgresql_where=has_due)
    op.create_index(
        "letter_stored", "letter", ["worker_epoch"], postgresql_where=sa.text("event IS NOT NULL")
    )
    op.create_index(
        "letter_position",
        "letter",
        ["offset"],
        postgresql_using="brin",
        postgresql_ops={"offset": "int8_minmax_multi_ops"},
        postgresql_with={"pages_per_range": 16},
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        _text("result"),
        sa.Column("stage", sa.String),
        sa.Column("code", sa.Integer),
        sa.Column("text", sa.Text),
        sa.Column("revision", sa.String),
        sa.Column("relay", sa.String),
    )
    op.create_index("attempt_row", "attempt", ["row"])


def _dedupe() -> None:
    op.create_table(
        "identity",
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("hash", sa.BigInteger, nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("bucket", "hash"),
    )
    calendar = op.create_table(
        "calendar",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("bucket", sa.Integer, nullable=False),
        _text("floor"),
    )
    op.bulk_insert(calendar, [{"id": 1, "bucket": 0, "floor": revision}])
    op.create_table(
        "replay",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "suppression",
        *(_text(name) for name in ("profile", "hash", "reason")),
        sa.Column("address", sa.String),
        sa.Column("note", sa.Text),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("profile", "hash", "reason"),
    )


def _outboxes() -> None:
    op.create_table(
        "dead_letter_outbox",
        sa.Column("row", sa.BigInteger, primary_key=True),
        sa.Column("dead_letter", sa.String, nullable=False, unique=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("problems", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_table(
        "poison_mark",
        *_position(),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset"),
    )
    op.create_table(
        "notification_outbox",
        sa.Column("row", sa.BigInteger, primary_key=True),
        *(_text(name) for name in ("destination", "notification_id", "key", "type")),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("letter", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
    )
    op.create_index("notification_due", "notification_outbox", ["destination", "due"])


def _reports() -> None:
    op.create_table(
        "report",
        sa.Column("row", sa.BigInteger, primary_key=True),
        sa.Column("letter", sa.BigInteger, nullable=False),
        _text("fingerprint"),
        sa.Column("at", sa.Float, nullable=False),
        _text("kind"),
        _text("status"),
        sa.Column("text", sa.Text),
        sa.Column("mta", sa.String),
        sa.Column("proves", sa.String),
        sa.Column("suppress", sa.String),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.UniqueConstraint("letter", "fingerprint", name="report_once"),
    )
    op.create_index("report_pending", "report", ["letter"], postgresql_where=sa.text("pending"))


def _workers() -> None:
    op.create_table(
        "worker",
        sa.Column("worker_epoch", sa.Integer, primary_key=True),
        _text("process"),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("ended_in_order", sa.Boolean, nullable=False),
        sa.Column("lease_until", sa.Float, nullable=False),
        sa.Column("recovered", sa.Boolean, nullable=False),
    )
    op.create_table(
        "shared_state",
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.String, nullable=False)


def _position() -> "tuple[sa.Column[str], sa.Column[int], sa.Column[int]]":
    """The position of a Kafka record."""
    return (
        _text("topic"),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
