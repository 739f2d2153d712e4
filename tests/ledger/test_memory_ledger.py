"""The memory ledger of the tests passes the contract of the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from postroom.ports.ledger import Ledger
from tests.delivery.letters import WINDOW
from tests.ledger.ledger_contract import LedgerContract
from tests.ledger.memory_ledger import MemoryLedger, MemoryStore
from tests.ledger.notification_contract import NotificationContract


@dataclass
class MemoryLives:
    """A process dies when its ledger is dropped."""

    store: MemoryStore = field(default_factory=MemoryStore)

    async def begin(self) -> Ledger:
        return MemoryLedger(self.store, WINDOW)

    async def die(self) -> None:
        pass

    async def attempts(self, row: int) -> Sequence[str]:
        return [one.result for one in self.store.rows[row].history]


class TestMemoryLedger(LedgerContract, NotificationContract):
    @pytest.fixture
    def lives(self) -> MemoryLives:
        return MemoryLives()
