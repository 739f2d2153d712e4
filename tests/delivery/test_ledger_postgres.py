"""The ledger on PostgreSQL: the contract, and what only workers that share a server can do."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from sqlalchemy import create_engine, text

from postroom.adapters.ledger.migrations import migrate
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.ports.ledger import Ledger
from tests.delivery.ledger_contract import LedgerContract
from tests.delivery.letters import NOON, WINDOW

pytestmark = pytest.mark.postgres
SCHEMA = "postroom_shop"


@dataclass
class SharedLives:
    """A process dies with its threads stopped and nothing signed off; then its lease runs out."""

    url: str
    living: list[PostgresLedger] = field(default_factory=list)
    begun: int = 0

    async def begin(self) -> Ledger:
        self.begun += 1
        ledger = await PostgresLedger.open(self.url, SCHEMA, f"worker-{self.begun}", WINDOW, NOON)
        self.living.append(ledger)
        return ledger

    async def die(self) -> None:
        while self.living:
            await asyncio.to_thread(stop, self.living.pop())
        await asyncio.to_thread(execute, self.url, "UPDATE worker SET lease_until = least(lease_until, 1)")

    async def attempts(self, row: int) -> Sequence[str]:
        found = await asyncio.to_thread(
            execute, self.url, f"SELECT result FROM attempt WHERE row = {row} ORDER BY id"
        )
        return [str(result) for (result,) in found]

    def bury(self) -> None:
        """Stop what a test left running; its event loop has ended by now."""
        for ledger in self.living:
            stop(ledger)


def stop(ledger: PostgresLedger) -> None:
    """End a ledger's threads as the end of its process would."""
    ledger._heart.stop()
    ledger._writer._jobs.put(None)
    ledger._writer._thread.join()
    ledger._engine.dispose()


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run a statement as somebody else would."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET search_path = {SCHEMA}"))
            done = connection.execute(text(statement))
            return [tuple(row) for row in done] if done.returns_rows else []
    finally:
        engine.dispose()


@pytest.fixture
def url(postgres: str) -> str:
    """A ledger that was migrated."""
    migrate(postgres, SCHEMA)
    return postgres


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    def lives(self, url: str) -> Iterator[SharedLives]:
        lives = SharedLives(url)
        yield lives
        lives.bury()
