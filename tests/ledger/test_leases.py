"""Workers that share a ledger: leases, take-overs, one claim for each identity, one retry queue."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import dedupe, deliveries, leases
from postroom.adapters.ledger.leases import LEASE_SECONDS
from postroom.adapters.ledger.postgres import PostgresLedger
from postroom.adapters.ledger.schema import calendar
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import Claimed, ExistingRow, Letter, ReplayConsumed, SharedState, State
from tests.delivery.async_test import async_test
from tests.delivery.letters import DAY, NOON, dead_letter, ended, letter, record
from tests.ledger.ledger_contract import LATER, PROBLEM, add_one, carry, claim, find_row, keep, letter_in
from tests.ledger.postgres_ledgers import execute, run_out, stop, working

pytestmark = pytest.mark.postgres


async def look(url: str, statement: str) -> list[tuple[object, ...]]:
    return await asyncio.to_thread(execute, url, statement)


async def beat(ledger: PostgresLedger) -> None:
    await asyncio.to_thread(ledger._heartbeat.beat)


# --- leases ---


@async_test
async def test_a_claim_of_a_live_worker_is_not_taken_over(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        for state in (State.CLAIMED, State.SENDING):
            await letter_in(one, state, state.value)
            found = await find_row(two, state.value)
            assert (found.state, found.owner_alive) == (state, True)
            assert list(await two.take_over([found], LATER)) == [None]


@async_test
async def test_released_and_deregistered_claims_are_free_at_once(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        await one.release([await claim(one, "released")])
        await claim(one, "left")
        await one._commits.run(lambda c: leases.deregister(c, one._writer.worker_epoch))
        for name in ("released", "left"):
            found = await find_row(two, name)
            assert not found.owner_alive
            assert (await two.take_over([found], LATER))[0] is not None


@async_test
async def test_an_expired_lease_ends_only_when_a_worker_takes_from_it(postgres_ledger: str) -> None:
    """After an outage of the server every lease has expired, and no worker is dead."""
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        mine = await claim(one, "a")
        await run_out(postgres_ledger)
        found = await find_row(two)
        assert not found.owner_alive
        await beat(one)
        assert list(await two.take_over([found], LATER)) == [None]
        assert list(await one.fence([mine], LATER)) == [mine]


@async_test
async def test_a_worker_that_was_declared_dead_registers_again(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        taken, kept = await claim(one, "taken"), await claim(one, "kept")
        before = one._writer.worker_epoch
        await run_out(postgres_ledger)
        await beat(two)
        [got] = await two.take_over([await find_row(two, "taken")], LATER)
        assert got is not None
        await beat(one)
        assert one._writer.worker_epoch > before
        # nothing is sent under the old epoch, not even letters that were not taken over
        assert list(await one.fence([taken, kept], LATER)) == []
        assert list(await two.fence([got], LATER)) == [got]
        again = await find_row(one, "kept")
        assert not again.owner_alive
        [mine] = await one.take_over([again], LATER)
        assert mine is not None
        assert list(await one.fence([mine], LATER)) == [mine]


@async_test
async def test_a_late_reply_settles_only_letters_that_were_not_taken_over(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        taken, kept = [await letter_in(one, State.SENDING, name) for name in ("taken", "kept")]
        await run_out(postgres_ledger)
        await beat(two)
        [got] = await two.take_over([await find_row(two, "taken")], LATER)
        assert got is not None
        assert (got.in_doubt_count, got.was_sending) == (1, True)
        await beat(one)
        await one.settle([ended(taken), ended(kept)], LATER)
        assert one.health.late_settlements == 1
        assert (await find_row(two, "kept")).state is State.ACCEPTED
        assert (await find_row(two, "taken")).state is State.CLAIMED
        attempts = await look(postgres_ledger, f"SELECT result FROM attempt WHERE row = {taken.row}")
        assert sorted(attempts) == [("accepted",), ("in_doubt",)]


@async_test
async def test_a_lease_is_trusted_for_less_time_than_the_database_grants(postgres_ledger: str) -> None:
    asked = monotonic()
    async with working(postgres_ledger) as ledger:
        left = ledger.lease_until - monotonic()
        [[there]] = await look(
            postgres_ledger, "SELECT lease_until - extract(epoch FROM clock_timestamp()) FROM worker"
        )
        assert isinstance(there, float)
        assert 0 < left < LEASE_SECONDS
        assert left < there + (monotonic() - asked)
        until = ledger.lease_until
        await beat(ledger)
        assert ledger.lease_until > until


@async_test
async def test_a_worker_that_cannot_renew_knows_when_its_lease_is_over(
    postgres_ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", leases.MARGIN_SECONDS)
    async with working(postgres_ledger) as ledger:
        assert ledger.lease_until <= monotonic()


@async_test
async def test_a_restarted_worker_need_not_wait_for_its_earlier_lease(
    postgres_ledger: str,
) -> None:
    async with working(postgres_ledger, "pod-7") as former:
        await letter_in(former, State.DEFERRED, "recalled")
        await former.claim_due(LATER, 10)
        await letter_in(former, State.SENDING, "sending")
    async with working(postgres_ledger, "pod-7") as ledger:
        recovery = await ledger.recover(LATER, resend=True)
        assert (recovery.clean, recovery.recalled) == (False, 1)
        found = await find_row(ledger, "sending")
        assert not found.owner_alive
        assert (await ledger.take_over([found], LATER))[0] is not None


# --- recovery ---


@async_test
async def test_recovery_handles_letters_of_dead_workers_only_and_once(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        for name in ("x", "y"):
            await letter_in(one, State.DEFERRED, name)
        first, second = await one.claim_due(LATER, 10)
        await one.fence([carry(second, second.identity.id)], LATER)
        assert (await two.recover(LATER, resend=False)).recalled == 0
        await run_out(postgres_ledger)
        await beat(two)
        recovery = await two.recover(LATER, resend=False)
        assert (recovery.recalled, recovery.in_doubt) == (1, 1)
        again = await two.recover(LATER, resend=False)
        assert (again.recalled, again.in_doubt) == (0, 0)
        assert [each.row for each in await two.claim_due(LATER, 10)] == [first.row]


@async_test
async def test_after_an_outage_no_worker_is_recovered_before_the_grace_time(
    postgres_ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        await letter_in(one, State.DEFERRED)
        await one.claim_due(LATER, 10)
        await run_out(postgres_ledger)
        two._heartbeat._renewed_at -= LEASE_SECONDS + 1  # as if it had not reached the server for that time
        await beat(two)
        assert (await two.recover(LATER, resend=True)).recalled == 0
        two._heartbeat.grace_until = monotonic()
        assert (await two.recover(LATER, resend=True)).recalled == 1


@async_test
async def test_a_worker_whose_lease_was_lost_recalls_nothing_under_it(postgres_ledger: str) -> None:
    """A dead epoch is recovered once: the letter would never be recovered."""
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        await letter_in(one, State.DEFERRED)
        await run_out(postgres_ledger)
        await beat(two)
        await two.recover(LATER, resend=True)
        assert list(await one.claim_due(LATER, 10)) == []
        assert len(await two.claim_due(LATER, 10)) == 1


@async_test
async def test_dead_letters_are_published_by_one_worker_and_survive_it(postgres_ledger: str) -> None:
    problem = Problem(Code.FIELD_INVALID, "x", "y")
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        await one.add_dead_letters(
            [dead_letter(record("1", 1), problem), dead_letter(record("2", 2), problem)]
        )
        assert list(await two.pending_dead_letters(10)) == []
        assert len(await one.pending_dead_letters(10)) == 2
        await run_out(postgres_ledger)
        await beat(two)
        assert len(await two.pending_dead_letters(10)) == 2
        await beat(one)
        assert list(await one.pending_dead_letters(10)) == []


@async_test
async def test_a_refused_record_ends_no_letter_of_a_live_worker(postgres_ledger: str) -> None:
    problem = Problem(Code.FIELD_INVALID, "x", "y")
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        mine = await claim(one, "a", 7)
        await two.add_dead_letters([dead_letter(mine.letter.record, problem)])
        assert (await find_row(two)).state is State.CLAIMED
        await run_out(postgres_ledger)
        await beat(two)
        await two.add_dead_letters([dead_letter(mine.letter.record, problem)])
        assert (await find_row(two)).state is State.FAILED


# --- the retry queue ---


@async_test
async def test_workers_share_the_retry_queue_and_recall_each_letter_once(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        claims = await one.claim([letter(f"letter{n}", n) for n in range(60)], NOON)
        fresh = [each for each in claims if isinstance(each, Claimed)]
        await one.settle([ended(each, State.DEFERRED, due=NOON) for each in fresh], NOON)
        rounds = await asyncio.gather(*(each.claim_due(LATER, 10) for each in (one, two) * 4))
        rows = [recalled.row for each in rounds for recalled in each]
        assert len(rows) == len(set(rows)) == 60


# --- one claim for each identity ---


@async_test
async def test_of_two_concurrent_claims_one_succeeds(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        for turn in range(20):
            names = [f"{turn}-{n}" for n in range(30)]
            await race(one, two, names, names[::-1])
    assert await look(postgres_ledger, "SELECT count(*) FROM letter") == [(600,)]


@async_test
async def test_of_two_claims_at_midnight_one_succeeds(postgres_ledger: str) -> None:
    """The workers' clocks are days apart, and the calendar advances all the time."""
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        finished = asyncio.Event()
        turning = asyncio.create_task(turn_days(one, finished))
        for turn in range(20):
            names = [f"{turn}-{n}" for n in range(30)]
            await race(one, two, names, names[::-1], skew=3 * DAY)
        finished.set()
        # not cancelled: its thread would keep a connection past the end of the pool
        await turning
    assert await look(postgres_ledger, "SELECT count(*) FROM letter") == [(600,)]
    [[buckets]] = await look(postgres_ledger, "SELECT count(DISTINCT bucket) FROM identity")
    assert isinstance(buckets, int)
    assert buckets > 3


