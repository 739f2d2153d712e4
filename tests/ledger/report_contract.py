"""The contract of ports.bounces, which every ledger must pass.

A subclass gives a fixture `post`: a ledger with workers on it, and the intake by its side.
"""

from dataclasses import replace
from typing import Any, Protocol, cast

import pytest

from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.letter.verp import letter_tag
from postroom.policy.bounces import interpret_report
from postroom.ports.bounces import (
    IN_PROGRESS,
    MAX_REPORTS_PER_LETTER,
    PROVABLE_STATES,
    BounceConfig,
    ReceivedReport,
    ReportEffect,
    ReportResult,
    ReportStore,
)
from postroom.ports.ledger import Claimed, Ledger, State, SuppressionReason
from postroom.ports.notifications import TOPIC
from tests.delivery.async_test import async_test
from tests.delivery.letters import DAY, NOON, PROFILE, ended, letter
from tests.ledger.ledger_contract import LATER, Lives, find_row, letter_in
from tests.ledger.notification_contract import LedgerWithOutbox, notify_all

GONE = ReportEntry(ReportKind.FAILED, "5.1.1", "550 5.1.1 user unknown", "mx.example.net", ("a@example.net",))
FULL = ReportEntry(ReportKind.FAILED, "5.2.2", "552 5.2.2 mailbox full")
SLOW = ReportEntry(ReportKind.DELAYED, "4.4.1", "connection timed out")
THERE = ReportEntry(ReportKind.DELIVERED, "2.0.0")
SPAM = ReportEntry(ReportKind.COMPLAINT, text="feedback-report: abuse")
READERS: dict[str, BounceConfig] = {
    PROFILE: BounceConfig(
        lambda entry, recipient: interpret_report(entry, recipient, suppresses_bounces=True), [notify_all]
    )
}


class ReportSetup(Lives, Protocol):
    """A ledger that workers use, and its report store."""

    def intake(self) -> ReportStore:
        """The same ledger, opened beside the worker."""
        ...


def report(entry: ReportEntry, name: str = "a", fingerprint: str = "one", **event: Any) -> ReceivedReport:
    """A report about a letter."""
    return ReceivedReport(letter_tag(letter(name, **event).identity), fingerprint, [entry])


def hand_in(
    intake: ReportStore, *returned: ReceivedReport, houses: dict[str, BounceConfig] = READERS
) -> ReportResult:
    """The result of the last report."""
    return list(intake.add(list(returned), houses, NOON))[-1]


async def names(ledger: Ledger) -> list[str]:
    return [one.id for one in await cast("LedgerWithOutbox", ledger).pending(TOPIC, LATER + DAY * 999, 100)]


async def begin(post: ReportSetup) -> LedgerWithOutbox:
    book = cast("LedgerWithOutbox", await post.begin())
    book.announce(notify_all)
    return book


