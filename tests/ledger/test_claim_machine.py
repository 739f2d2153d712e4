"""The claim machine on each ledger: in memory, on SQLite, and on PostgreSQL with two workers."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.ports.ledger import Ledger
from tests.delivery.letters import NOON, PROFILE, WINDOW
from tests.fixtures.postgres import Server
from tests.ledger.claim_machine import ClaimMachine, Workers
from tests.ledger.ledger_contract import Lives
from tests.ledger.postgres_ledgers import SCHEMA, execute, run_out, stop
from tests.ledger.test_memory_ledger import MemoryLives
from tests.ledger.test_sqlite import FileLives


class SingleWorker:
    """One worker, which loses its claims only when it dies."""

    remembers = False

    def __init__(self, lives: Lives) -> None:
        self.ledgers: list[Ledger] = []
        self._lives = lives

    async def begin(self) -> None:
        self.ledgers = [await self._lives.begin()]

    async def lose_lease(self, place: int) -> None:
        await self._lives.die()
        await self.begin()

    async def wake(self, place: int) -> None:
        pass

    async def attempts(self, row: int) -> Sequence[str]:
        return await self._lives.attempts(row)

    async def end(self) -> None:
        await self._lives.die()


class TwoWorkers:
    """Two workers on one PostgreSQL. A worker that loses its lease stops and continues later."""

    remembers = True

    def __init__(self, url: str) -> None:
        self.ledgers: list[Ledger] = []
        self._url = url
        self._workers: list[PostgresLedger] = []

    async def begin(self) -> None:
        for name in ("one", "two"):
            member = LedgerMember(PROFILE, name)
            self._workers.append(await PostgresLedger.open(self._url, SCHEMA, member, WINDOW, NOON))
        self.ledgers = [*self._workers]

    async def lose_lease(self, place: int) -> None:
        await run_out(self._url)
        await self.wake(1 - place)

    async def wake(self, place: int) -> None:
        await asyncio.to_thread(self._workers[place]._heartbeat.beat)

    async def attempts(self, row: int) -> Sequence[str]:
        query = f"SELECT result FROM attempt WHERE row = {row}"
        return [str(result) for (result,) in await asyncio.to_thread(execute, self._url, query)]

    async def end(self) -> None:
        for worker in self._workers:
            await asyncio.to_thread(stop, worker)


class InMemory(ClaimMachine):
    def make_workers(self) -> Workers:
        return SingleWorker(MemoryLives())


class OnDisk(ClaimMachine):
    def make_workers(self) -> Workers:
        self.folder = tempfile.TemporaryDirectory()
        return SingleWorker(FileLives(Path(self.folder.name, "ledger.sqlite")))

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "folder"):
                self.folder.cleanup()


TestInMemory = pytest.mark.searches(InMemory.TestCase)
TestInMemory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestOnDisk = pytest.mark.searches(OnDisk.TestCase)
TestOnDisk.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


@pytest.mark.postgres
def test_on_postgresql_two_workers_double_nothing_without_a_doubt(
    postgres_server: Server, migrated: str
) -> None:
    class OnPostgres(ClaimMachine):
        def make_workers(self) -> Workers:
            self.url = postgres_server.database(like=migrated)
            return TwoWorkers(self.url)

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                if hasattr(self, "url"):
                    postgres_server.drop(self.url)

    run_state_machine_as_test(
        OnPostgres, settings=settings(max_examples=30, stateful_step_count=15, deadline=None)
    )
