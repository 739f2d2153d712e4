"""Alembic's way into a migration: it runs in the connection and the transaction of who calls `migrate`."""

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
