"""The ledger as it was when PostgreSQL came: letters, identities, attempts, outbox, workers with leases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _letters()
    _beside_letters()
    _workers()


def _letters() -> None:
    texts = ("profile", "source", "event_id", "recipient", "event_type")
    op.create_table(
        "letter",
        sa.Column("row", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.String, nullable=False) for name in texts),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
        sa.Column("replies", sa.SmallInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("in_doubt_count", sa.SmallInteger, nullable=False),
        sa.Column("due", sa.Float),
        sa.Column("code", sa.String),
        sa.Column("reason", sa.Text),
        sa.Column("reply", sa.Text),
        *(sa.Column(name, sa.String) for name in ("template", "revision", "message_id")),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String) for name in ("user_id", "request_id")),
        sa.Column("metadata", sa.Text),
        sa.Column("event", sa.LargeBinary),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_index("letter_due", "letter", ["due"], postgresql_where=sa.text("due IS NOT NULL"))
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


def _beside_letters() -> None:
    op.create_table(
        "identity",
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("hash", sa.BigInteger, nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("bucket", "hash"),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("result", sa.String, nullable=False),
        sa.Column("stage", sa.String),
        sa.Column("code", sa.Integer),
        sa.Column("text", sa.Text),
        sa.Column("revision", sa.String),
    )
    op.create_index("attempt_row", "attempt", ["row"])
    op.create_table(
        "dead_letter_outbox",
        sa.Column("row", sa.BigInteger, primary_key=True),
        sa.Column("dead_letter", sa.String, nullable=False, unique=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("problems", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "poison_mark",
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset"),
    )


def _workers() -> None:
    op.create_table(
        "worker",
        sa.Column("worker_epoch", sa.Integer, primary_key=True),
        sa.Column("process", sa.String, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("ended_in_order", sa.Boolean, nullable=False),
        sa.Column("lease_until", sa.Float, nullable=False, server_default="0"),
        sa.Column("recovered", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    calendar = op.create_table(
        "calendar",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("floor", sa.String, nullable=False),
    )
    op.bulk_insert(calendar, [{"id": 1, "bucket": 0, "floor": revision}])
