"""A PostgreSQL server that goes away, returns, or dies during a commit: no call is lost or guessed."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from postroom.adapters.ledger import database_writer
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.ports.ledger import Claimed, ExistingRow, State
from tests.delivery.async_test import async_test
from tests.delivery.fakes import until
from tests.delivery.letters import NOON, ended, letter
from tests.fixtures.postgres import Server
from tests.ledger.ledger_contract import LATER, claim, find_row, letter_in
from tests.ledger.postgres_ledgers import execute, working

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_writer, "RETRY_SECONDS", 0.05)


@pytest.fixture
def restartable(postgres_server: Server) -> Iterator[Server]:
    """The server; it runs again after the test."""
    yield postgres_server
    if not (postgres_server.folder / "postmaster.pid").exists():
        postgres_server.start()


@pytest.mark.parametrize("how", ["fast", "immediate"])
@async_test
async def test_a_server_that_is_away_holds_every_call_until_it_is_back(
    postgres_ledger: str, restartable: Server, how: str
) -> None:
    async with working(postgres_ledger) as ledger:
        before = await claim(ledger, "before")
        await asyncio.to_thread(restartable.stop, how)
        waiting = asyncio.ensure_future(ledger.fence([before], NOON))
        also = asyncio.ensure_future(ledger.claim([letter("after", 1)], NOON))
        await until(lambda: not ledger.health.ok)
        assert ledger.health.reason
        assert not waiting.done()
        await asyncio.to_thread(restartable.start)
        assert list(await waiting) == [before]
        assert isinstance((await also)[0], Claimed)
        assert (ledger.health.ok, ledger.health.reason) == (True, "")


@async_test
async def test_a_ledger_whose_server_is_away_can_be_closed(postgres_ledger: str, restartable: Server) -> None:
    """Otherwise SIGTERM would wait for an administrator."""
    async with working(postgres_ledger) as ledger:
        await asyncio.to_thread(restartable.stop)
        calling = asyncio.ensure_future(ledger.claim([letter()], NOON))
        await until(lambda: not ledger.health.ok)
        await ledger.close()
        with pytest.raises(Exception, match="connection"):
            await calling


@async_test
async def test_a_session_that_was_ended_is_replaced(postgres_ledger: str) -> None:
    async with working(postgres_ledger) as ledger:
        await claim(ledger)
        kill = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name LIKE 'postroom %' AND datname = current_database()"
        )
        assert await asyncio.to_thread(execute, postgres_ledger, kill) != [(0,)]
        assert (await find_row(ledger)).state is State.CLAIMED


@pytest.mark.parametrize("landed", [True, False])
@async_test
async def test_a_commit_whose_reply_was_lost_is_executed_once(postgres_ledger: str, landed: bool) -> None:
    async with working(postgres_ledger) as ledger:
        with losing_the_answer(ledger, landed):
            [first, again] = await ledger.claim([letter("a"), letter("a", 1)], NOON)
        assert isinstance(first, Claimed)
        assert isinstance(again, ExistingRow)
        assert again.row == first.row
        with losing_the_answer(ledger, landed):
            assert list(await ledger.fence([first], NOON)) == [first]
        with losing_the_answer(ledger, landed):
            await ledger.settle([ended(first, State.DEFERRED, due=LATER)], NOON)
        with losing_the_answer(ledger, landed):
            assert len(await ledger.claim_due(LATER, 10)) == 1
        attempts = await asyncio.to_thread(execute, postgres_ledger, "SELECT result FROM attempt")
        assert attempts == [("deferred",)]
        assert await asyncio.to_thread(execute, postgres_ledger, "SELECT count(*) FROM letter") == [(1,)]
        assert ledger.health.ok


@async_test
async def test_a_take_over_whose_reply_was_lost_is_a_take_over(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as former:
        await letter_in(former, State.SENDING)
    async with working(postgres_ledger, "a") as ledger:
        found = await find_row(ledger)
        with losing_the_answer(ledger, landed=True):
            [taken] = await ledger.take_over([found], LATER)
        assert taken is not None
        assert taken.in_doubt_count == 1
        assert await asyncio.to_thread(execute, postgres_ledger, "SELECT result FROM attempt") == [
            ("in_doubt",)
        ]


@async_test
async def test_groups_that_deadlock_are_both_executed(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        mine, yours = await claim(one, "mine"), await claim(two, "yours")
        found = threading.Barrier(2, timeout=5)

        def crosswise(first: int, second: int) -> Callable[[Any], int]:
            tries = 0

            def work(connection: Any) -> int:
                nonlocal tries
                tries += 1
                for row in (first, second):
                    connection.exec_driver_sql(f"UPDATE letter SET attempts = attempts + 1 WHERE row = {row}")
                    if tries == 1 and row == first:
                        found.wait()
                return tries

            return work

        tries = await asyncio.gather(
            one._commits.run(crosswise(mine.row, yours.row)), two._commits.run(crosswise(yours.row, mine.row))
        )
        assert max(tries) > 1, "one had to do it again; more than once where it was quicker than who waited"
        assert await asyncio.to_thread(execute, postgres_ledger, "SELECT sum(attempts) FROM letter") == [(4,)]
        assert one.health.ok
        assert two.health.ok


@contextmanager
def losing_the_answer(ledger: PostgresLedger, landed: bool) -> Iterator[None]:
    """The connection drops at the next commit: after the server executed it, or before."""
    dialect = ledger._engine.dialect
    done, lost = dialect.do_commit, threading.Event()

    def do_commit(connection: Any) -> None:
        if lost.is_set():
            return done(connection)
        lost.set()
        if landed:
            done(connection)
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("the connection is lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "do_commit", do_commit)
        yield
    assert lost.is_set()
