"""The SQLite ledger: the contract, and what only a file can do."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from postroom.adapters.ledger import database_writer
from postroom.adapters.ledger.reader import FileLedgerReader
from postroom.adapters.ledger.rows import RowKeys
from postroom.adapters.ledger.schema import VERSION
from postroom.adapters.ledger.sqlite import SqliteLedger
from postroom.letter.problems import Code, Problem, Rejected
from postroom.ports.ledger import Attempt, Claimed, ExistingRow, Ledger, State
from postroom.ports.relay import Stage
from tests.delivery.async_test import async_test
from tests.delivery.fakes import until
from tests.delivery.letters import DAY, NOON, WINDOW, dead_letter, ended, letter, record
from tests.ledger.file_ledgers import prepared
from tests.ledger.ledger_contract import LedgerContract
from tests.ledger.notification_contract import NotificationContract


@dataclass
class FileLives:
    """A process dies with its thread stopped, its lock released and without deregistering."""

    path: Path
    living: list[SqliteLedger] = field(default_factory=list)

    async def begin(self) -> Ledger:
        ledger = await SqliteLedger.open(prepared(self.path), WINDOW, NOON)
        self.living.append(ledger)
        return ledger

    async def die(self) -> None:
        while self.living:
            ledger = self.living.pop()
            if ledger._lock.closed:
                continue  # it ended in order
            await ledger._commits.finish(lambda _: None)
            ledger._engine.dispose()
            ledger._lock.close()

    async def attempts(self, row: int) -> Sequence[str]:
        with FileLedgerReader(self.path) as reader:
            return [one.result for one in reader._attempts(row)]

    def dead_letter(self) -> None:
        """Stop the ledgers that a test left running; its event loop has ended."""
        for ledger in self.living:
            ledger._commits.stop()
            ledger._engine.dispose()
            ledger._lock.close()


class TestSqliteLedger(LedgerContract, NotificationContract):
    @pytest.fixture
    def lives(self, tmp_path: Path) -> Iterator[FileLives]:
        lives = FileLives(tmp_path / "ledger.sqlite")
        yield lives
        lives.dead_letter()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = await SqliteLedger.open(path, WINDOW, NOON)
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / "shop.sqlite"


@async_test
async def test_a_second_process_on_the_file_is_refused_with_the_way_out(path: Path) -> None:
    async with opened(path):
        with pytest.raises(Rejected, match="a SQLite ledger has one worker") as refused:
            await SqliteLedger.open(path, WINDOW, NOON)
    assert refused.value.code is Code.LEDGER_IN_USE
    async with opened(path):
        pass  # the lock ends with its process


@async_test
async def test_a_ledger_of_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    async with opened(path):
        pass
    execute(path, f"PRAGMA user_version = {VERSION + 1}")
    for _ in range(2):  # a refusal holds no lock
        with pytest.raises(Rejected, match="use the newer Postroom") as refused:
            await SqliteLedger.open(path, WINDOW, NOON)
        assert refused.value.code is Code.SETTING_INVALID


@async_test
async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    await asyncio.to_thread(path.write_text, "Dear diary, " * 100)
    with pytest.raises(Rejected, match="not a database") as refused:
        await SqliteLedger.open(path, WINDOW, NOON)
    assert refused.value.problems[0].field == "POSTROOM_LEDGER"


@async_test
async def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Rejected, match="POSTROOM_LEDGER") as refused:
        await SqliteLedger.open(tmp_path / "file" / "ledger.sqlite", WINDOW, NOON)
    assert refused.value.code is Code.SETTING_INVALID


@async_test
async def test_a_file_name_with_characters_of_a_url_is_a_file_name(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20d.sqlite"
    async with opened(path) as ledger:
        await ledger.claim([letter()], NOON)
        with FileLedgerReader(path) as reader:
            assert reader.counts() == {"claimed": 1}
    made = await asyncio.to_thread(lambda: {each.name for each in tmp_path.iterdir()})
    assert made == {path.name, f"{path.name}.lock"}


@async_test
async def test_calls_that_wait_together_are_committed_together(path: Path) -> None:
    async with opened(path) as ledger:
        await asyncio.gather(*(ledger.claim([letter(f"letter{n}", n)], NOON) for n in range(200)))
        assert ledger.health.commits <= 200 / 10
        assert ledger.health.rows == 200


@async_test
async def test_the_effect_of_a_call_is_on_disk_when_it_returns(path: Path) -> None:
    async with opened(path) as ledger:
        [claimed] = await ledger.claim([letter()], NOON)
        assert isinstance(claimed, Claimed)
        assert execute(path, "SELECT state FROM letter") == [("claimed",)]
        await ledger.fence([claimed], NOON)
        assert execute(path, "SELECT state FROM letter") == [("sending",)]
        await ledger.settle([ended(claimed)], NOON)
        assert execute(path, "SELECT state, event FROM letter") == [("accepted", None)]
        assert ledger._engine.raw_connection().execute("PRAGMA synchronous").fetchone() == (2,)


@async_test
async def test_only_a_row_that_waits_keeps_its_event(path: Path) -> None:
    async with opened(path) as ledger:
        for state in State:
            [claimed] = await ledger.claim([letter(state.value)], NOON)
            assert isinstance(claimed, Claimed)
            await ledger.settle([ended(claimed, state, due=NOON)], NOON)
    kept = {state for (state,) in execute(path, "SELECT state FROM letter WHERE event IS NOT NULL")}
    assert kept == {"deferred", "scheduled", "in_doubt"}


@async_test
async def test_a_full_disk_holds_the_call_until_there_is_space(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_writer, "RETRY_SECONDS", 0.01)
    async with opened(path) as ledger:
        await fill(ledger)
        calling = asyncio.ensure_future(ledger.claim([letter(f"letter{n}", n) for n in range(500)], NOON))
        await until(lambda: not ledger.health.ok)
        assert "full" in ledger.health.reason
        assert not calling.done()
        await limit(ledger, 1_000_000)
        assert len(await calling) == 500
        assert (ledger.health.ok, ledger.health.reason) == (True, "")
    assert execute(path, "SELECT count(*) FROM letter") == [(500,)]


@async_test
async def test_a_ledger_on_a_full_disk_can_be_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise SIGTERM would wait for an administrator. Unwritten records come again from the topic."""
    monkeypatch.setattr(database_writer, "RETRY_SECONDS", 0.01)
    async with opened(path) as ledger:
        await fill(ledger)
        calling = asyncio.ensure_future(ledger.claim([letter(f"letter{n}", n) for n in range(500)], NOON))
        await until(lambda: not ledger.health.ok)
    with pytest.raises(Exception, match="full"):
        await calling
    async with opened(path) as ledger:
        assert isinstance((await ledger.claim([letter("letter1", 1)], NOON))[0], Claimed)


