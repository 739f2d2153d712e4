"""The contract of ports.notifications.NotificationOutbox, which every ledger must pass.

A subclass gives a fixture `lives` as the contract of the ledger does.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol, cast

from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import Claimed, Ledger, State
from postroom.ports.notifications import TOPIC, LetterTransition, Notification, NotificationOutbox
from tests.delivery.async_test import async_test
from tests.delivery.letters import NOON, dead_letter, ended, record
from tests.ledger.ledger_contract import LATER, PROBLEM, UNDECIDED, Lives, carry, claim, find_row, letter_in


class LedgerWithOutbox(Ledger, NotificationOutbox, Protocol):
    """A ledger with its outbox of notifications."""


def notify_all(fate: LetterTransition) -> Sequence[Notification]:
    """A rule that notifies the status topic and a callback of every transition."""
    data = f'{{"state": "{fate.state}", "code": "{fate.code}", "tries": {fate.attempts}}}'
    name = f"{fate.identity.id}-{fate.state}"
    return [
        Notification(name, destination, fate.identity.id, f"letter.{fate.state}", data, fate.at, fate.row)
        for destination in (TOPIC, "crm")
    ]


async def begin(lives: Lives) -> LedgerWithOutbox:
    book = cast("LedgerWithOutbox", await lives.begin())
    book.announce(notify_all)
    return book


async def names(book: LedgerWithOutbox, destination: str = TOPIC) -> list[str]:
    return [one.id for one in await book.pending(destination, LATER, 100)]


class NotificationContract:
    """The tests; pytest collects them in the subclasses."""

    @async_test
    async def test_a_settlement_is_notified_to_every_destination(self, lives: Lives) -> None:
        book = await begin(lives)
        claimed = await letter_in(book, State.ACCEPTED)
        [one] = await book.pending(TOPIC, LATER, 100)
        assert (one.id, one.key, one.type, one.at) == ("a-accepted", "a", "letter.accepted", NOON)
        assert (one.data, one.letter) == ('{"state": "accepted", "code": "", "tries": 1}', claimed.row)
        assert await names(book, "crm") == ["a-accepted"]
        assert await names(book, "nobody") == []

    @async_test
    async def test_without_rules_there_are_no_notifications(self, lives: Lives) -> None:
        book = cast("LedgerWithOutbox", await lives.begin())
        await letter_in(book, State.FAILED)
        assert await names(book) == []

    @async_test
    async def test_notifications_come_in_the_order_of_the_transitions(self, lives: Lives) -> None:
        book = await begin(lives)
        await letter_in(book, State.DEFERRED, "a")
        await letter_in(book, State.ACCEPTED, "b")
        [recalled] = await book.claim_due(LATER, 10)
        await book.settle([ended(carry(recalled))], LATER)
        assert await names(book) == ["a-deferred", "b-accepted", "a-accepted"]
        assert [one.id for one in await book.pending(TOPIC, LATER, 2)] == ["a-deferred", "b-accepted"]

    @async_test
    async def test_an_arrived_notification_is_deleted_for_its_destination_only(self, lives: Lives) -> None:
        book = await begin(lives)
        await letter_in(book, State.ACCEPTED)
        await book.delivered(await book.pending(TOPIC, LATER, 100))
        assert (await names(book), await names(book, "crm")) == ([], ["a-accepted"])

    @async_test
    async def test_a_pending_notification_survives_the_process(self, lives: Lives) -> None:
        await letter_in(await begin(lives), State.ACCEPTED)
        await lives.die()
        assert await names(await begin(lives)) == ["a-accepted"]

    @async_test
    async def test_a_postponed_notification_is_due_again_with_one_more_attempt(self, lives: Lives) -> None:
        book = await begin(lives)
        await letter_in(book, State.ACCEPTED)
        [one] = await book.pending("crm", NOON, 10)
        await book.postpone([(one, LATER)])
        assert await book.pending("crm", LATER - timedelta(seconds=1), 10) == []
        [again] = await book.pending("crm", LATER, 10)
        assert (again.id, again.attempts) == (one.id, 1)

    @async_test
    async def test_notifications_to_a_removed_destination_are_deleted(self, lives: Lives) -> None:
        book = await begin(lives)
        await letter_in(book, State.ACCEPTED)
        assert await book.abandon([TOPIC]) == 1
        assert (await names(book), await names(book, "crm")) == (["a-accepted"], [])
        assert await book.abandon([]) == 1
        assert await names(book) == []

    @async_test
    async def test_a_letter_that_is_deferred_untried_is_not_notified_again(self, lives: Lives) -> None:
        book = await begin(lives)
        claimed = await claim(book)
        waits = ended(claimed, State.DEFERRED, due=LATER, problem=PROBLEM, attempt=None, attempts=0)
        await book.settle([waits], NOON)
        [recalled] = await book.claim_due(LATER, 10)
        on = ended(carry(recalled), State.DEFERRED, due=LATER, problem=PROBLEM, attempt=None, attempts=0)
        await book.settle([on], LATER)
        assert await names(book) == ["a-deferred"]

    @async_test
    async def test_a_late_reply_is_not_notified(self, lives: Lives) -> None:
        book = await begin(lives)
        claimed = await claim(book)
        await lives.die()
        book = await begin(lives)
        [taken] = await book.take_over([await find_row(book)], LATER)
        assert isinstance(taken, Claimed)
        await book.settle([ended(claimed)], LATER)
        assert await names(book) == []

    @async_test
    async def test_a_doubt_that_a_dead_worker_left_is_notified(self, lives: Lives) -> None:
        book = await begin(lives)
        await letter_in(book, State.DEFERRED)
        [recalled] = await book.claim_due(LATER, 10)
        await book.fence([carry(recalled)], LATER)
        await lives.die()
        book = await begin(lives)
        await book.recover(LATER, resend=False)
        assert await names(book) == ["a-deferred", "a-in_doubt"]
        last = (await book.pending(TOPIC, LATER, 10))[-1]
        assert '"code": "connection_lost_at_end_of_data"' in last.data

    @async_test
    async def test_a_letter_that_stayed_in_doubt_too_long_is_notified(self, lives: Lives) -> None:
        book = await begin(lives)
        await letter_in(book, State.IN_DOUBT)
        assert await book.expire_in_doubt(LATER, UNDECIDED, LATER) == 1
        assert await names(book) == ["a-in_doubt", "a-failed"]
        last = (await book.pending(TOPIC, LATER, 10))[-1]
        assert '"code": "undecided"' in last.data

    @async_test
    async def test_a_letter_that_ends_with_its_refused_record_is_notified(self, lives: Lives) -> None:
        await claim(await begin(lives))
        await lives.die()
        book = await begin(lives)
        await book.add_dead_letters(
            [dead_letter(record(), Problem(Code.POISON, "value", "killed three workers"))]
        )
        [one] = await book.pending(TOPIC, LATER, 10)
        assert (one.id, '"code": "poison"' in one.data) == ("a-render_failed", True)
