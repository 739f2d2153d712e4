"""The ledger's schema on PostgreSQL: created, migrated and checked."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from postroom.adapters.ledger import migrations, postgres_server
from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.migrations import VERSION_TABLE, head, migrate
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.adapters.ledger.schema import metadata
from postroom.letter.problems import Rejected
from postroom.ports.world import LedgerUnavailable
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, PROFILE, WINDOW
from tests.fixtures.postgres import free_port
from tests.ledger.postgres_ledgers import SCHEMA, execute, working

pytestmark = pytest.mark.postgres


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(postgres_ledger: str) -> None:
    engine = postgres_server.ledger_engine(postgres_ledger, SCHEMA)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
        made = {index["name"] for index in inspect(connection).get_indexes("letter")}
        defaults = {
            (table.name, column["name"]): column["default"]
            for table in metadata.sorted_tables
            for column in inspect(connection).get_columns(table.name)
            if column["default"] and "nextval" not in str(column["default"])
        }
    engine.dispose()
    assert made == {"letter_due", "letter_due_of_profile", "letter_stored", "letter_position"}
    assert set(defaults) == {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.columns
        if column.server_default is not None
    }


def test_a_second_migration_changes_nothing_and_reports_it(postgres: str) -> None:
    assert migrate(postgres, SCHEMA) == f"ledger schema {SCHEMA} migrated from nothing to revision {head()}"
    assert migrate(postgres, SCHEMA) == f"ledger schema {SCHEMA} is at revision {head()}"


def test_migrations_that_begin_at_once_wait_for_each_other(postgres: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        lines = list(pool.map(lambda _: migrate(postgres, SCHEMA), range(4)))
    assert sum("migrated from nothing" in line for line in lines) == 1


def test_two_schemas_of_a_database_are_two_ledgers(postgres: str) -> None:
    migrate(postgres, "one")
    migrate(postgres, "two")
    execute(postgres, "INSERT INTO poison_mark VALUES ('t', 0, 0, 1)", "one")
    assert execute(postgres, "SELECT count(*) FROM poison_mark", "two") == [(0,)]


def test_a_user_without_the_privilege_gets_the_statements_for_an_administrator(postgres: str) -> None:
    execute(postgres, "CREATE ROLE clerk LOGIN", "public")
    try:
        with pytest.raises(Rejected, match=f"CREATE SCHEMA {SCHEMA} AUTHORIZATION"):
            migrate(postgres.replace("postgres@", "clerk@"), SCHEMA)
        execute(postgres, f"CREATE SCHEMA {SCHEMA} AUTHORIZATION clerk", "public")
        assert "migrated" in migrate(postgres.replace("postgres@", "clerk@"), SCHEMA)
    finally:
        execute(postgres, "DROP OWNED BY clerk CASCADE; DROP ROLE clerk", "public")


@async_test
async def test_a_ledger_that_was_not_migrated_is_refused_with_the_way_out(postgres: str) -> None:
    with pytest.raises(Rejected, match="postroom migrate"):
        await PostgresLedger.open(postgres, SCHEMA, LedgerMember(PROFILE, "worker-1"), WINDOW, NOON)


@async_test
async def test_a_ledger_that_a_newer_release_expanded_is_used_as_it_is(postgres_ledger: str) -> None:
    execute(postgres_ledger, f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    execute(postgres_ledger, "ALTER TABLE letter ADD COLUMN colour text")
    assert "newer" in migrate(postgres_ledger, SCHEMA)
    async with working(postgres_ledger):
        pass


@async_test
async def test_a_ledger_that_needs_a_newer_release_is_refused(postgres_ledger: str) -> None:
    execute(postgres_ledger, f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    execute(postgres_ledger, "UPDATE calendar SET floor = '0998'")
    with pytest.raises(Rejected, match="use the newer Postroom"):
        migrate(postgres_ledger, SCHEMA)
    with pytest.raises(Rejected, match="use the newer Postroom"):
        await PostgresLedger.open(postgres_ledger, SCHEMA, LedgerMember(PROFILE, "worker-1"), WINDOW, NOON)


@pytest.mark.parametrize(
    "url", ["mysql://me:secret@host/base", "postgresql://me:secret@host", "me:secret", "sqlite:///secret"]
)
def test_an_invalid_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(Rejected, match="ledger-url") as refused:
        migrate(url, SCHEMA)
    assert "secret" not in str(refused.value)


def test_a_schema_with_special_characters_is_refused() -> None:
    with pytest.raises(Rejected, match="ledger-schema"):
        migrate("postgresql://host/base", 'shop"; DROP TABLE letter')


@async_test
async def test_a_server_that_is_away_is_unavailable_and_no_wrong_setting() -> None:
    url = f"postgresql://me:secret@127.0.0.1:{free_port()}/base"
    with pytest.raises(LedgerUnavailable, match="refused") as away:
        await PostgresLedger.open(url, SCHEMA, LedgerMember(PROFILE, "worker-1"), WINDOW, NOON)
    assert "secret" not in str(away.value)
    with pytest.raises(LedgerUnavailable):
        migrate(url, SCHEMA)


def test_the_revisions_are_numbers_in_order() -> None:
    found = [each.revision for each in ScriptDirectory(str(migrations.HOME)).walk_revisions()]
    assert found == [f"{number:04}" for number in range(len(found), 0, -1)]
    assert head() == found[0]
