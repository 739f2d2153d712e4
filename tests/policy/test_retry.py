"""When a letter is tried again, and when it ends."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import (
    Accepted,
    Deferred,
    Expired,
    Finish,
    InDoubt,
    KeyUnavailable,
    NotAttempted,
    NoTemplate,
    Outcome,
    Park,
    RelayRefused,
    RelayUnreachable,
    Release,
    Released,
    Scheduled,
    TryAgain,
    Unrenderable,
)
from postroom.policy.retry import TEMPLATE_RECHECK, TEMPLATE_WAIT, AttemptHistory, RetryPolicy, next_step
from postroom.ports.ledger import State
from postroom.ports.relay import Lost, Reply, Stage
from tests.delivery.letters import NOON, POLICY, TAKEN

PROBLEM = Problem(Code.RELAY_DEFERRED, "smtp.rcpt", "the relay answered 451 later")
DEFERRED = Deferred(PROBLEM, Reply(Stage.RCPT, 451, "later"))
UNREACHABLE = RelayUnreachable(PROBLEM, Lost(Stage.CONNECT, False, "refused"))
DOUBT = InDoubt(PROBLEM)
MISSING = NoTemplate(Problem(Code.TEMPLATE_MISSING, "event_type", "none"))
SUSPENDED = NoTemplate(Problem(Code.TEMPLATE_SUSPENDED, "event_type", "suspended"))
OUTCOMES: list[Outcome] = [
    Accepted(TAKEN),
    DEFERRED,
    replace(DEFERRED, of_relay=True),
    UNREACHABLE,
    RelayRefused(PROBLEM, Reply(Stage.RCPT, 550, "no")),
    DOUBT,
    Unrenderable(PROBLEM),
    MISSING,
    SUSPENDED,
    Scheduled(NOON + timedelta(hours=3)),
    Expired(PROBLEM),
    KeyUnavailable(PROBLEM),
    NotAttempted(PROBLEM, 30.0),
    Released(),
]
NEW = AttemptHistory(NOON, 0, 0)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    initial_delay=st.floats(1, 600),
    max_delay=st.floats(600, 14_400),
    max_age=st.floats(0, 1e6),
    on_in_doubt=st.sampled_from(["Resend", "Park"]),
    accepted_as=st.sampled_from([State.ACCEPTED, State.CAPTURED]),
)
histories = st.builds(
    AttemptHistory, st.just(NOON), st.integers(0, 200), st.integers(0, 10_000), st.integers(0, 200)
)
ages = st.floats(0, 2e6).map(lambda seconds: NOON + timedelta(seconds=seconds))
chances = st.floats(0, 1, exclude_max=True)


def wait(step: object, now: datetime = NOON) -> float:
    assert isinstance(step, TryAgain)
    return (step.at - now).total_seconds()


@given(st.sampled_from(OUTCOMES), histories, policies, ages, chances)
def test_every_outcome_has_a_step_and_every_end_of_a_refusal_says_why(
    outcome: Outcome, history: AttemptHistory, policy: RetryPolicy, now: datetime, chance: float
) -> None:
    step = next_step(outcome, history, policy, now, chance)
    assert isinstance(step, Finish | TryAgain | Park | Release)
    if isinstance(step, Finish) and step.dead_letter:
        assert step.problem is not None
    if isinstance(outcome, Accepted):
        assert step == Finish(policy.accepted_as)
    if isinstance(step, Finish) and not isinstance(outcome, Accepted | Expired):
        assert step.dead_letter


@given(st.sampled_from([DEFERRED, UNREACHABLE, DOUBT]), histories, policies, ages, chances)
def test_a_delay_is_bounded_and_no_retry_is_later_than_max_age(
    outcome: Outcome, history: AttemptHistory, policy: RetryPolicy, now: datetime, chance: float
) -> None:
    step = next_step(outcome, history, policy, now, chance)
    if isinstance(step, TryAgain):
        assert 0.5 * policy.initial_delay - 1e-3 <= wait(step, now) <= policy.max_delay + 1e-3
        assert (step.at - NOON).total_seconds() <= policy.max_age + 1e-3


@pytest.mark.parametrize(
    ("tries", "least", "most"), [(0, 2.5, 10), (1, 2.5, 20), (3, 2.5, 80), (6, 2.5, 600), (9, 2.5, 600)]
)
def test_a_delay_is_drawn_from_all_between_soon_and_twice_what_is_due(
    tries: int, least: float, most: float
) -> None:
    """Full jitter: letters that failed together do not come back together."""
    history = replace(NEW, attempts=tries)
    drawn = [wait(next_step(UNREACHABLE, history, POLICY, NOON, chance)) for chance in (0.0, 0.5, 1.0)]
    assert drawn == [least, (least + most) / 2, most]


GREYLISTED = "4.7.1 Greylisted, please come back"
THROTTLED = "Throttling failure: Maximum sending rate exceeded"


@pytest.mark.parametrize(
    ("stage", "code", "text", "tries", "least"),
    [
        (Stage.RCPT, 451, "4.7.1 try again in 5 minutes", 0, 300),
        (Stage.RCPT, 450, "4.2.0 Greylisted for 300 seconds", 0, 300),
        (Stage.RCPT, 450, "4.2.0 please retry after 2h", 0, 3600),
        (Stage.END_OF_DATA, 452, "4.3.1 wait 90 s", 0, 90),
        (Stage.RCPT, 451, GREYLISTED, 0, 60),
        (Stage.RCPT, 451, GREYLISTED, 1, 300),
        (Stage.RCPT, 451, GREYLISTED, 3, 600),  # 30 minutes are more than retry.maxDelay
        (Stage.END_OF_DATA, 454, THROTTLED, 0, 60),
        (Stage.DATA, 454, THROTTLED, 3, 480),
        (Stage.DATA, 454, THROTTLED, 9, 600),
        (Stage.RCPT, 454, "4.3.0 later", 0, 2.5),
        (Stage.RCPT, 451, "4.3.0 try again later, error in 4.7.1", 0, 2.5),
    ],
)
def test_what_a_relay_asks_for_is_waited_for(
    stage: Stage, code: int, text: str, tries: int, least: float
) -> None:
    outcome = Deferred(PROBLEM, Reply(stage, code, text))
    history = replace(NEW, attempts=tries)
    assert wait(next_step(outcome, history, POLICY, NOON, 0.0)) == least
    assert wait(next_step(outcome, history, POLICY, NOON, 0.99)) >= least


def test_greylisting_that_lasts_five_minutes_is_outlived_by_the_attempts_there_are() -> None:
    outcome, passed = Deferred(PROBLEM, Reply(Stage.RCPT, 451, GREYLISTED)), 0.0
    for tries in range(POLICY.max_attempts - 1):
        passed += wait(next_step(outcome, replace(NEW, attempts=tries, replies=tries), POLICY, NOON, 0.0))
    assert passed > 300


def test_a_letter_kept_back_comes_again_when_it_was_told_to_and_max_age_ends_even_that() -> None:
    kept = NotAttempted(PROBLEM, 40.0)
    assert wait(next_step(kept, replace(NEW, replies=4), POLICY, NOON, 0.5)) == 40.5
    step = next_step(kept, NEW, POLICY, NOON + timedelta(hours=24), 0.5)
    assert isinstance(step, Finish)
    assert step.problem is not None
    assert "retry.maxAge" in step.problem.message


def test_the_last_answered_attempt_fails_the_letter_and_names_the_last_answer() -> None:
    assert isinstance(next_step(DEFERRED, replace(NEW, replies=3, attempts=3), POLICY, NOON, 0.5), TryAgain)
    step = next_step(DEFERRED, replace(NEW, replies=4, attempts=4), POLICY, NOON, 0.5)
    assert isinstance(step, Finish)
    assert (step.state, step.dead_letter) == (State.FAILED, True)
    assert step.problem is not None
    assert step.problem.code is Code.ATTEMPTS_EXHAUSTED
    assert "retry.maxAttempts" in step.problem.message
    assert PROBLEM.message in step.problem.message


def test_a_relay_that_speaks_of_itself_uses_up_no_attempts_but_max_age_ends_it() -> None:
    closing = replace(DEFERRED, of_relay=True)
    long = replace(NEW, replies=4, attempts=50)
    assert isinstance(next_step(closing, long, POLICY, NOON + timedelta(hours=23), 0.5), TryAgain)
    end = next_step(closing, long, POLICY, NOON + timedelta(hours=24), 0.5)
    assert isinstance(end, Finish)
    assert end.problem is not None
    assert "retry.maxAge" in end.problem.message


def test_an_outage_uses_up_no_attempts_but_max_age_ends_it() -> None:
    long = replace(NEW, replies=4, attempts=5000)
    assert isinstance(next_step(UNREACHABLE, long, POLICY, NOON + timedelta(hours=23), 0.5), TryAgain)
    step = next_step(UNREACHABLE, long, POLICY, NOON + timedelta(hours=24), 0.5)
    assert isinstance(step, Finish)
    assert step.problem is not None
    assert "retry.maxAge" in step.problem.message


def test_a_doubt_is_sent_again_or_parked_as_the_profile_says() -> None:
    assert wait(next_step(DOUBT, NEW, POLICY, NOON, 0.5)) == 6.25
    assert next_step(DOUBT, NEW, replace(POLICY, on_in_doubt="Park"), NOON, 0.5) == Park(PROBLEM)


def test_a_relay_that_never_answers_the_dot_does_not_get_copies_without_end() -> None:
    """Each resend may be another copy in the inbox: they come ever later, then a person decides."""
    steps = [
        next_step(DOUBT, replace(NEW, attempts=n, in_doubt_count=n), POLICY, NOON, 0.5) for n in range(5)
    ]
    assert [wait(step) for step in steps[:4]] == [6.25, 11.25, 21.25, 41.25]
    assert steps[4] == Park(PROBLEM)
    assert next_step(DOUBT, NEW, POLICY, NOON + timedelta(days=1), 0.5) == Park(PROBLEM)


@pytest.mark.parametrize("policy", ["Resend", "Park"])
def test_only_doubt_asks_for_the_policy_of_doubt(policy: Literal["Resend", "Park"]) -> None:
    chosen = replace(POLICY, on_in_doubt=policy)
    for outcome in OUTCOMES:
        if not isinstance(outcome, InDoubt):
            assert next_step(outcome, NEW, chosen, NOON, 0.5) == next_step(outcome, NEW, POLICY, NOON, 0.5)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (RelayRefused(PROBLEM, Reply(Stage.RCPT, 550, "no")), State.FAILED),
        (Unrenderable(PROBLEM), State.RENDER_FAILED),
        (Expired(PROBLEM), State.EXPIRED),
    ],
)
def test_an_end_is_an_end_whatever_came_before_and_makes_a_dead_letter(
    outcome: Outcome, state: State
) -> None:
    for history in (NEW, AttemptHistory(NOON, 4, 4000, 3)):
        assert next_step(outcome, history, POLICY, NOON, 0.5) == Finish(state, PROBLEM, dead_letter=True)


def test_a_letter_waits_for_its_template_five_minutes_and_then_fails() -> None:
    assert next_step(MISSING, NEW, POLICY, NOON + TEMPLATE_WAIT, 0.5) == TryAgain(
        NOON + TEMPLATE_WAIT + TEMPLATE_RECHECK[1], MISSING.problem
    )
    assert next_step(MISSING, NEW, POLICY, NOON, 0.5) == TryAgain(NOON + TEMPLATE_RECHECK[0], MISSING.problem)
    late = NOON + TEMPLATE_WAIT + timedelta(seconds=1)
    assert next_step(MISSING, NEW, POLICY, late, 0.5) == Finish(
        State.RENDER_FAILED, MISSING.problem, dead_letter=True
    )


def test_a_letter_that_was_tried_before_waits_for_its_template_as_long_as_for_a_relay() -> None:
    tried = replace(NEW, attempts=1)
    assert isinstance(next_step(MISSING, tried, POLICY, NOON + timedelta(hours=1), 0.5), TryAgain)
    assert isinstance(next_step(MISSING, tried, POLICY, NOON + timedelta(hours=25), 0.5), Finish)


def test_a_suspended_template_holds_its_letters_until_max_age() -> None:
    later = NOON + timedelta(hours=23)
    assert next_step(SUSPENDED, NEW, POLICY, later, 0.5) == TryAgain(
        later + 4 * TEMPLATE_RECHECK[1], SUSPENDED.problem
    )
    end = next_step(SUSPENDED, NEW, POLICY, NOON + timedelta(hours=25), 0.5)
    assert end == Finish(State.RENDER_FAILED, SUSPENDED.problem, dead_letter=True)


def test_a_letter_for_later_is_scheduled_and_one_handed_back_is_given_back() -> None:
    at = NOON + timedelta(days=30)
    assert next_step(Scheduled(at), NEW, POLICY, NOON, 0.5) == TryAgain(at, None, State.SCHEDULED)
    assert next_step(Released(), NEW, POLICY, NOON, 0.5) == Release()
