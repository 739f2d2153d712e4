"""The contract of ports.ledger, which every adapter must pass.

A subclass gives a fixture `lives`: how a process starts on the same store, and how it dies.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol
from unittest.mock import patch

import pytest

from postroom.letter.identity import Identity
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import (
    KEEPS_EVENT_STATES,
    REOPENABLE,
    Attempt,
    Claimed,
    ExistingRow,
    Ledger,
    LedgerTime,
    Recalled,
    ReplayConsumed,
    SharedState,
    State,
    Suppression,
    SuppressionReason,
)
from tests.delivery.async_test import async_test
from tests.delivery.letters import DAY, NOON, PROFILE, dead_letter, ended, letter, record

PROBLEM = Problem(Code.RELAY_DEFERRED, "smtp.rcpt", "the relay answered 451 4.7.1 greylisted")
LATER = NOON + DAY / 24
UNDECIDED = Problem(Code.UNDECIDED, "parkedFor", "no decision within parkedFor")
LIVING_STATES = [State.CLAIMED, State.SENDING]
SETTLED_STATES = [state for state in State if state not in LIVING_STATES]


class Lives(Protocol):
    """Starts and kills processes of a worker on one store."""

    async def begin(self) -> Ledger:
        """Start a process; the previous one has ended."""
        ...

    async def die(self) -> None:
        """Kill the running process."""
        ...

    async def attempts(self, row: int) -> Sequence[str]:
        """The recorded results of a row, oldest first."""
        ...


async def claim(ledger: Ledger, name: str = "a", offset: int = 0) -> Claimed:
    """Claim a new letter."""
    [claimed] = await ledger.claim([letter(name, offset)], NOON)
    assert isinstance(claimed, Claimed)
    return claimed


async def find_row(ledger: Ledger, name: str = "a") -> ExistingRow:
    """The row of a known letter."""
    [found] = await ledger.claim([letter(name, 99)], LATER)
    assert isinstance(found, ExistingRow)
    return found


async def letter_in(ledger: Ledger, state: State, name: str = "a") -> Claimed:
    """A letter in the given state."""
    claimed = await claim(ledger, name)
    if state is not State.CLAIMED:
        await ledger.fence([claimed], NOON)
    if state not in LIVING_STATES:
        waits = state in (State.DEFERRED, State.SCHEDULED)
        await ledger.settle([ended(claimed, state, due=LATER if waits else None)], NOON)
    return claimed


def carry(recalled: Recalled, name: str = "a") -> Claimed:
    """The claim of a recalled letter."""
    history = (recalled.received, recalled.replies, recalled.attempts, recalled.in_doubt_count)
    return Claimed(letter(name), recalled.row, *history, from_topic=False, worker_epoch=recalled.worker_epoch)


def add_one(subject: str, text: str, at: LedgerTime) -> SharedState:
    """An update that counts how often it was applied."""
    return SharedState(str(int(text or 0) + 1))


def keep(subject: str, text: str, at: LedgerTime) -> SharedState:
    """An update without a change."""
    return SharedState(text)


class LedgerContract:
    """The tests; pytest collects them in the subclasses."""

    @async_test
    async def test_a_new_letter_is_claimed(self, lives: Lives) -> None:
        ledger = await lives.begin()
        one = letter()
        [claimed] = await ledger.claim([one], NOON)
        assert isinstance(claimed, Claimed)
        assert claimed.letter is one
        assert (claimed.received, claimed.replies, claimed.attempts, claimed.in_doubt_count) == (
            NOON,
            0,
            0,
            0,
        )
        assert claimed.from_topic
        assert not claimed.was_sending

    @async_test
    async def test_the_same_identity_twice_in_a_batch_is_claimed_once(self, lives: Lives) -> None:
        ledger = await lives.begin()
        first, second, other = letter("a", 0), letter("a", 1), letter("b", 2)
        claimed, found, third = await ledger.claim([first, second, other], NOON)
        assert isinstance(claimed, Claimed)
        assert isinstance(found, ExistingRow)
        assert isinstance(third, Claimed)
        assert (found.letter, found.row, found.state, found.owner_alive) == (
            second,
            claimed.row,
            State.CLAIMED,
            True,
        )
        assert found.same_payload

    @async_test
    async def test_a_known_letter_is_returned_with_its_state(self, lives: Lives) -> None:
        ledger = await lives.begin()
        for number, state in enumerate(State):
            claimed = await letter_in(ledger, state, f"letter{number}")
            found = await find_row(ledger, f"letter{number}")
            assert (found.row, found.state, found.owner_alive, found.received) == (
                claimed.row,
                state,
                True,
                NOON,
            )
            assert found.attempts == (state not in LIVING_STATES)

    @async_test
    async def test_another_payload_under_the_same_identity_is_reported(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await claim(ledger)
        first, second = await ledger.claim([letter("a", 1), letter("a", 2, data={"name": "b"})], NOON)
        assert isinstance(first, ExistingRow)
        assert isinstance(second, ExistingRow)
        assert (first.same_payload, second.same_payload) == (True, False)

    @async_test
    async def test_equal_hashes_of_two_identities_are_two_letters(self, lives: Lives) -> None:
        ledger = await lives.begin()
        with patch.object(Identity, "hash64", lambda _: 7):
            [one] = await ledger.claim([letter("a")], NOON)
            [two] = await ledger.claim([letter("b")], NOON)
            three, four = await ledger.claim([letter("c"), letter("d")], NOON + DAY)
            answers = await ledger.claim([letter(name, 9) for name in "dcba"], NOON + 2 * DAY)
        fresh = (four, three, two, one)
        assert all(isinstance(claimed, Claimed) for claimed in fresh)
        found = [each for each in answers if isinstance(each, ExistingRow)]
        assert [each.row for each in found] == [one.row for one in fresh if isinstance(one, Claimed)]

    @async_test
    async def test_an_identity_is_known_for_the_window_and_not_for_ever(self, lives: Lives) -> None:
        ledger = await lives.begin()
        first = await letter_in(ledger, State.ACCEPTED)
        assert await ledger.prune(NOON, 100) == 0
        [within] = await ledger.claim([letter("a", 1)], NOON + 8 * DAY)
        assert isinstance(within, ExistingRow)
        assert within.row == first.row
        assert await ledger.prune(NOON + 2 * DAY, 100) == 1
        [beyond] = await ledger.claim([letter("a", 2)], NOON + 10 * DAY)
        assert isinstance(beyond, Claimed)
        assert beyond.row != first.row

    @async_test
    async def test_a_letter_that_is_pruned_on_its_day_is_new_again(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.ACCEPTED)
        assert await ledger.prune(NOON + DAY / 24, 100) == 1
        again, neighbour = await ledger.claim([letter("a", 1), letter("b", 2)], NOON + DAY / 8)
        assert isinstance(again, Claimed)
        assert isinstance(neighbour, Claimed)
        assert (await find_row(ledger)).row == again.row

    @async_test
    async def test_a_letter_that_waits_longer_than_the_window_stays_known(self, lives: Lives) -> None:
        ledger = await lives.begin()
        claimed = await claim(ledger)
        sent = NOON + 30 * DAY
        await ledger.settle([ended(claimed, State.SCHEDULED, due=sent)], NOON)
        for day in range(10, 30, 5):
            assert await ledger.prune(NOON + (day - 8) * DAY, 100) == 0
            [found] = await ledger.claim([letter("a", day)], NOON + day * DAY)
            assert isinstance(found, ExistingRow)
            assert (found.row, found.state) == (claimed.row, State.SCHEDULED)

    @async_test
    async def test_a_letter_stays_known_for_the_window_after_its_end(self, lives: Lives) -> None:
        ledger = await lives.begin()
        claimed = await claim(ledger)
        sent = NOON + 30 * DAY
        await ledger.settle([ended(claimed, State.SCHEDULED, due=sent)], NOON)
        [recalled] = await ledger.claim_due(sent, 10)
        carried = carry(recalled)
        await ledger.settle([ended(carried)], sent)
        assert await ledger.prune(sent - DAY, 100) == 0
        [found] = await ledger.claim([letter("a", 9)], sent + 7 * DAY)
        assert isinstance(found, ExistingRow)
        assert (found.row, found.state) == (claimed.row, State.ACCEPTED)
        assert await ledger.prune(sent + DAY, 100) == 1
        assert isinstance((await ledger.claim([letter("a", 10)], sent + 9 * DAY))[0], Claimed)

    @pytest.mark.parametrize("days", [1, 3, 400])
    @async_test
    async def test_a_clock_that_was_set_back_still_finds_todays_letters(
        self, lives: Lives, days: int
    ) -> None:
        first = await claim(await lives.begin())
        await lives.die()
        ledger = await lives.begin()
        [found] = await ledger.claim([letter("a", 1)], NOON - days * DAY)
        assert isinstance(found, ExistingRow)
        assert found.row == first.row

    # --- take over ---

    @async_test
    async def test_a_claim_of_a_dead_process_is_taken_over_once(self, lives: Lives) -> None:
        first = await claim(await lives.begin())
        await lives.die()
        ledger = await lives.begin()
        found = await find_row(ledger)
        assert not found.owner_alive
        taken, again = await ledger.take_over([found, found], LATER)
        assert taken is not None
        assert (taken.row, taken.in_doubt_count, taken.was_sending) == (first.row, 0, False)
        assert again is None

    @async_test
    async def test_a_row_that_changed_since_is_not_taken_over(self, lives: Lives) -> None:
        ledger = await lives.begin()
        claimed = await claim(ledger)
        found = await find_row(ledger)
        await ledger.settle([ended(claimed)], NOON)
        assert list(await ledger.take_over([found], LATER)) == [None]
        assert (await find_row(ledger)).state is State.ACCEPTED

    @async_test
    async def test_a_death_in_sending_is_recorded_as_a_doubt(self, lives: Lives) -> None:
        first = await letter_in(await lives.begin(), State.SENDING)
        await lives.die()
        ledger = await lives.begin()
        [taken] = await ledger.take_over([await find_row(ledger)], LATER)
        assert taken is not None
        assert (taken.in_doubt_count, taken.was_sending) == (1, True)
        assert (await find_row(ledger)).in_doubt_count == 1
        assert list(await lives.attempts(first.row)) == ["in_doubt"]

    # --- fence ---

    @async_test
    async def test_the_fence_grants_claims_of_this_process(self, lives: Lives) -> None:
        ledger = await lives.begin()
        one, two = await claim(ledger, "a"), await claim(ledger, "b")
        assert set(await ledger.fence([one, two], NOON)) == {one, two}
        assert set(await ledger.fence([one], NOON)) == {one}
        assert (await find_row(ledger, "a")).state is State.SENDING

    @async_test
    async def test_the_fence_refuses_claims_that_this_process_does_not_own(self, lives: Lives) -> None:
        ledger = await lives.begin()
        mine, done, released = [await claim(ledger, name) for name in "abc"]
        await ledger.settle([ended(done)], NOON)
        await ledger.release([released])
        assert list(await ledger.fence([mine, done, released], NOON)) == [mine]
        assert (await find_row(ledger, "b")).state is State.ACCEPTED
        assert (await find_row(ledger, "c")).state is State.CLAIMED

    @async_test
    async def test_the_fence_refuses_claims_of_an_earlier_process(self, lives: Lives) -> None:
        old = await claim(await lives.begin())
        await lives.die()
        ledger = await lives.begin()
        assert list(await ledger.fence([old], LATER)) == []

    # --- settle, release ---

    @async_test
    async def test_an_attempt_is_settled_with_its_history(self, lives: Lives) -> None:
        ledger = await lives.begin()
        claims = [(state, await claim(ledger, f"letter{n}")) for n, state in enumerate(SETTLED_STATES)]
        await ledger.settle(
            [ended(one, state, replies=1, attempts=2, in_doubt_count=3) for state, one in claims], NOON
        )
        for state, one in claims:
            found = await find_row(ledger, one.letter.identity.id)
            assert (found.state, found.replies, found.attempts, found.in_doubt_count) == (state, 1, 2, 3)
            assert list(await lives.attempts(one.row)) == [state.value]

    @async_test
    async def test_a_late_settlement_leaves_the_row_and_keeps_the_reply(self, lives: Lives) -> None:
        old = await letter_in(await lives.begin(), State.SENDING)
        await lives.die()
        ledger = await lives.begin()
        [taken] = await ledger.take_over([await find_row(ledger)], LATER)
        assert taken is not None
        await ledger.settle([ended(taken, State.DEFERRED, due=LATER)], LATER)
        await lives.die()
        newest = await lives.begin()
        await newest.settle([ended(old)], LATER)
        found = await find_row(newest)
        assert (found.state, found.in_doubt_count) == (State.DEFERRED, 1)
        assert newest.health.late_settlements == 1
        assert list(await lives.attempts(old.row)) == ["in_doubt", "deferred", "accepted"]

    @async_test
    async def test_a_late_reply_resolves_a_doubt_if_the_letter_was_not_sent_again(self, lives: Lives) -> None:
        old = await letter_in(await lives.begin(), State.SENDING)
        await lives.die()
        ledger = await lives.begin()
        [taken] = await ledger.take_over([await find_row(ledger)], LATER)
        assert taken is not None
        await ledger.settle([ended(taken, State.IN_DOUBT, attempt=None)], LATER)
        await ledger.settle([ended(old, attempt=Attempt("unreachable"))], LATER)
        assert (await find_row(ledger)).state is State.IN_DOUBT
        await ledger.settle([ended(old)], LATER)
        found = await find_row(ledger)
        assert (found.state, found.in_doubt_count) == (State.ACCEPTED, 0)
        assert ledger.health.late_settlements == 1
        assert list(await lives.attempts(old.row)) == ["in_doubt", "unreachable", "accepted"]

    @async_test
    async def test_a_letter_that_another_worker_owns_makes_no_dead_letter(self, lives: Lives) -> None:
        old = await letter_in(await lives.begin(), State.SENDING)
        await lives.die()
        ledger = await lives.begin()
        await ledger.take_over([await find_row(ledger)], LATER)
        dead = dead_letter(old.letter.record, PROBLEM)
        await ledger.settle([ended(old, State.FAILED, problem=PROBLEM, dead_letter=dead)], LATER)
        assert list(await ledger.pending_dead_letters(10)) == []

    @async_test
    async def test_a_settlement_without_an_attempt_leaves_none(self, lives: Lives) -> None:
        ledger = await lives.begin()
        claimed = await claim(ledger)
        await ledger.settle([ended(claimed, State.EXPIRED, attempt=None)], NOON)
        assert list(await lives.attempts(claimed.row)) == []

    @async_test
    async def test_a_reason_that_is_not_unicode_is_stored_with_question_marks(self, lives: Lives) -> None:
        ledger = await lives.begin()
        one, neighbour = await claim(ledger, "a"), await claim(ledger, "b")
        problem = Problem(Code.VARIABLE_MISSING, "data.\ud83d", "`\ud83d` is not there")
        attempt = Attempt("failed", None, 554, "\udcff")
        dead = dead_letter(one.letter.record, problem)
        failed = ended(one, State.FAILED, problem=problem, attempt=attempt, dead_letter=dead)
        await asyncio.gather(ledger.settle([failed], NOON), ledger.settle([ended(neighbour)], NOON))
        assert (await find_row(ledger, "a")).state is State.FAILED
        assert (await find_row(ledger, "b")).state is State.ACCEPTED
        [waiting] = await ledger.pending_dead_letters(10)
        assert waiting.dead_letter.problems[0].code is Code.VARIABLE_MISSING

    @pytest.mark.parametrize("state", LIVING_STATES)
    @async_test
    async def test_a_letter_given_back_is_taken_by_the_next_claim(self, lives: Lives, state: State) -> None:
        ledger = await lives.begin()
        claimed = await letter_in(ledger, state)
        await ledger.release([claimed])
        found = await find_row(ledger)
        assert (found.state, found.owner_alive) == (State.CLAIMED, False)
        [taken] = await ledger.take_over([found], LATER)
        assert taken is not None
        assert not taken.was_sending

    @async_test
    async def test_what_another_took_over_cannot_be_given_back_by_who_had_it(self, lives: Lives) -> None:
        old = await letter_in(await lives.begin(), State.CLAIMED)
        await lives.die()
        ledger = await lives.begin()
        await ledger.take_over([await find_row(ledger)], LATER)
        await ledger.release([old])
        found = await find_row(ledger)
        assert (found.state, found.owner_alive) == (State.CLAIMED, True)

    # --- due, recover ---

    @async_test
    async def test_due_letters_come_back_longest_due_first_and_once(self, lives: Lives) -> None:
        ledger = await lives.begin()
        for name, hours in (("late", 3), ("soon", 1), ("next", 2), ("never", 9)):
            due = NOON + hours * DAY / 24
            await ledger.settle([ended(await claim(ledger, name), State.DEFERRED, due=due, replies=1)], NOON)
        now = NOON + DAY / 6
        first = await ledger.claim_due(now, 2)
        rest = await ledger.claim_due(now, 10)
        assert [one.identity.id for one in first] == ["soon", "next"]
        assert [one.identity.id for one in rest] == ["late"]
        assert list(await ledger.claim_due(now, 10)) == []
        assert first[0].record == record("soon")
        assert (first[0].replies, first[0].attempts, first[0].received) == (1, 1, NOON)
        assert (await find_row(ledger, "soon")).state is State.CLAIMED

    @async_test
    async def test_a_scheduled_letter_comes_back_too_and_a_parked_one_does_not(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.SCHEDULED, "scheduled")
        await letter_in(ledger, State.IN_DOUBT, "parked")
        assert [one.identity.id for one in await ledger.claim_due(LATER, 10)] == ["scheduled"]

    @async_test
    async def test_a_letter_deferred_again_comes_back_again(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.DEFERRED)
        [recalled] = await ledger.claim_due(LATER, 10)
        claimed = carry(recalled)
        await ledger.fence([claimed], LATER)
        await ledger.settle([ended(claimed, State.DEFERRED, due=LATER + DAY)], LATER)
        assert list(await ledger.claim_due(LATER, 10)) == []
        [again] = await ledger.claim_due(LATER + DAY, 10)
        assert (again.row, again.attempts) == (recalled.row, 2)

    @pytest.mark.parametrize("resend", [True, False])
    @async_test
    async def test_recovery_takes_up_what_a_dead_process_had_recalled(
        self, lives: Lives, resend: bool
    ) -> None:
        ledger = await lives.begin()
        for name in ("claimed", "sending"):
            await letter_in(ledger, State.DEFERRED, name)
        one, two = await ledger.claim_due(LATER, 10)
        dotted = carry(two, "sending")
        await ledger.fence([dotted], LATER)
        await lives.die()
        ledger = await lives.begin()
        recovery = await ledger.recover(LATER, resend)
        assert (recovery.clean, recovery.recalled, recovery.in_doubt) == (False, 1, 1)
        assert (await find_row(ledger, "sending")).in_doubt_count == 1
        assert (await find_row(ledger, "sending")).state is (State.DEFERRED if resend else State.IN_DOUBT)
        assert list(await lives.attempts(two.row)) == ["deferred", "in_doubt"]
        due = sorted(again.row for again in await ledger.claim_due(LATER, 10))
        assert due == ([one.row, two.row] if resend else [one.row])

    @async_test
    async def test_recovery_leaves_letters_whose_record_comes_again(self, lives: Lives) -> None:
        ledger = await lives.begin()
        for number, state in enumerate(State):
            await letter_in(ledger, state, f"letter{number}")
        await lives.die()
        ledger = await lives.begin()
        recovery = await ledger.recover(NOON, resend=True)
        assert (recovery.recalled, recovery.in_doubt) == (0, 0)
        for number, state in enumerate(State):
            assert (await find_row(ledger, f"letter{number}")).state is state

    @async_test
    async def test_an_orderly_end_is_known_at_the_next_start(self, lives: Lives) -> None:
        ledger = await lives.begin()
        assert (await ledger.recover(NOON, resend=True)).clean
        await ledger.close()
        assert (await (await lives.begin()).recover(NOON, resend=True)).clean
        await lives.die()
        assert not (await (await lives.begin()).recover(NOON, resend=True)).clean

    @async_test
    async def test_an_end_that_leaves_something_untried_is_known_too(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await ledger.close(in_order=False)
        assert not (await (await lives.begin()).recover(NOON, resend=True)).clean

    # --- outbox, suspects ---

    @async_test
    async def test_the_outbox_holds_a_dead_letter_once_and_in_order(self, lives: Lives) -> None:
        ledger = await lives.begin()
        first, second = (dead_letter(record(str(n), n), PROBLEM) for n in range(2))
        await ledger.add_dead_letters([first])
        await ledger.add_dead_letters([second, first])
        waiting = await ledger.pending_dead_letters(10)
        assert [one.dead_letter for one in waiting] == [first, second]
        assert len(await ledger.pending_dead_letters(1)) == 1

    @pytest.mark.parametrize(
        ("code", "had", "ends"),
        [
            (Code.POISON, State.CLAIMED, State.RENDER_FAILED),
            (Code.FIELD_INVALID, State.CLAIMED, State.FAILED),
            (Code.POISON, State.SENDING, State.IN_DOUBT),
            (Code.FIELD_INVALID, State.SENDING, State.IN_DOUBT),
        ],
    )
    @async_test
    async def test_a_letter_that_a_dead_process_owned_ends_with_its_record(
        self, lives: Lives, code: Code, had: State, ends: State
    ) -> None:
        first = await letter_in(await lives.begin(), had)
        await lives.die()
        ledger = await lives.begin()
        other = await claim(ledger, "b", 1)
        problem = Problem(code, "timestamp", "it cannot be a letter any more")
        await ledger.add_dead_letters(
            [dead_letter(one.letter.record, problem, at=LATER) for one in (first, other)]
        )
        found = await find_row(ledger)
        assert (found.state, found.in_doubt_count) == (ends, int(had is State.SENDING))
        assert list(await lives.attempts(first.row)) == ["in_doubt"] * found.in_doubt_count
        assert (await find_row(ledger, "b")).state is State.CLAIMED  # this process owns it

    @async_test
    async def test_a_failed_letter_and_its_dead_letter_are_one_commit(self, lives: Lives) -> None:
        ledger = await lives.begin()
        claimed = await claim(ledger)
        dead = dead_letter(claimed.letter.record, PROBLEM)
        await ledger.settle([ended(claimed, State.FAILED, problem=PROBLEM, dead_letter=dead)], NOON)
        await lives.die()
        ledger = await lives.begin()
        assert [one.dead_letter for one in await ledger.pending_dead_letters(10)] == [dead]
        assert (await find_row(ledger)).state is State.FAILED

    @async_test
    async def test_a_published_dead_letter_leaves_the_outbox(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await ledger.add_dead_letters([dead_letter(record(str(n), n), PROBLEM) for n in range(3)])
        first, second, third = await ledger.pending_dead_letters(10)
        await ledger.delete_dead_letters([first, third])
        await ledger.delete_dead_letters([])
        assert list(await ledger.pending_dead_letters(10)) == [second]

    @async_test
    async def test_marks_and_attempts_survive_deaths_until_they_are_cleared(self, lives: Lives) -> None:
        one, two = record("a", 1), record("b", 2)
        ledger = await lives.begin()
        assert list(await ledger.mark_suspects([one])) == [0]
        assert await ledger.count_suspect_attempt(one) == 1
        await lives.die()
        ledger = await lives.begin()
        assert list(await ledger.mark_suspects([one, two])) == [2, 0]
        assert await ledger.count_suspect_attempt(one) == 2
        await ledger.clear_suspects([one])
        await ledger.clear_suspects([])
        assert list(await ledger.mark_suspects([one, two])) == [0, 1]

    @async_test
    async def test_only_old_final_letters_are_pruned(self, lives: Lives) -> None:
        ledger = await lives.begin()
        for state in State:
            await letter_in(ledger, state, state.value)
        assert await ledger.prune(NOON, 100) == 0
        final = [state for state in SETTLED_STATES if state not in KEEPS_EVENT_STATES]
        assert await ledger.prune(LATER, 2) == 2
        assert await ledger.prune(LATER, 100) == len(final) - 2
        for state in (State.CLAIMED, State.SENDING, *KEEPS_EVENT_STATES):
            assert (await find_row(ledger, state.value)).state is state

    @async_test
    async def test_a_letter_that_stays_in_doubt_ends_as_a_dead_letter(self, lives: Lives) -> None:
        ledger = await lives.begin()
        for state in State:
            await letter_in(ledger, state, state.value)
        assert await ledger.expire_in_doubt(NOON, UNDECIDED, LATER) == 0
        assert await ledger.expire_in_doubt(LATER, UNDECIDED, LATER) == 1
        [waiting] = await ledger.pending_dead_letters(10)
        dead = waiting.dead_letter
        assert dead.record == record("in_doubt")
        assert (dead.problems, dead.at, dead.attempts) == ((UNDECIDED,), LATER, 1)
        found = await find_row(ledger, "in_doubt")
        assert found.state is State.FAILED
        for state in State:
            if state is not State.IN_DOUBT:
                assert (await find_row(ledger, state.value)).state is state
        assert await ledger.expire_in_doubt(LATER + DAY, UNDECIDED, LATER + DAY) == 0

    @async_test
    async def test_a_letter_that_stayed_in_doubt_is_sent_by_its_replay_once(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.IN_DOUBT)
        assert await ledger.expire_in_doubt(LATER, UNDECIDED, LATER) == 1
        first, second = await ledger.claim(
            [letter("a", 7, replay="one"), letter("a", 8, replay="one")], LATER
        )
        assert isinstance(first, Claimed)
        assert isinstance(second, ExistingRow)

    @async_test
    async def test_many_letters_in_doubt_are_ended_in_batches(self, lives: Lives) -> None:
        ledger = await lives.begin()
        names = [f"n{number}" for number in range(450)]
        fresh = await ledger.claim([letter(name, at) for at, name in enumerate(names)], NOON)
        await ledger.settle([ended(one, State.IN_DOUBT) for one in fresh if isinstance(one, Claimed)], NOON)
        done = 0
        while count := await ledger.expire_in_doubt(LATER, UNDECIDED, LATER):
            done += count
        assert done == len(names)
        assert {one.dead_letter.record.offset for one in await ledger.pending_dead_letters(1000)} == {
            *range(450)
        }

    @async_test
    async def test_empty_calls_do_nothing(self, lives: Lives) -> None:
        ledger = await lives.begin()
        assert list(await ledger.claim([], NOON)) == []
        assert list(await ledger.take_over([], NOON)) == []
        await ledger.release([])
        await ledger.add_dead_letters([])
        assert list(await ledger.claim_due(NOON, 10)) == []

    # --- replays ---

    @pytest.mark.parametrize("state", State)
    @async_test
    async def test_a_replay_reopens_only_letters_that_reached_no_mailbox(
        self, lives: Lives, state: State
    ) -> None:
        ledger = await lives.begin()
        first = await letter_in(ledger, state)
        again = letter("a", 7, replay="one")
        [answer] = await ledger.claim([again], LATER)
        if state not in REOPENABLE:
            assert isinstance(answer, ExistingRow)
            assert answer.state is state
            return
        assert isinstance(answer, Claimed)
        assert (answer.row, answer.received, answer.replies, answer.attempts) == (first.row, LATER, 0, 0)
        assert list(await lives.attempts(first.row)) == [state.value, "reopened"]
        await ledger.fence([answer], LATER)
        await ledger.settle([ended(answer)], LATER)
        assert (await find_row(ledger)).state is State.ACCEPTED

    @async_test
    async def test_a_replay_counts_once_however_it_ends(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.FAILED)
        one, two = await ledger.claim([letter("a", 7, replay="one"), letter("a", 8, replay="one")], LATER)
        assert isinstance(one, Claimed)
        assert isinstance(two, ExistingRow)
        assert (two.row, two.state, two.owner_alive) == (one.row, State.CLAIMED, True)
        await ledger.settle([ended(one, State.FAILED)], LATER)
        [third] = await ledger.claim([letter("a", 9, replay="one")], LATER)
        assert isinstance(third, ExistingRow)
        [fourth] = await ledger.claim([letter("a", 10, replay="another")], LATER)
        assert isinstance(fourth, Claimed)

    @async_test
    async def test_a_replay_that_died_with_its_worker_is_taken_over_from_its_record(
        self, lives: Lives
    ) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.FAILED)
        [claimed] = await ledger.claim([letter("a", 7, replay="one")], LATER)
        assert isinstance(claimed, Claimed)
        await lives.die()
        ledger = await lives.begin()
        [found] = await ledger.claim([letter("a", 7, replay="one")], LATER)
        assert isinstance(found, ExistingRow)
        assert (found.state, found.owner_alive) == (State.CLAIMED, False)
        [taken] = await ledger.take_over([found], LATER)
        assert taken is not None
        assert taken.row == claimed.row

    @async_test
    async def test_a_replay_of_a_pruned_letter_makes_one_letter_only(self, lives: Lives) -> None:
        ledger = await lives.begin()
        [first] = await ledger.claim([letter("a", 7, replay="one")], NOON)
        assert isinstance(first, Claimed)
        await ledger.settle([ended(first)], NOON)
        assert await ledger.prune(NOON + DAY, 100) == 1
        [second] = await ledger.claim([letter("a", 8, replay="one")], NOON + 10 * DAY)
        assert isinstance(second, ReplayConsumed)

    @async_test
    async def test_a_replay_with_another_payload_reopens_nothing(self, lives: Lives) -> None:
        ledger = await lives.begin()
        await letter_in(ledger, State.FAILED)
        [found] = await ledger.claim([letter("a", 7, replay="one", data={"name": "b"})], LATER)
        assert isinstance(found, ExistingRow)
        assert not found.same_payload

    # --- suppressions ---

    @async_test
    async def test_a_suppression_is_attached_to_every_later_claim(self, lives: Lives) -> None:
        ledger = await lives.begin()
        [waits] = await ledger.claim([letter("waits", recipient="gone@example.net")], NOON)
        assert isinstance(waits, Claimed)
        gone, other = await claim(ledger, "gone", 1), await claim(ledger, "other", 2)
        await ledger.settle([ended(one, State.DEFERRED, due=LATER) for one in (waits, other)], NOON)
        address = gone.letter.identity.recipient
        entry = Suppression(PROFILE, address, SuppressionReason.HARD_BOUNCE, NOON, "550 5.1.1 no such user")
        await ledger.settle([ended(gone, State.FAILED, suppress=entry)], NOON)
        await ledger.settle([ended(gone, State.FAILED, suppress=entry)], NOON)
        fresh, spared = await ledger.claim(
            [letter("next", 8, recipient="Gone@example.net"), letter("spared", 9)], LATER
        )
        assert isinstance(fresh, Claimed)
        assert isinstance(spared, Claimed)
        assert (set(fresh.suppressions), set(spared.suppressions)) == ({SuppressionReason.HARD_BOUNCE}, set())
        recalled = {one.identity.id: set(one.suppressions) for one in await ledger.claim_due(LATER, 10)}
        assert recalled == {"waits": {SuppressionReason.HARD_BOUNCE}, "other": set()}

    @async_test
    async def test_the_suppression_list_of_another_profile_does_not_apply(self, lives: Lives) -> None:
        ledger = await lives.begin()
        one = await claim(ledger)
        entry = Suppression("shop/other", one.letter.identity.recipient, SuppressionReason.MANUAL, NOON)
        await ledger.settle([ended(one, suppress=entry)], NOON)
        [fresh] = await ledger.claim([letter("b", 1, recipient="a@example.net")], LATER)
        assert isinstance(fresh, Claimed)
        assert not fresh.suppressions

    # --- shared states ---

    @async_test
    async def test_a_shared_state_is_known_to_the_next_process(self, lives: Lives) -> None:
        ledger = await lives.begin()
        assert list(await ledger.update_shared(["circuit a"], keep)) == [""]
        assert list(await ledger.update_shared(["circuit a"], add_one)) == ["1"]
        await lives.die()
        ledger = await lives.begin()
        assert list(await ledger.update_shared(["circuit a", "circuit b"], keep)) == ["1", ""]

    @async_test
    async def test_changes_of_several_subjects_come_back_in_order_and_each_counts_once(
        self, lives: Lives
    ) -> None:
        ledger = await lives.begin()
        await ledger.update_shared(["b"], add_one)
        assert list(await ledger.update_shared(["b", "a", "b"], add_one)) == ["2", "1", "2"]
        await asyncio.gather(*(ledger.update_shared(["a"], add_one) for _ in range(9)))
        assert list(await ledger.update_shared(["a", "b"], keep)) == ["10", "2"]

    @async_test
    async def test_an_update_gets_the_time_of_the_ledger_and_the_epoch(self, lives: Lives) -> None:
        ledger = await lives.begin()
        moments: list[LedgerTime] = []

        def look(subject: str, text: str, at: LedgerTime) -> SharedState:
            moments.append(at)
            return SharedState(text)

        await ledger.update_shared(["a"], look)
        await ledger.update_shared(["a"], look)
        first, second = moments
        assert first.worker_epoch == second.worker_epoch == (await claim(ledger)).worker_epoch
        assert first.now <= second.now < first.now + 60
        assert abs(first.now - time.time()) < 60
