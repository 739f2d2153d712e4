"""Notices: what others are told of letters, waiting for its destination."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "notification_outbox",
        sa.Column("row", sa.BigInteger, primary_key=True),
        *(
            sa.Column(name, sa.String, nullable=False)
            for name in ("destination", "notification_id", "key", "type")
        ),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("letter", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker_epoch", sa.Integer, nullable=False),
    )
    op.create_index("notification_due", "notification_outbox", ["destination", "due"])
