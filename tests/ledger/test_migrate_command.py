"""`postroom migrate` as a process on a real PostgreSQL: exit status and output."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.adapters.ledger.migrations import VERSION_TABLE, head
from tests.fixtures.postgres import Server, free_port
from tests.ledger.postgres_ledgers import SCHEMA, execute

pytestmark = pytest.mark.postgres
SECONDS = "3"


@dataclass
class Ended:
    """Exit status and output."""

    code: int
    output: str


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The folder of a connections Secret."""
    return tmp_path


def migrate(secret: Path, url: str = "", **more: str) -> Ended:
    """Run it with a Secret that names this database."""
    if url:
        (secret / "ledger-url").write_text(url)
        (secret / "ledger-schema").write_text(SCHEMA)
    notify_all = {
        "POSTROOM_CONNECTIONS": str(secret),
        "POSTROOM_MIGRATE_SECONDS": SECONDS,
        "POSTROOM_LOG_FORMAT": "console",
        **more,
    }
    command = [sys.executable, "-m", "postroom", "migrate"]
    done = subprocess.run(
        command, env=os.environ | notify_all, capture_output=True, text=True, timeout=90, check=False
    )
    return Ended(done.returncode, done.stdout + done.stderr)


def test_it_ends_with_0_when_the_schema_is_there_and_says_what_it_did(secret: Path, postgres: str) -> None:
    first, second = migrate(secret, postgres), migrate(secret, postgres)
    assert (first.code, second.code) == (0, 0)
    assert f"migrated from nothing to revision {head()}" in first.output
    assert f"is at revision {head()}" in second.output


def test_without_a_secret_it_ends_with_0_and_leaves_it_to_the_worker(secret: Path) -> None:
    ended = migrate(secret)
    assert ended.code == 0
    assert "connections Secret not usable; the worker will migrate" in ended.output


def test_a_server_that_is_away_is_1_with_the_servers_address(secret: Path) -> None:
    port = free_port()
    ended = migrate(secret, f"postgresql://post:s3cret@127.0.0.1:{port}/post")
    assert ended.code == 1
    assert f"was not reachable within {SECONDS} s: connection failed" in ended.output
    assert f"port {port}" in ended.output
    assert "Traceback" not in ended.output


@pytest.fixture
def guarded(postgres_server: Server, postgres: str) -> Iterator[str]:
    """The URL of a database for a role that needs its password, `right`."""
    execute(
        postgres, "CREATE ROLE locked LOGIN PASSWORD 'right'; GRANT ALL ON SCHEMA public TO locked", "public"
    )
    rules = postgres_server.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + before)
    execute(postgres, "SELECT pg_reload_conf()", "public")
    yield postgres.replace("postgres@", "locked:right@")
    rules.write_text(before)
    execute(postgres, "SELECT pg_reload_conf(); DROP OWNED BY locked; DROP ROLE locked", "public")


def test_a_wrong_password_is_1_and_is_not_printed(secret: Path, guarded: str) -> None:
    ended = migrate(secret, guarded.replace("right@", "wr0ng@"))
    assert ended.code == 1
    assert 'password authentication failed for user "locked"' in ended.output
    assert "wr0ng" not in ended.output
    assert "Traceback" not in ended.output


def test_a_user_who_may_not_make_the_schema_is_1_with_the_way_out(secret: Path, guarded: str) -> None:
    ended = migrate(secret, guarded)
    assert ended.code == 1
    assert f"CREATE SCHEMA {SCHEMA} AUTHORIZATION" in ended.output


def test_a_database_that_is_not_there_is_1_by_its_name(secret: Path, postgres: str) -> None:
    ended = migrate(secret, postgres + "_gone")
    assert ended.code == 1
    assert '_gone" does not exist' in ended.output


def test_a_ledger_that_needs_a_newer_release_is_1_and_stays_as_it_is(
    secret: Path, postgres_ledger: str
) -> None:
    execute(postgres_ledger, f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    execute(postgres_ledger, "UPDATE calendar SET floor = '0998'")
    ended = migrate(secret, postgres_ledger)
    assert ended.code == 1
    assert f"this one knows {head()}: use the newer Postroom" in ended.output
    assert execute(postgres_ledger, f"SELECT version_num FROM {VERSION_TABLE}") == [("0999",)]


def test_tables_of_another_application_in_the_schema_are_1_and_stay(secret: Path, postgres: str) -> None:
    execute(postgres, f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.letter (love text)", "public")
    ended = migrate(secret, postgres)
    assert ended.code == 1
    assert "name another schema" in ended.output
    assert "Traceback" not in ended.output
    tables = f"SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}'"
    assert execute(postgres, tables) == [("letter",)]


def test_a_setting_that_cannot_be_read_is_2_by_its_name(secret: Path) -> None:
    ended = migrate(secret, POSTROOM_MIGRATE_SECONDS="soon")
    assert ended.code == 2
    assert "POSTROOM_MIGRATE_SECONDS" in ended.output
