"""Ledgers on a PostgreSQL server for tests: workers that share one, and statements beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import create_engine, text

from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.postgres import PostgresLedger
from tests.delivery.letters import NOON, PROFILE, WINDOW

SCHEMA = "postroom_shop"


def execute(url: str, statement: str, schema: str = SCHEMA) -> list[tuple[object, ...]]:
    """Run a statement as another client would."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET search_path = {schema}"))
            done = connection.execute(text(statement))
            return [tuple(row) for row in done] if done.returns_rows else []
    finally:
        engine.dispose()


async def run_out(url: str) -> None:
    """Let every live lease expire; none is declared dead by it."""
    await asyncio.to_thread(execute, url, "UPDATE worker SET lease_until = least(lease_until, 1)")


def stop(ledger: PostgresLedger) -> None:
    """End a ledger's threads as the death of its process would: without deregistering."""
    ledger._heartbeat.stop()
    ledger._commits.stop()
    ledger._engine.dispose()


@asynccontextmanager
async def working(url: str, name: str = "worker-1", profile: str = PROFILE) -> AsyncIterator[PostgresLedger]:
    """A worker's ledger; dies with the test."""
    ledger = await PostgresLedger.open(url, SCHEMA, LedgerMember(profile, name), WINDOW, NOON)
    try:
        yield ledger
    finally:
        await asyncio.to_thread(stop, ledger)
