"""Reports about letters that came back, and what they prove."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "report",
        sa.Column("row", sa.BigInteger, primary_key=True),
        sa.Column("letter", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("mta", sa.String),
        sa.Column("proves", sa.String),
        sa.Column("suppress", sa.String),
        sa.Column("pending", sa.Boolean, nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.UniqueConstraint("letter", "fingerprint", name="report_once"),
    )
    op.create_index("report_pending", "report", ["letter"], postgresql_where=sa.text("pending"))
