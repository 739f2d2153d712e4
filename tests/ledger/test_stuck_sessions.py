"""A worker that is stopped in the middle of a transaction, and how other workers end its session."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from postroom.adapters.ledger import database_writer, leases, postgres_server
from postroom.adapters.ledger.leases import MAX_SESSION_NAME, LedgerMember, session_name
from postroom.ports.ledger import State
from tests.delivery.async_test import async_test
from tests.delivery.letters import PROFILE
from tests.fixtures.pipeline import wait_until
from tests.ledger.ledger_contract import LATER, claim, find_row, letter_in
from tests.ledger.postgres_ledgers import SCHEMA, execute, run_out, working

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction is old at once, and a refused group is repeated soon."""
    monkeypatch.setattr(leases, "STUCK_SECONDS", 0.0)
    monkeypatch.setattr(database_writer, "RETRY_SECONDS", 0.05)


@contextmanager
def stopped(url: str, row: int, schema: str = SCHEMA) -> Iterator[Callable[[], bool]]:
    """Worker `a`, stopped between two statements of a pipeline with a row lock; yields whether it has it."""
    called = session_name(schema, LedgerMember(PROFILE, "a").process)
    with closing(psycopg.connect(url, autocommit=True, application_name=called)) as connection:
        connection.execute(f"SET search_path = {SCHEMA}")
        connection.execute("SET idle_in_transaction_session_timeout = 1")  # not applied within a pipeline
        line, backend = connection.pgconn, connection.info.backend_pid
        line.enter_pipeline_mode()
        line.send_query_params(f"UPDATE letter SET attempts = attempts WHERE row = {row}".encode(), [])
        line.flush()
        locks = f"SELECT 1 FROM pg_locks WHERE relation = 'letter'::regclass AND pid = {backend}"
        wait_until(lambda: bool(execute(url, locks)), "the lock")
        yield lambda: bool(execute(url, locks))


async def held_up(url: str) -> None:
    """Return when a session waits for a lock."""
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
    await asyncio.to_thread(wait_until, lambda: bool(execute(url, waits)), "a session that waits for a lock")


@async_test
async def test_the_locks_of_a_stopped_worker_are_released_when_its_lease_expires(
    postgres_ledger: str,
) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        mine = await letter_in(one, State.SENDING)
        one._heartbeat.stop()
        with stopped(postgres_ledger, mine.row) as holds:
            await run_out(postgres_ledger)
            found = await find_row(two)
            taking = asyncio.ensure_future(two.take_over([found], LATER))
            await held_up(postgres_ledger)
            await asyncio.to_thread(two._heartbeat.beat)
            [taken] = await taking
            assert taken is not None
            assert taken.in_doubt_count == 1
            assert not holds()


@async_test
async def test_a_worker_that_waits_for_anothers_lock_keeps_its_own_lease(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        mine = await claim(one)
        await one.release([mine])
        with stopped(postgres_ledger, mine.row):
            taking = asyncio.ensure_future(two.take_over([await find_row(two)], LATER))
            await held_up(postgres_ledger)
            until = two.lease_until
            await asyncio.to_thread(two._heartbeat.beat)
            assert two.lease_until > until
            assert not taking.done()
        assert (await taking)[0] is not None


@async_test
async def test_the_transaction_of_a_live_worker_is_not_ended(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        mine = await claim(one)
        with stopped(postgres_ledger, mine.row) as holds:
            await asyncio.to_thread(two._heartbeat.beat)
            assert holds()


@async_test
async def test_a_session_of_another_schema_is_not_ended(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "b") as two:
        mine = await claim(two)
        with stopped(postgres_ledger, mine.row, schema="postroom_other") as holds:
            await asyncio.to_thread(two._heartbeat.beat)
            assert holds()


@async_test
async def test_every_session_of_a_worker_has_its_name(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "pod-7") as ledger:
        await claim(ledger)
        await asyncio.to_thread(ledger._heartbeat.beat)
        ours = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE '%pod-7'"
        named = await asyncio.to_thread(execute, postgres_ledger, ours)
        assert named == [(session_name(SCHEMA, LedgerMember(PROFILE, "pod-7").process),)]


def test_a_session_name_is_as_the_server_keeps_it() -> None:
    names = {
        session_name(schema, LedgerMember(PROFILE, worker).process)
        for schema in ("postroom_a", "postroom_b")
        for worker in ("worker-1", "worker-2", "wörker-" + "x" * 300)
    }
    assert len(names) == 6
    assert all(len(name) <= MAX_SESSION_NAME and name.isascii() for name in names)


def test_keepalives_are_set_so_that_the_server_notices_a_lost_machine(postgres_ledger: str) -> None:
    engine = postgres_server.ledger_engine(postgres_ledger, SCHEMA)
    with engine.connect() as connection:
        notify_all = connection.exec_driver_sql(
            "SELECT current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout'), "
            "current_setting('idle_in_transaction_session_timeout')"
        ).one()
    engine.dispose()
    assert tuple(notify_all) == ("5", "10000", "15s")
