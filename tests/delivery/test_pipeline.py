"""The way of a batch on fakes: what becomes of each record, and which offsets are done by it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from postroom.delivery.context import DeliveryPolicy
from postroom.delivery.pipeline import deliver
from postroom.letter.catalog import SenderMailbox
from postroom.letter.event import LATE_REPLAY_HEADER, REPLAY_HEADER, Record
from postroom.letter.problems import Code, Problem, Rejected
from postroom.policy.outcomes import Progress
from postroom.ports.ledger import Claimed, ExistingRow, State
from postroom.ports.relay import Lost, Reply, Stage
from tests.delivery.async_test import async_test
from tests.delivery.fakes import FakeRelay, PlainTemplate, Shelf, until
from tests.delivery.letters import DAY, HOUSE, KIND, NOON, POLICY, TOPIC, WINDOW, record
from tests.delivery.pipeline_harness import Bench, offsets
from tests.ledger.memory_ledger import MemoryLedger

PARK = replace(HOUSE, retry=replace(POLICY, on_in_doubt="Park"))
A = "a@example.net"
LATER = Reply(Stage.RCPT, 451, "4.7.1 greylisted")
NEVER = Reply(Stage.RCPT, 550, "5.1.1 no such user")
DROPPED = Lost(Stage.END_OF_DATA, end_of_data_sent=True, reason="connection reset")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@async_test
async def test_a_letter_that_the_relay_took_is_done(bench: Bench) -> None:
    progress = await bench.carry(record())
    assert bench.relay.carried == [A]
    assert (bench.state(), bench.row().replies, bench.row().attempts) == (State.ACCEPTED, 1, 1)
    assert offsets(progress.finished()) == [0]


@async_test
async def test_a_letter_that_a_sandbox_took_is_captured(bench: Bench) -> None:
    bench.policy = replace(HOUSE, retry=replace(POLICY, accepted_as=State.CAPTURED))
    await bench.carry(record())
    assert bench.state() is State.CAPTURED


@async_test
async def test_bad_records_become_dead_letters_and_their_neighbours_pass(bench: Bench) -> None:
    bad = [
        Record(TOPIC, 0, 1, NOON, None, b"\xff\xfe"),
        Record(TOPIC, 0, 2, NOON, None, b"[" * 100_000),
        record("no recipient", 3, recipient=None),
        record("b", 4, at=NOON - timedelta(seconds=WINDOW + 1)),
        record("c", 7, at=NOON + 2 * DAY),
    ]
    tombstone = Record(TOPIC, 0, 5, NOON, b"k", None)
    progress = await bench.carry(record("a", 0), *bad, tombstone, record("z", 6))
    assert bench.relay.carried == [A, "z@example.net"]
    assert bench.buried == [
        (1, "not_utf8_json"),
        (2, "too_deep"),
        (3, "recipient_missing"),
        (4, "too_old_to_deduplicate"),
        (7, "dated_ahead"),
    ]
    assert offsets(progress.finished()) == [0, 1, 2, 3, 4, 5, 6, 7]


@async_test
async def test_a_refused_letter_fails_with_its_dead_letter(bench: Bench) -> None:
    bench.relay.answers[A] = NEVER
    progress = await bench.carry(record())
    assert (bench.state(), bench.buried) == (State.FAILED, [(0, "relay_refused")])
    assert offsets(progress.finished()) == [0]


@async_test
async def test_a_deferred_letter_keeps_its_event_and_comes_back(bench: Bench) -> None:
    bench.relay.answers[A] = LATER
    progress = await bench.carry(record())
    assert offsets(progress.finished()) == [0]
    assert (bench.state(), bench.row().stored) == (State.DEFERRED, record())
    bench.clock.pass_(70)
    del bench.relay.answers[A]
    assert (await bench.recall()).finished() == []
    assert (bench.state(), bench.row().replies, bench.row().stored) == (State.ACCEPTED, 2, None)


@async_test
async def test_a_letter_deferred_too_often_fails(bench: Bench) -> None:
    bench.relay.answers[A] = LATER
    await bench.carry(record())
    for _ in range(POLICY.max_attempts):
        bench.clock.pass_(700)
        await bench.recall()
    assert (bench.state(), bench.row().replies) == (State.FAILED, POLICY.max_attempts)
    assert bench.buried == [(0, "attempts_exhausted")]
    assert len(bench.relay.carried) == POLICY.max_attempts


@async_test
async def test_a_second_record_of_one_event_is_known_and_not_sent(bench: Bench) -> None:
    first = await bench.carry(record("a", 0), record("a", 1))
    assert (offsets(first.finished()), offsets(first.held)) == ([0], [1])
    again = await bench.carry(*first.held)
    assert offsets(again.finished()) == [1]
    assert bench.relay.carried == [A]


@async_test
async def test_another_letter_under_a_known_id_is_a_dead_letter(bench: Bench) -> None:
    progress = await bench.carry(record("a", 0), record("a", 1, data={"name": "Mallory"}))
    assert bench.buried == [(1, "idempotency_mismatch")]
    assert offsets(progress.finished()) == [0, 1]
    assert bench.relay.carried == [A]


@async_test
async def test_a_letter_without_its_template_waits_for_it(bench: Bench) -> None:
    templates, bench.shelf.templates = bench.shelf.templates, {}
    await bench.carry(record())
    assert (bench.state(), bench.relay.carried) == (State.DEFERRED, [])
    bench.shelf.templates = templates
    bench.clock.pass_(2)
    await bench.recall()
    assert bench.state() is State.ACCEPTED


@async_test
async def test_a_letter_whose_template_never_comes_is_a_dead_letter(bench: Bench) -> None:
    bench.shelf.templates = {}
    await bench.carry(record())
    bench.clock.pass_(301)
    await bench.recall()
    assert (bench.state(), bench.buried) == (State.RENDER_FAILED, [(0, "template_missing")])


@async_test
async def test_a_letter_pinned_to_another_revision_waits_for_it(bench: Bench) -> None:
    await bench.carry(record(template_revision="ffffffffffff"))
    assert (bench.state(), bench.relay.carried) == (State.DEFERRED, [])
    bench.clock.pass_(301)
    await bench.recall()
    assert (bench.state(), bench.buried) == (State.RENDER_FAILED, [(0, "template_missing")])


@async_test
async def test_a_letter_that_cannot_be_rendered_is_on_record(bench: Bench) -> None:
    problem = Problem(Code.VARIABLE_MISSING, "data.total", "is not in the event")
    bench.shelf = Shelf({KIND: PlainTemplate(fails=Rejected(problem))})
    await bench.carry(record())
    assert (bench.state(), bench.buried) == (State.RENDER_FAILED, [(0, "variable_missing")])


@async_test
async def test_a_template_may_send_only_from_the_profile_s_domains(bench: Bench) -> None:
    template = PlainTemplate(sender=SenderMailbox("ceo@bank.example"))
    bench.shelf = Shelf({KIND: template})
    await bench.carry(record())
    assert (bench.state(), bench.buried) == (State.RENDER_FAILED, [(0, "sender_not_allowed")])


@async_test
async def test_a_scheduled_letter_is_sent_at_its_time(bench: Bench) -> None:
    await bench.carry(record(not_before=(NOON + timedelta(hours=2)).isoformat()))
    assert (bench.state(), bench.row().due) == (State.SCHEDULED, NOON + timedelta(hours=2))
    bench.clock.pass_(7199)
    await bench.recall()
    assert bench.relay.carried == []
    bench.clock.pass_(1)
    await bench.recall()
    assert bench.state() is State.ACCEPTED


@async_test
async def test_a_letter_that_is_over_is_not_sent_neither_at_first_nor_later(bench: Bench) -> None:
    bench.shelf = Shelf({KIND: PlainTemplate(lifetime=timedelta(minutes=10))})
    bench.relay.answers[A] = LATER
    await bench.carry(record("a", 0), record("b", 1, timestamp=(NOON - timedelta(minutes=10)).isoformat()))
    assert (bench.state("a"), bench.state("b")) == (State.DEFERRED, State.EXPIRED)
    bench.clock.pass_(600)
    await bench.recall()
    assert bench.state("a") is State.EXPIRED
    assert bench.buried == [(1, "expired"), (0, "expired")]


@pytest.mark.parametrize("fields", [{}, {"expires_at": (NOON - timedelta(minutes=1)).isoformat()}])
@async_test
async def test_a_letter_that_expired_is_sent_late_only_where_its_replay_asks_for_it(
    bench: Bench, fields: dict[str, Any]
) -> None:
    bench.shelf = Shelf({KIND: PlainTemplate(lifetime=timedelta(minutes=10))})
    over = record("a", 0, timestamp=(NOON - timedelta(hours=1)).isoformat(), **fields)
    await bench.carry(over, replace(over, offset=1, headers=((REPLAY_HEADER, b"first"),)))
    assert (bench.state(), bench.relay.carried) == (State.EXPIRED, [])
    bench.relay.answers[A] = LATER
    await bench.carry(
        replace(over, offset=2, headers=((REPLAY_HEADER, b"second"), (LATE_REPLAY_HEADER, b"yes")))
    )
    assert bench.state() is State.DEFERRED
    bench.clock.pass_(700)
    del bench.relay.answers[A]
    await bench.recall()
    assert bench.state() is State.ACCEPTED


@async_test
async def test_a_letter_that_runs_out_on_its_way_is_expired_not_failed(bench: Bench) -> None:
    bench.relay = FakeRelay(by_itself=False)
    bench.shelf = Shelf({KIND: PlainTemplate(lifetime=timedelta(minutes=10))})
    carrying = asyncio.ensure_future(bench.carry(record()))
    await until(lambda: bench.relay.waiting)
    bench.clock.pass_(600)
    await bench.relay.answer(A)
    assert offsets((await carrying).finished()) == [0]
    assert (bench.state(), bench.relay.carried) == (State.EXPIRED, [])
    assert bench.buried == [(0, "expired")]


# --- doubt ---


@async_test
async def test_a_letter_dropped_after_the_dot_is_in_doubt_and_sent_again(bench: Bench) -> None:
    bench.relay.answers[A] = DROPPED
    await bench.carry(record())
    assert (bench.state(), bench.row().in_doubt_count) == (State.DEFERRED, 1)
    del bench.relay.answers[A]
    bench.clock.pass_(7)
    await bench.recall()
    assert (bench.state(), bench.row().in_doubt_count) == (State.ACCEPTED, 1)


@async_test
async def test_a_refusal_after_doubt_leaves_the_doubt_on_record(bench: Bench) -> None:
    bench.relay.answers[A] = DROPPED
    await bench.carry(record())
    bench.relay.answers[A] = NEVER
    bench.clock.pass_(7)
    await bench.recall()
    assert (bench.state(), bench.row().in_doubt_count) == (State.FAILED, 1)


@async_test
async def test_under_park_a_letter_dropped_after_the_dot_is_held_not_resent(bench: Bench) -> None:
    bench.policy = PARK
    bench.relay.answers[A] = DROPPED
    progress = await bench.carry(record())
    assert (bench.state(), bench.row().stored, bench.row().due) == (State.IN_DOUBT, record(), None)
    assert offsets(progress.finished()) == [0]


@pytest.mark.parametrize("house", [HOUSE, PARK], ids=["resend", "park"])
@async_test
async def test_a_claim_that_died_before_the_fence_is_simply_sent(bench: Bench, house: DeliveryPolicy) -> None:
    await _die(bench, sending=False)
    bench = bench.again(policy=house)
    progress = await bench.carry(record())
    assert (bench.state(), bench.row().in_doubt_count) == (State.ACCEPTED, 0)
    assert (offsets(progress.finished()), progress.taken_in_doubt) == ([0], 0)


@async_test
async def test_a_claim_that_died_in_sending_is_resent_with_its_doubt(bench: Bench) -> None:
    await _die(bench, sending=True)
    bench = bench.again()
    progress = await bench.carry(record())
    assert (bench.state(), bench.row().in_doubt_count, progress.taken_in_doubt) == (State.ACCEPTED, 1, 1)


@async_test
async def test_a_resend_that_is_dropped_again_is_a_second_doubt(bench: Bench) -> None:
    await _die(bench, sending=True)
    bench = bench.again()
    bench.relay.answers[A] = DROPPED
    await bench.carry(record())
    assert (bench.state(), bench.row().in_doubt_count) == (State.DEFERRED, 2)


@async_test
async def test_under_park_a_claim_that_died_in_sending_is_held(bench: Bench) -> None:
    await _die(bench, sending=True)
    bench = bench.again(policy=PARK)
    progress = await bench.carry(record())
    assert (bench.state(), bench.row().in_doubt_count, bench.row().stored) == (State.IN_DOUBT, 1, record())
    assert (bench.relay.carried, offsets(progress.finished())) == ([], [0])


async def _die(bench: Bench, sending: bool) -> None:
    await bench.open()
    bench.relay.by_itself = False
    carrying = asyncio.ensure_future(bench.carry(record()))
    await until(lambda: bench.relay.waiting)
    if sending:
        [(parcel, _)] = bench.relay.waiting.values()
        await bench.relay._fence([parcel])
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    bench.relay.waiting.clear()
    bench.relay.by_itself = True


# --- handed back ---


@async_test
async def test_a_letter_handed_back_keeps_its_offset_open_and_is_free(bench: Bench) -> None:
    post = await bench.open()
    await post.dispatch.drain(1)
    progress = await bench.carry(record())
    assert (progress.finished(), offsets(progress.held)) == ([], [0])
    assert (bench.state(), bench.row().worker_epoch) == (State.CLAIMED, 0)
    bench = bench.again(relay=FakeRelay())
    await bench.carry(record())
    assert (bench.state(), bench.row().in_doubt_count) == (State.ACCEPTED, 0)


@async_test
async def test_a_recalled_letter_handed_back_goes_back_to_its_row(bench: Bench) -> None:
    bench.relay.answers[A] = LATER
    await bench.carry(record())
    bench.clock.pass_(70)
    await bench.post.dispatch.drain(1)
    await bench.recall()
    assert (bench.state(), bench.row().due, bench.row().stored) == (
        State.DEFERRED,
        bench.clock.now(),
        record(),
    )
    assert (bench.row().replies, bench.row().attempts) == (1, 1)


# --- order ---


class SlowTakeOver(MemoryLedger):
    """Needs a while to take a dead claim over."""

    async def take_over(self, rows: Sequence[ExistingRow], now: datetime) -> Sequence[Claimed | None]:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().take_over(rows, now)


@pytest.mark.parametrize("delay", ["a dead claim", "a dead letter", "a letter without template"])
@async_test
async def test_a_batch_that_is_held_up_is_not_overtaken_by_the_next(bench: Bench, delay: str) -> None:
    """Else two letters of one key would change places."""
    extra = record("z", 1)
    if delay == "a dead claim":
        await _die(bench, sending=False)
        bench = bench.again()
        bench.ledger = SlowTakeOver(bench.store, WINDOW)
    elif delay == "a dead letter":
        extra = Record(TOPIC, 0, 1, NOON, None, b"{")
    else:
        extra = record("z", 1, event_type="shop.unknown")
    post = await bench.open()

    async def carry(*records: Record) -> list[Progress]:
        return [progress async for progress in deliver(records, post)]

    key = b"customer-1"
    await asyncio.gather(carry(extra, record("a", 0, key)), carry(record("b", 2, key)))
    assert [one[0] for one in bench.relay.carried if one[0] in "ab"] == ["a", "b"]


@async_test
async def test_a_batch_that_fails_lets_the_next_pass(bench: Bench) -> None:
    bug = ZeroDivisionError("a bug")
    with patch.object(bench.shelf, "current", side_effect=bug), pytest.raises(ZeroDivisionError):
        await bench.carry(record("a"))
    await bench.carry(record("b"))
    assert bench.state("b") is State.ACCEPTED


@async_test
async def test_a_template_that_breaks_on_one_event_ends_that_letter_alone(bench: Bench) -> None:
    bench.shelf = Shelf({KIND: PlainTemplate(fails=UnicodeEncodeError("utf-8", "x", 0, 1, "a surrogate"))})
    await bench.carry(record("a"))
    assert (bench.state("a"), bench.buried) == (State.RENDER_FAILED, [(0, "render_failed")])


@async_test
async def test_a_scheduled_letter_that_is_deferred_is_as_old_as_its_hour(bench: Bench) -> None:
    hour = NOON + 3 * DAY
    await bench.carry(record(not_before=hour.isoformat()))
    bench.clock.pass_(3 * DAY.total_seconds())
    bench.relay.answers[A] = LATER
    await bench.recall()
    assert bench.state() is State.DEFERRED


@async_test
async def test_an_old_claim_beyond_the_window_is_a_dead_letter_not_a_second_copy(bench: Bench) -> None:
    await bench.carry(record())
    bench.clock.pass_(9 * DAY.total_seconds())
    await bench.carry(record())
    assert bench.relay.carried == [A]
    assert bench.buried == [(0, "too_old_to_deduplicate")]