class ReportContract:
    """The tests; pytest collects them in the subclasses."""

    @async_test
    async def test_a_letter_that_could_not_be_delivered_is_bounced_and_notified(
        self, post: ReportSetup
    ) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        taken = hand_in(intake, report(GONE))
        assert (taken.profile, taken.changes, taken.suppressed) == (
            PROFILE,
            (State.BOUNCED,),
            (SuppressionReason.HARD_BOUNCE,),
        )
        assert (await find_row(ledger)).state is State.BOUNCED
        assert await names(ledger) == ["a-accepted", "a-bounced"]
        last = (await ledger.pending("crm", LATER + DAY * 999, 100))[-1]
        assert (last.key, last.data) == ("a", '{"state": "bounced", "code": "bounced", "tries": 1}')

    @async_test
    async def test_the_same_report_again_does_nothing(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        hand_in(intake, report(GONE))
        assert hand_in(intake, report(GONE)) == ReportResult(PROFILE, is_duplicate=True)
        assert hand_in(intake, report(GONE, fingerprint="two")).changes == ()
        assert await names(ledger) == ["a-accepted", "a-bounced"]
        [again] = await ledger.claim([letter("x", recipient="a@example.net")], LATER)
        assert isinstance(again, Claimed)
        assert set(again.suppressions) == {SuppressionReason.HARD_BOUNCE}

    @async_test
    async def test_the_same_report_twice_in_a_call_is_stored_once(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        first, second = intake.add([report(GONE), report(GONE)], READERS, NOON)
        assert (first.changes, second.is_duplicate) == ((State.BOUNCED,), True)

    @pytest.mark.parametrize("proves", PROVABLE_STATES)
    @pytest.mark.parametrize("state", [state for state in State if state not in IN_PROGRESS])
    @async_test
    async def test_a_report_changes_a_letter_only_as_provable_states_allow(
        self, post: ReportSetup, state: State, proves: State
    ) -> None:
        ledger, intake = await post.begin(), post.intake()
        await letter_in(ledger, state)
        houses = {PROFILE: BounceConfig(lambda _said, _recipient: ReportEffect(proves))}
        taken = hand_in(intake, report(SLOW), houses=houses)
        moved = state in PROVABLE_STATES[proves]
        assert taken.changes == ((proves,) if moved else ())
        assert (await find_row(ledger)).state is (proves if moved else state)
        waits = state in (State.DEFERRED, State.SCHEDULED) and not moved
        assert len(await ledger.claim_due(LATER, 10)) == int(waits)

    @pytest.mark.parametrize("state", sorted(IN_PROGRESS))
    @async_test
    async def test_a_report_that_comes_before_the_relay_s_reply_waits_for_it(
        self, post: ReportSetup, state: State
    ) -> None:
        ledger, intake = await begin(post), post.intake()
        claimed = await letter_in(ledger, state)
        assert hand_in(intake, report(GONE)) == ReportResult(PROFILE, is_pending=True)
        assert (await find_row(ledger)).state is state
        assert intake.apply_pending(READERS, NOON) == []
        await ledger.fence([claimed], NOON)
        await ledger.settle([ended(claimed)], NOON)
        [swept] = intake.apply_pending(READERS, NOON)
        assert (swept.changes, swept.suppressed) == ((State.BOUNCED,), (SuppressionReason.HARD_BOUNCE,))
        assert (await find_row(ledger)).state is State.BOUNCED
        assert await names(ledger) == ["a-accepted", "a-bounced"]
        assert intake.apply_pending(READERS, NOON) == []

    @async_test
    async def test_a_letter_whose_worker_died_is_not_sent_again_once_a_report_says_that_it_left(
        self, post: ReportSetup
    ) -> None:
        intake_of = post.intake
        ledger = await begin(post)
        await letter_in(ledger, State.SENDING)
        hand_in(intake_of(), report(SLOW))
        await post.die()
        successor = await begin(post)
        await successor.recover(LATER, resend=True)
        found = await find_row(successor)
        if found.state is State.SENDING:
            assert await successor.take_over([found], LATER) == [None]
        assert (await find_row(successor)).state is State.ACCEPTED
        assert await names(successor) == ["a-accepted"]
        assert await successor.claim_due(LATER, 10) == []

    @async_test
    async def test_a_recalled_letter_whose_worker_died_is_not_sent_again_either(
        self, post: ReportSetup
    ) -> None:
        ledger = await begin(post)
        await letter_in(ledger, State.DEFERRED)
        [recalled] = await ledger.claim_due(LATER, 10)
        again = Claimed(letter(), recalled.row, NOON, worker_epoch=recalled.worker_epoch, from_topic=False)
        await ledger.fence([again], LATER)
        assert hand_in(post.intake(), report(GONE)).is_pending
        await post.die()
        successor = await begin(post)
        await successor.recover(LATER, resend=True)
        assert (await find_row(successor)).state is State.BOUNCED
        assert await successor.claim_due(LATER + DAY, 10) == []
        assert (await names(successor))[-1] == "a-bounced"

    @async_test
    async def test_a_letter_that_a_live_worker_owns_is_not_changed(self, post: ReportSetup) -> None:
        ledger = await begin(post)
        await letter_in(ledger, State.SENDING)
        hand_in(post.intake(), report(GONE))
        found = await find_row(ledger)
        assert (found.state, found.owner_alive) == (State.SENDING, True)

    @async_test
    async def test_delivered_needs_a_report_and_a_later_bounce_replaces_it(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        assert hand_in(intake, report(THERE)).changes == (State.DELIVERED,)
        assert hand_in(intake, report(FULL, fingerprint="two")).changes == (State.BOUNCED,)
        assert hand_in(intake, report(THERE, fingerprint="three")).changes == ()
        assert await names(ledger) == ["a-accepted", "a-delivered", "a-bounced"]

    @async_test
    async def test_a_complaint_suppresses_the_address_and_leaves_the_letter_unchanged(
        self, post: ReportSetup
    ) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        taken = hand_in(intake, report(SPAM))
        assert (taken.changes, taken.suppressed) == ((), (SuppressionReason.COMPLAINT,))
        assert (await find_row(ledger)).state is State.ACCEPTED

    @async_test
    async def test_a_captured_letter_can_bounce_and_suppresses_no_address(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.CAPTURED)
        taken = hand_in(intake, report(GONE), report(SPAM, fingerprint="two"))
        assert taken.suppressed == ()
        assert (await find_row(ledger)).state is State.BOUNCED
        [other] = await ledger.claim([letter("x", recipient="a@example.net")], LATER)
        assert isinstance(other, Claimed)

    @async_test
    async def test_a_report_about_an_unknown_letter_changes_nothing(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        other = replace(report(GONE), tag=report(GONE, "b").tag)
        forged = replace(report(GONE), tag=report(GONE).tag[:8] + bytes(5))
        assert [hand_in(intake, one) for one in (other, forged)] == [ReportResult(), ReportResult()]
        assert hand_in(intake, report(GONE), houses={"shop/other": READERS[PROFILE]}) == ReportResult()
        assert (await find_row(ledger)).state is State.ACCEPTED

    @async_test
    async def test_the_reports_of_a_letter_are_bounded(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        junk = ReportEntry(ReportKind.UNPARSED)
        many = [
            replace(report(junk, fingerprint=str(number)), content=b"hello")
            for number in range(MAX_REPORTS_PER_LETTER)
        ]
        assert not any(taken.limit_reached or taken.is_duplicate for taken in intake.add(many, READERS, NOON))
        assert hand_in(intake, report(GONE, fingerprint="late")) == ReportResult(PROFILE, limit_reached=True)
        assert (await find_row(ledger)).state is State.ACCEPTED

    @async_test
    async def test_reports_are_pruned_with_their_letter(self, post: ReportSetup) -> None:
        ledger, intake = await begin(post), post.intake()
        await letter_in(ledger, State.ACCEPTED)
        hand_in(intake, report(THERE))
        far = NOON + DAY * 400
        assert await ledger.prune(far, 10) == 1
        assert hand_in(intake, report(THERE)) == ReportResult()
        assert intake.apply_pending(READERS, NOON) == []

    @pytest.mark.parametrize("kind", [ReportKind.IGNORED, ReportKind.UNPARSED])
    @async_test
    async def test_a_report_without_a_delivery_result_is_stored_and_changes_nothing(
        self, post: ReportSetup, kind: ReportKind
    ) -> None:
        ledger, intake = await begin(post), post.intake()
        claimed = await letter_in(ledger, State.SENDING)
        assert hand_in(intake, report(ReportEntry(kind))) == ReportResult(PROFILE)
        await ledger.settle([ended(claimed)], NOON)
        assert intake.apply_pending(READERS, NOON) == []
        assert hand_in(intake, report(ReportEntry(kind))).is_duplicate