@async_test
async def test_an_error_that_does_not_pass_reaches_the_caller(path: Path) -> None:
    async with opened(path) as ledger:
        with pytest.raises(ZeroDivisionError):
            await ledger._commits.run(lambda _: 1 // 0)
        assert len(await ledger.claim([letter()], NOON)) == 1


@async_test
async def test_an_error_of_the_database_names_no_address(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.claim([letter("ada")], NOON)
        ledger._writer.row_keys._last = 0  # the same key is made again
        with pytest.raises(IntegrityError) as failed:
            await ledger.claim([letter("grace")], NOON)
    assert "grace" not in str(failed.value)


def test_row_keys_are_in_the_order_of_arrival_within_a_millisecond() -> None:
    keys = RowKeys(1025)
    at = NOON.timestamp()
    made = [keys.next(at) for _ in range(5000)] + [keys.next(at - 3600), keys.next(at + 3600)]
    assert made == sorted(set(made))
    assert max(made) < 1 << 63


@async_test
async def test_a_reader_finds_a_letter_by_ids_and_recipient_while_a_worker_runs(path: Path) -> None:
    async with opened(path) as ledger:
        one = letter("a", user_id="user-7", request_id="request-9", recipient="Ann@example.net")
        claimed, _ = await ledger.claim([one, letter("b", 1)], NOON)
        assert isinstance(claimed, Claimed)
        await ledger.fence([claimed], NOON)
        problem = Problem(Code.RELAY_DEFERRED, "smtp.rcpt", "the relay answered 451 no")
        await ledger.settle([ended(claimed, State.DEFERRED, problem=problem, due=NOON + DAY)], NOON)
        await ledger.add_dead_letters([dead_letter(record(), problem)])
        with FileLedgerReader(path) as reader:
            assert reader.counts() == {"deferred": 1, "claimed": 1}
            assert reader.pending_dead_letters() == 1
            assert [view.event_id for view in reader.latest()] == ["b", "a"]
            assert [view.event_id for view in reader.latest(1)] == ["b"]
            assert list(reader.find("nobody")) == []
            for wanted in ("a", " ann@EXAMPLE.net ", "<a@example.com>", "user-7", "request-9"):
                [view] = reader.find(wanted)
                assert (view.row, view.state, view.due) == (claimed.row, "deferred", NOON + DAY)
                assert (view.code, view.reply) == ("relay_deferred", "250 2.0.0 queued")
                assert [tried.result for tried in view.attempts] == ["deferred"]
                assert view.attempts[0].at == view.updated == NOON


@async_test
async def test_a_known_letter_is_found_by_its_whole_identity(path: Path) -> None:
    async with opened(path) as ledger:
        [first] = await ledger.claim([letter("a")], NOON)
        assert isinstance(first, Claimed)
        [other] = await ledger.claim([letter("a", 1, recipient="b@example.net")], NOON)
        [known] = await ledger.claim([letter("a", 2)], NOON)
    assert isinstance(other, Claimed)
    assert isinstance(known, ExistingRow)
    assert known.row == first.row


@async_test
async def test_an_identity_is_deleted_with_its_letter_and_a_waiting_one_moves(path: Path) -> None:
    async with opened(path) as ledger:
        sent, waits = await ledger.claim([letter("a"), letter("b")], NOON)
        assert isinstance(sent, Claimed)
        assert isinstance(waits, Claimed)
        scheduled = ended(waits, State.SCHEDULED, due=NOON + 30 * DAY)
        await ledger.settle([ended(sent), scheduled], NOON)
        assert await ledger.prune(NOON + 2 * DAY, 100) == 1
        day = int(NOON.timestamp() // 86_400)
        assert execute(path, "SELECT bucket, row FROM identity") == [(day + 10, waits.row)]


@async_test
async def test_the_slot_of_an_identity_without_a_letter_is_free(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.claim([letter("a")], NOON)
        execute(path, "DELETE FROM letter")
        [again] = await ledger.claim([letter("a", 1)], NOON)
        assert isinstance(again, Claimed)
        assert execute(path, "SELECT row FROM identity") == [(again.row,)]


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Run a statement as another process would."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def limit(ledger: SqliteLedger, pages: int) -> None:
    """Limit the size of the file: beyond it SQLite raises `database or disk is full`."""
    raw: Callable[..., object] = ledger._engine.raw_connection().execute
    await asyncio.to_thread(raw, f"PRAGMA max_page_count = {pages}")


async def fill(ledger: SqliteLedger) -> None:
    await limit(ledger, 1)  # SQLite does not go below the present size


@async_test
async def test_the_relay_of_an_attempt_is_recorded(path: Path) -> None:
    async with opened(path) as ledger:
        for name, relay in (("own", ""), ("other", "shop/spare")):
            [claimed] = await ledger.claim([letter(name)], NOON)
            assert isinstance(claimed, Claimed)
            attempt = Attempt("accepted", Stage.END_OF_DATA, 250, "ok", relay)
            await ledger.settle([ended(claimed, attempt=attempt)], NOON)
    assert execute(path, "SELECT relay FROM attempt ORDER BY id") == [(None,), ("shop/spare",)]