async def turn_days(ledger: PostgresLedger, finished: asyncio.Event) -> None:
    """Start a new calendar day every 10 ms, as the heartbeat does at midnight."""
    while not finished.is_set():
        await asyncio.to_thread(_turn, ledger)
        await asyncio.sleep(0.01)


def _turn(ledger: PostgresLedger) -> None:
    tomorrow = update(calendar).values(bucket=calendar.c.bucket + 1)
    with pytest.MonkeyPatch.context() as patch, ledger._engine.begin() as connection:
        patch.setattr(dedupe, "_ADVANCE_DAY", tomorrow)
        dedupe.advance_day(connection, ledger._heartbeat.calendar_key)


async def race(
    one: PostgresLedger,
    two: PostgresLedger,
    names: Sequence[str],
    others: Sequence[str],
    skew: timedelta = timedelta(),
) -> None:
    """Claim the same letters from two workers at the same moment; exactly one gets each."""

    def fresh(names: Sequence[str]) -> list[Letter]:
        return [letter(name, n) for n, name in enumerate(names)]

    first, second = await asyncio.gather(one.claim(fresh(names), NOON), two.claim(fresh(others), NOON + skew))
    rows = {each.letter.identity.id: each.row for each in first if not isinstance(each, ReplayConsumed)}
    winners: dict[str, int] = {}
    for each in (*first, *second):
        assert not isinstance(each, ReplayConsumed)
        name = each.letter.identity.id
        assert each.row == rows[name]
        winners[name] = winners.get(name, 0) + isinstance(each, Claimed)
        if isinstance(each, ExistingRow):
            assert each.owner_alive
    assert set(winners.values()) == {1}


