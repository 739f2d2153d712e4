"""Ledgers in memory, on SQLite and on PostgreSQL handle reports in the same way."""

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from postroom.adapters.ledger.administration import LedgerAdministration
from postroom.adapters.ledger.leases import LedgerMember
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.adapters.ledger.reports import SqlReportStore
from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.ports.bounces import ReportStore
from postroom.ports.ledger import State
from postroom.ports.notifications import TOPIC
from postroom.ports.world import LedgerUnavailable
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, PROFILE, WINDOW
from tests.ledger.ledger_contract import LATER, find_row, letter_in
from tests.ledger.memory_reports import MemoryReportStore
from tests.ledger.notification_contract import notify_all
from tests.ledger.postgres_ledgers import SCHEMA, execute, working
from tests.ledger.report_contract import GONE, ReportContract, hand_in, report
from tests.ledger.test_memory_ledger import MemoryLives
from tests.ledger.test_postgres import SharedLives
from tests.ledger.test_sqlite import FileLives


class MemoryReportSetup(MemoryLives):
    def intake(self) -> ReportStore:
        return MemoryReportStore(self.store)


@dataclass
class FileReportSetup(FileLives):
    opened_ledgers: list[ReportStore] = field(default_factory=list)

    def intake(self) -> ReportStore:
        self.opened_ledgers.append(SqlReportStore.open_file(self.path))
        return self.opened_ledgers[-1]


@dataclass
class ServerReportSetup(SharedLives):
    opened_ledgers: list[ReportStore] = field(default_factory=list)

    def intake(self) -> ReportStore:
        self.opened_ledgers.append(SqlReportStore.open_server(self.url, SCHEMA))
        return self.opened_ledgers[-1]


class TestReportsInMemory(ReportContract):
    @pytest.fixture
    def post(self) -> MemoryReportSetup:
        return MemoryReportSetup()


class TestReportsInAFile(ReportContract):
    @pytest.fixture
    def post(self, tmp_path: Path) -> Iterator[FileReportSetup]:
        post = FileReportSetup(tmp_path / "shop.sqlite")
        yield post
        for ledger_ in post.opened_ledgers:
            ledger_.close()
        post.dead_letter()


@pytest.mark.postgres
class TestReportsOnAServer(ReportContract):
    @pytest.fixture
    def post(self, postgres_ledger: str) -> Iterator[ServerReportSetup]:
        post = ServerReportSetup(postgres_ledger)
        yield post
        for ledger_ in post.opened_ledgers:
            ledger_.close()
        post.dead_letter()


@async_test
async def test_an_unparsed_message_is_stored_up_to_a_limit(tmp_path: Path) -> None:
    post = FileReportSetup(tmp_path / "shop.sqlite")
    await letter_in(await post.begin(), State.ACCEPTED)
    junk = replace(report(ReportEntry(ReportKind.UNPARSED)), content=b"\x00\xff" * 50_000)
    hand_in(post.intake(), junk)
    [[content]] = sqlite3.connect(post.path).execute("SELECT content FROM report")
    assert content == (b"\x00\xff" * 50_000)[:65_536]
    post.opened_ledgers[0].close()
    await post.die()


def test_a_report_about_an_erased_person_stores_no_text_and_finds_the_letter(
    tmp_path: Path,
) -> None:
    erase_between_reports(tmp_path)
    assert not [path for path in tmp_path.iterdir() if b"<a@example.net>" in path.read_bytes()]


@async_test
async def erase_between_reports(folder: Path) -> None:
    post = FileReportSetup(folder / "shop.sqlite")
    ledger, intake = await post.begin(), post.intake()
    await letter_in(ledger, State.ACCEPTED)
    entry = replace(GONE, text="550 5.1.1 <a@example.net> unknown", recipients=("b@example.net",))
    hand_in(intake, report(entry))
    junk = ReportEntry(ReportKind.UNPARSED, text="from <a@example.net>")
    hand_in(intake, replace(report(junk, fingerprint="two"), content=b"from <a@example.net>"))
    ledger_ = LedgerAdministration.open_file(post.path)
    erased = ledger_.erase("a@example.net", NOON, dry_run=False)
    assert (erased.letters, erased.reports) == (1, 2)
    assert ledger_.erase("a@example.net", NOON, dry_run=False).reports == 0
    ledger_.close()
    assert hand_in(intake, report(entry)).is_duplicate
    late = [replace(report(each), fingerprint=name) for name, each in (("three", entry), ("four", junk))]
    taken = [hand_in(intake, replace(each, content=b"<a@example.net>")) for each in late]
    assert [(each.changes, each.suppressed) for each in taken] == [((), ())] * 2
    intake.close()
    await post.die()


@pytest.mark.postgres
@async_test
async def test_notifications_of_a_report_belong_to_the_letter_s_own_profile(
    postgres_ledger: str,
) -> None:
    async with working(postgres_ledger) as mine, working(postgres_ledger, "w", "shop/other") as others:
        mine.announce(notify_all)
        await letter_in(mine, State.ACCEPTED)
        ledger_ = SqlReportStore.open_server(postgres_ledger, SCHEMA)
        hand_in(ledger_, report(GONE))
        ledger_.close()
        await asyncio.to_thread(execute, postgres_ledger, "UPDATE notification_outbox SET due = 0")
        assert await others.pending(TOPIC, LATER, 10) == []
        assert await others.abandon([]) == 0
        told_of = [one.id for one in await mine.pending(TOPIC, LATER, 10)]
        assert told_of == ["a-accepted", "a-bounced"]


@pytest.mark.postgres
@async_test
async def test_notifications_of_a_report_without_a_live_worker_belong_to_the_next(
    postgres_ledger: str,
) -> None:
    post = ServerReportSetup(postgres_ledger)
    await letter_in(await post.begin(), State.ACCEPTED)
    await post.die()
    hand_in(post.intake(), report(GONE))
    post.opened_ledgers[0].close()
    member = LedgerMember(PROFILE, "successor")
    successor = await PostgresLedger.open(postgres_ledger, SCHEMA, member, WINDOW, NOON)
    await asyncio.to_thread(execute, postgres_ledger, "UPDATE notification_outbox SET due = 0")
    assert [one.id for one in await successor.pending(TOPIC, LATER, 10)] == ["a-bounced"]
    assert (await find_row(successor)).state is State.BOUNCED
    await successor.close()


def test_a_server_that_is_away_is_unreachable() -> None:
    with pytest.raises(LedgerUnavailable):
        SqlReportStore.open_server("postgresql://absent@127.0.0.1:1/nowhere", SCHEMA)
