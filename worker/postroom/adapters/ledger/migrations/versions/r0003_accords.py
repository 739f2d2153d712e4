"""What workers agree on; through which relay an attempt went; due letters by their profile."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table, a column and an index."""
    op.create_table(
        "shared_state",
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.add_column("attempt", sa.Column("relay", sa.String))
    op.create_index(
        "letter_due_of_profile", "letter", ["profile", "due"], postgresql_where=sa.text("due IS NOT NULL")
    )
