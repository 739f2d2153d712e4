"""Alembic environment: runs migrations in the connection and transaction of the caller of `migrate`."""

from alembic import context

from postroom.adapters.ledger.migrations import VERSION_TABLE
from postroom.adapters.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=context.config.attributes["schema"],
)
context.run_migrations()