@async_test
async def test_profiles_that_share_a_database_keep_their_letters_apart(postgres_ledger: str) -> None:
    """Another profile has another relay: a letter of a sandbox must not leave through a real one."""
    async with (
        working(postgres_ledger, "a") as ours,
        working(postgres_ledger, "b") as successor,
        working(postgres_ledger, "c", "shop/orders-live") as others,
    ):
        late, lost, done = await ours.claim([letter("late"), letter("lost"), letter("done")], NOON)
        assert isinstance(late, Claimed)
        assert isinstance(lost, Claimed)
        assert isinstance(done, Claimed)
        await ours.settle(
            [ended(late, State.DEFERRED, due=NOON), ended(lost, State.DEFERRED, due=NOON)], NOON
        )
        await ours.settle([ended(done)], NOON)
        assert await others.claim_due(NOON + DAY, 10) == []
        assert await others.prune(NOON + 9 * DAY, 10) == 0
        assert len(await ours.claim_due(NOON + DAY, 10)) == 2
        await asyncio.to_thread(stop, ours)
        await run_out(postgres_ledger)
        assert (await others.recover(NOON, True)).recalled == 0
        assert (await successor.recover(NOON, True)).recalled == 2
        assert await others.claim_due(NOON + DAY, 10) == []
        assert len(await successor.claim_due(NOON + DAY, 10)) == 2
        assert await successor.prune(NOON + 9 * DAY, 10) == 1


