"""The suppression list on the way of a letter: what it stops, what fills it."""

from dataclasses import replace

import pytest

from postroom.policy.suppression import is_hard_bounce, suppression_problem
from postroom.ports.ledger import State, Suppression, SuppressionReason
from postroom.ports.relay import Reply, Stage
from tests.delivery.async_test import async_test
from tests.delivery.fakes import PlainTemplate
from tests.delivery.letters import HOUSE, KIND, NOON, PROFILE, record
from tests.delivery.pipeline_harness import Bench

A = "a@example.net"
NO_SUCH_USER = Reply(Stage.RCPT, 550, "5.1.1 no such user")


def listed(reason: SuppressionReason) -> Suppression:
    return Suppression(PROFILE, A, reason, NOON)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("reason", SuppressionReason)
@pytest.mark.parametrize("category", ["Transactional", "Subscription"])
def test_everything_is_stopped_but_a_transactional_letter_after_an_unsubscription(
    reason: SuppressionReason, category: str
) -> None:
    spared = reason is SuppressionReason.UNSUBSCRIBE and category == "Transactional"
    assert (suppression_problem({reason}, category) is None) is spared
    assert suppression_problem((), category) is None


@pytest.mark.parametrize(
    ("reply", "hard"),
    [
        (NO_SUCH_USER, True),
        (Reply(Stage.END_OF_DATA, 550, "5.1.1 <a@example.net> unknown"), True),
        (Reply(Stage.RCPT, 556, "5.1.10 the domain takes no mail"), True),
        (Reply(Stage.RCPT, 550, "5.1.10"), True),
        (Reply(Stage.RCPT, 450, "4.1.1 no such user yet"), False),
        (Reply(Stage.RCPT, 550, "5.1.2 bad destination system"), False),
        (Reply(Stage.RCPT, 550, "5.7.1 relaying denied"), False),
        (Reply(Stage.RCPT, 550, "no such user"), False),
        (Reply(Stage.MAIL, 550, "5.1.1 sender unknown"), False),
        (Reply(Stage.RCPT, 550, "5.1.11 something new"), False),
    ],
)
def test_a_hard_bounce_is_a_word_about_the_address(reply: Reply, hard: bool) -> None:
    assert is_hard_bounce(reply) is hard


@async_test
async def test_a_letter_to_an_address_on_the_list_is_not_sent(bench: Bench) -> None:
    bench.store.suppressions.append(listed(SuppressionReason.COMPLAINT))
    await bench.carry(record())
    assert (bench.state(), bench.relay.carried, bench.buried) == (State.SUPPRESSED, [], [])


@async_test
async def test_a_password_reset_reaches_whoever_unsubscribed_and_a_newsletter_does_not(bench: Bench) -> None:
    bench.store.suppressions.append(listed(SuppressionReason.UNSUBSCRIBE))
    await bench.carry(record())
    assert bench.relay.carried == [A]
    bench.shelf.templates[KIND] = PlainTemplate(category="Subscription")
    await bench.carry(record("news", 1, recipient=A))
    assert bench.relay.carried == [A]


@async_test
async def test_an_address_whose_mailbox_does_not_exist_is_written_to_once(bench: Bench) -> None:
    bench.policy = replace(HOUSE, suppresses_bounces=True)
    bench.relay.answers[A] = NO_SUCH_USER
    await bench.carry(record())
    await bench.carry(record("next", 1, recipient="A@example.net"))
    assert bench.relay.carried == [A]
    [entry] = bench.store.suppressions
    assert (entry.reason, entry.note) == (SuppressionReason.HARD_BOUNCE, "550 5.1.1 no such user")


@async_test
async def test_a_profile_may_keep_bounces_off_its_list(bench: Bench) -> None:
    bench.relay.answers[A] = NO_SUCH_USER
    await bench.carry(record())
    assert bench.store.suppressions == []
