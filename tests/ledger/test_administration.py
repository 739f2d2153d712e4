"""Ledgers on SQLite and PostgreSQL pass the contract of administration while a worker uses them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.adapters.ledger.postgres_server import ledger_engine
from postroom.adapters.ledger.schema import TABLES_OF_A_FILE, VERSION
from postroom.letter.problems import Rejected
from postroom.ports.ledger import State
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON
from tests.ledger.administration_contract import AdministrationContract
from tests.ledger.ledger_contract import letter_in
from tests.ledger.postgres_ledgers import SCHEMA
from tests.ledger.test_postgres import SharedLives
from tests.ledger.test_sqlite import FileLives


def all_of(made: Engine) -> str:
    """Every value of every table."""
    with made.connect() as connection:
        rows = [row for table in TABLES_OF_A_FILE for row in connection.execute(table.select())]
    made.dispose()
    return "\n".join(str(tuple(row)) for row in rows)


@dataclass
class FileSetup(FileLives):
    opened_ledgers: list[LedgerAdministration] = field(default_factory=list)

    def administration(self) -> LedgerAdministration:
        self.opened_ledgers.append(LedgerAdministration.open_file(self.path))
        return self.opened_ledgers[-1]

    def everything(self) -> str:
        return all_of(create_engine(f"sqlite:///{self.path}"))


@dataclass
class ServerSetup(SharedLives):
    opened_ledgers: list[LedgerAdministration] = field(default_factory=list)

    def administration(self) -> LedgerAdministration:
        self.opened_ledgers.append(LedgerAdministration.open_server(self.url, SCHEMA))
        return self.opened_ledgers[-1]

    def everything(self) -> str:
        return all_of(ledger_engine(self.url, SCHEMA))


class TestAdministrationOfAFile(AdministrationContract):
    @pytest.fixture
    def setup(self, tmp_path: Path) -> Iterator[FileSetup]:
        setup = FileSetup(tmp_path / "shop.sqlite")
        yield setup
        for ledger_ in setup.opened_ledgers:
            ledger_.close()
        setup.dead_letter()

    @async_test
    async def test_erased_text_is_in_no_byte_of_the_file(self, setup: FileSetup) -> None:
        ledger, ledger_ = await setup.begin(), setup.administration()
        await letter_in(ledger, State.DEFERRED)
        ledger_.erase("a@example.net", NOON, dry_run=False)
        await ledger.close()
        assert not [path for path in setup.path.parent.iterdir() if b"a@example.net" in path.read_bytes()]


@pytest.mark.postgres
class TestAdministrationOnAServer(AdministrationContract):
    @pytest.fixture
    def setup(self, postgres_ledger: str) -> Iterator[ServerSetup]:
        setup = ServerSetup(postgres_ledger)
        yield setup
        for ledger_ in setup.opened_ledgers:
            ledger_.close()
        setup.dead_letter()


def test_a_file_of_another_schema_is_refused_and_unchanged(tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
    with made.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA user_version = {VERSION - 1}")
    made.dispose()
    with pytest.raises(Rejected, match="start its worker"):
        LedgerAdministration.open_file(tmp_path / "old.sqlite")
