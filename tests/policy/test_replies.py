"""What each fact of the SMTP dialogue means: RFC 5321's codes at every stage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import (
    Accepted,
    Deferred,
    InDoubt,
    NotAttempted,
    RelayRefused,
    RelayUnreachable,
    Released,
)
from postroom.policy.replies import classify_reply
from postroom.ports.relay import HoldReason, Lost, NotSent, Postponed, Reply, Stage

OF_THE_LETTER = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_DATA)
BEFORE = (Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH)
TEMPORARY = (421, 450, 451, 452, 454, 432, 499)
PERMANENT = (500, 502, 503, 523, 550, 551, 552, 553, 554, 556, 599)

PAIRS = [(stage, code) for stage in OF_THE_LETTER for code in TEMPORARY]


@pytest.mark.parametrize(("stage", "code"), PAIRS)
def test_a_4yz_says_not_now_at_every_stage(stage: Stage, code: int) -> None:
    outcome = classify_reply(Reply(stage, code, "4.7.1 later"))
    assert isinstance(outcome, Deferred)
    assert outcome.problem.code is Code.RELAY_DEFERRED
    assert outcome.problem.field == f"smtp.{stage}"
    assert f"{code} 4.7.1 later" in outcome.problem.message


OF_THE_RELAY = {(stage, 421) for stage in OF_THE_LETTER} | {
    (Stage.MAIL, 452),
    (Stage.DATA, 454),
    (Stage.END_OF_DATA, 454),
}


@pytest.mark.parametrize(("stage", "code"), PAIRS)
def test_a_relay_that_closes_is_full_or_throttles_speaks_of_itself(stage: Stage, code: int) -> None:
    outcome = classify_reply(Reply(stage, code, "later"))
    assert isinstance(outcome, Deferred)
    assert outcome.of_relay is ((stage, code) in OF_THE_RELAY)


@pytest.mark.parametrize(
    ("text", "of_relay"),
    [
        ("4.3.1 mail system full", True),
        ("4.3.2 system not accepting network messages", True),
        ("4.3.0 queue file write error", False),
        ("4.3.20 what", False),
        ("4.2.2 mailbox full", False),
        ("4.7.1 greylisted", False),
        ("see 4.3.2", False),
    ],
)
def test_an_enhanced_code_says_whether_the_system_is_meant(text: str, of_relay: bool) -> None:
    for stage in OF_THE_LETTER:
        outcome = classify_reply(Reply(stage, 451, text))
        assert isinstance(outcome, Deferred)
        assert outcome.of_relay is of_relay


@pytest.mark.parametrize("stage", OF_THE_LETTER)
@pytest.mark.parametrize("code", PERMANENT)
def test_a_5yz_says_never_but_552_to_a_recipient_means_too_many(stage: Stage, code: int) -> None:
    outcome = classify_reply(Reply(stage, code, "5.1.1 no"))
    if (stage, code) == (Stage.RCPT, 552):
        assert isinstance(outcome, Deferred)
    else:
        assert isinstance(outcome, RelayRefused)
        assert outcome.problem.code is Code.RELAY_REFUSED


@pytest.mark.parametrize("code", [250, 251, 252])
def test_only_a_2yz_to_the_dot_is_acceptance(code: int) -> None:
    assert isinstance(classify_reply(Reply(Stage.END_OF_DATA, code, "queued")), Accepted)
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA):
        assert isinstance(classify_reply(Reply(stage, code, "odd")), Deferred)


@pytest.mark.parametrize("stage", OF_THE_LETTER)
@pytest.mark.parametrize("code", [100, 354, 399, 600, 999])
def test_an_answer_that_makes_no_sense_is_tried_again(stage: Stage, code: int) -> None:
    assert isinstance(classify_reply(Reply(stage, code, "what")), Deferred)


@pytest.mark.parametrize("stage", BEFORE)
@pytest.mark.parametrize("code", [421, 454, 500, 530, 534, 535, 550, 554])
def test_a_refusal_before_the_letter_is_about_the_relay_and_never_fails_a_letter(
    stage: Stage, code: int
) -> None:
    outcome = classify_reply(Reply(stage, code, "no"))
    assert isinstance(outcome, RelayUnreachable)
    assert outcome.problem.code is Code.RELAY_UNREACHABLE
    assert str(code) in outcome.lost.reason


@pytest.mark.parametrize("stage", Stage)
def test_a_loss_is_doubt_only_once_the_dot_was_handed_over(stage: Stage) -> None:
    before = classify_reply(Lost(stage, end_of_data_sent=False, reason="reset by peer"))
    assert isinstance(before, RelayUnreachable)
    assert before.problem.field == f"smtp.{stage}"
    after = classify_reply(Lost(stage, end_of_data_sent=True, reason="reset by peer"))
    assert isinstance(after, InDoubt)
    assert after.problem.code is Code.CONNECTION_LOST_AT_END_OF_DATA
    assert "reset by peer" in after.problem.message


@pytest.mark.parametrize("fenced", [True, False])
def test_what_never_left_is_handed_back(fenced: bool) -> None:
    assert classify_reply(NotSent(fenced)) == Released()


@pytest.mark.parametrize(
    ("barrier", "code", "field"),
    [
        (HoldReason.CIRCUIT, Code.CIRCUIT_OPEN, "spec.circuitBreaker"),
        (HoldReason.RATE, Code.RATE_LIMITED, "spec.limits.rate"),
        (HoldReason.RECIPIENT_RATE, Code.RATE_LIMITED, "spec.limits.perRecipientRate"),
    ],
)
def test_what_met_a_barrier_is_kept_and_the_field_behind_it_is_named(
    barrier: HoldReason, code: Code, field: str
) -> None:
    assert classify_reply(Postponed(barrier, 7.0, "wait")) == NotAttempted(Problem(code, field, "wait"), 7.0)


@given(st.sampled_from(Stage), st.integers(0, 999), st.text(max_size=512))
def test_every_reply_has_a_meaning_and_no_refusal_is_taken_for_acceptance(
    stage: Stage, code: int, text: str
) -> None:
    outcome = classify_reply(Reply(stage, code, text))
    assert isinstance(outcome, Accepted) == (stage is Stage.END_OF_DATA and 200 <= code < 300)
    assert not isinstance(outcome, InDoubt | Released)
