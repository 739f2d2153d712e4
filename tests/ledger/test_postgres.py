"""The ledger on PostgreSQL passes the contract of the ledger."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.ports.ledger import Ledger
from tests.delivery.letters import NOON, PROFILE, WINDOW
from tests.ledger.ledger_contract import LedgerContract
from tests.ledger.notification_contract import NotificationContract
from tests.ledger.postgres_ledgers import SCHEMA, execute, run_out, stop

pytestmark = pytest.mark.postgres


@dataclass
class SharedLives:
    """A process dies with its threads stopped and without deregistering; then its lease expires."""

    url: str
    living: list[PostgresLedger] = field(default_factory=list)
    begun: int = 0

    async def begin(self) -> Ledger:
        self.begun += 1
        member = LedgerMember(PROFILE, f"worker-{self.begun}")
        ledger = await PostgresLedger.open(self.url, SCHEMA, member, WINDOW, NOON)
        self.living.append(ledger)
        return ledger

    async def die(self) -> None:
        while self.living:
            await asyncio.to_thread(stop, self.living.pop())
        await run_out(self.url)

    async def attempts(self, row: int) -> Sequence[str]:
        found = await asyncio.to_thread(
            execute, self.url, f"SELECT result FROM attempt WHERE row = {row} ORDER BY id"
        )
        return [str(result) for (result,) in found]

    def dead_letter(self) -> None:
        """Stop the ledgers that a test left running; its event loop has ended."""
        for ledger in self.living:
            stop(ledger)


class TestPostgresLedger(LedgerContract, NotificationContract):
    @pytest.fixture
    def lives(self, postgres_ledger: str) -> Iterator[SharedLives]:
        lives = SharedLives(postgres_ledger)
        yield lives
        lives.dead_letter()
