"""A dead letter says how often it was tried to send it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("dead_letter_outbox", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
