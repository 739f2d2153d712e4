"""What becomes of letters afterwards: replays that were taken, addresses that are not written to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "replay",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "suppression",
        sa.Column("profile", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("address", sa.String),
        sa.Column("note", sa.Text),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("profile", "hash", "reason"),
    )