@async_test
async def test_a_dead_workers_dead_letters_are_published_by_its_own_profiles_workers(
    postgres_ledger: str,
) -> None:
    async with (
        working(postgres_ledger, "a") as ours,
        working(postgres_ledger, "b") as successor,
        working(postgres_ledger, "c", "shop/orders-live") as others,
    ):
        left = dead_letter(record("one"), PROBLEM)
        await ours.add_dead_letters([left])
        await asyncio.to_thread(stop, ours)
        await run_out(postgres_ledger)
        assert await others.pending_dead_letters(10) == []
        assert [one.dead_letter for one in await successor.pending_dead_letters(10)] == [left]


# --- shared states ---


@async_test
async def test_concurrent_updates_of_a_shared_state_are_all_applied(postgres_ledger: str) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        subjects = ["x", "y"]
        await asyncio.gather(
            *(
                ledger.update_shared(subjects[::step], add_one)
                for ledger in (one, two)
                for step in (1, -1) * 10
            )
        )
        assert list(await one.update_shared(subjects, keep)) == ["40", "40"]


@async_test
async def test_an_expired_shared_state_is_deleted(postgres_ledger: str) -> None:
    async with working(postgres_ledger) as ledger:
        await ledger.update_shared(["old"], lambda *_: SharedState("1", keep_seconds=-1))
        await ledger.update_shared(["new"], lambda *_: SharedState("1", keep_seconds=60))
        await ledger.prune(NOON, 10)
        assert list(await ledger.update_shared(["old", "new"], keep)) == ["", "1"]


@async_test
async def test_due_letters_are_found_by_an_index_of_their_profile(postgres_ledger: str) -> None:
    """The backlog of another profile in the same database is not read."""
    async with working(postgres_ledger) as ledger:
        plan = await ledger._commits.run(_plan_of_due)
    assert "letter_due_of_profile" in plan
    assert "Index Cond: (((profile)::text = 'shop/1'::text) AND (due <=" in plan


def _plan_of_due(connection: Connection) -> str:
    fill = """INSERT INTO letter (row, profile, source, event_id, recipient, event_type, digest, state,
        worker_epoch, replies, attempts, in_doubt_count, due, topic, partition, "offset", event, received_at,
        updated_at)
        SELECT n, 'shop/' || mod(n, 50), '', n, '', '', '', 'deferred', 0, 0, 0, 0, n, '', 0, n, '', 0, 0
        FROM generate_series(1, 5000) n"""
    connection.exec_driver_sql(fill)
    connection.exec_driver_sql("ANALYZE letter")
    asked = deliveries._SELECT_DUE_OF_PROFILE.limit(250).params(now=9999.0, profile="shop/1")
    words = asked.compile(connection, compile_kwargs={"literal_binds": True})
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {words}").scalars())


@pytest.mark.parametrize("hours", [-1, 1])
@async_test
async def test_the_time_is_the_database_s_however_wrong_the_machine_s_clock_is(
    postgres_ledger: str, hours: int
) -> None:
    async with working(postgres_ledger, "a") as one, working(postgres_ledger, "b") as two:
        wall = datetime.now(UTC)
        await beat(one)
        times = [one.now(wall + timedelta(hours=hours)), two.now(wall)]
        ahead = [one.health.clock_ahead, two.health.clock_ahead]
        assert ahead == pytest.approx([3600 * hours, 0], abs=1)
        [[there]] = await look(postgres_ledger, "SELECT extract(epoch FROM clock_timestamp())::float8")
        assert isinstance(there, float)
        assert all(abs(time.timestamp() - there) < 1 for time in times)
