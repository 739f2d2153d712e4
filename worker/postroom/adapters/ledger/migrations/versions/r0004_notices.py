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
        "notice",
        sa.Column("row", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("destination", "notice_id", "key", "type")),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("letter", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
    )
    op.create_index("notice_due", "notice", ["destination", "due"])
