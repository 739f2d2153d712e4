"""How workers divide a rate, and how often one recipient is written to."""

from hypothesis import given
from hypothesis import strategies as st

from postroom.policy import rates
from postroom.policy.rates import TERM_SECONDS, Share, Shares, divide_rate, leave_shares
from postroom.ports.ledger import LedgerTime
from postroom.ports.relay import Rate


def counts(shares: Shares) -> dict[int, int]:
    return {who: each.count for who, each in shares.items()}


def test_who_is_alone_has_all_and_who_joins_gets_what_the_others_gave_up() -> None:
    shares = divide_rate({}, 10, LedgerTime(0.0, 1))
    assert counts(shares) == {1: 10}
    shares = divide_rate(shares, 10, LedgerTime(0.0, 2))
    assert counts(shares) == {1: 10, 2: 0}
    shares = divide_rate(shares, 10, LedgerTime(1.0, 1))
    shares = divide_rate(shares, 10, LedgerTime(1.0, 2))
    assert counts(shares) == {1: 5, 2: 5}


def test_what_does_not_divide_goes_to_the_oldest_and_nobody_is_lent_more_than_there_is() -> None:
    shares: Shares = {}
    for _ in range(3):
        for who in (1, 2, 3):
            shares = divide_rate(shares, 2, LedgerTime(0.0, who))
    assert counts(shares) == {1: 1, 2: 1, 3: 0}


def test_a_share_grows_when_another_leaves_or_is_not_renewed() -> None:
    both = {1: Share(5, 10.0), 2: Share(5, 3.0)}
    assert counts(divide_rate(leave_shares(both, LedgerTime(0.0, 2)), 10, LedgerTime(0.0, 1))) == {1: 10}
    assert counts(divide_rate(both, 10, LedgerTime(4.0, 1))) == {1: 10}


def test_a_look_that_changes_nothing_writes_nothing() -> None:
    shares = divide_rate({}, 10, LedgerTime(0.0, 1))
    assert divide_rate(shares, 10, LedgerTime(4.0, 1)) is shares
    assert divide_rate(shares, 10, LedgerTime(6.0, 1))[1].until == 6.0 + TERM_SECONDS


@given(
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(1, 6), st.floats(0, 4), st.sampled_from(["look", "leave"])), max_size=60),
)
def test_all_shares_together_never_exceed_the_rate(total: int, steps: list[tuple[int, float, str]]) -> None:
    shares, now = Shares(), 0.0
    for who, pause, what in steps:
        now += pause
        at = LedgerTime(now, who)
        shares = rates.read_shares(
            rates.write_shares(divide_rate(shares, total, at) if what == "look" else leave_shares(shares, at))
        )
        assert sum(each.count for each in shares.values() if each.until > now) <= total


def test_a_recipient_gets_so_many_letters_a_period_and_the_next_when_the_first_is_old() -> None:
    rate, marks = Rate(3, 60.0), rates.Marks()
    marks, going, wait = rates.admit_recipients(marks, 2, rate, 0.0)
    assert (going, wait) == (2, 0.0)
    marks, going, wait = rates.admit_recipients(marks, 2, rate, 10.0)
    assert (going, wait) == (1, 50.0)
    marks, going, wait = rates.admit_recipients(marks, 1, rate, 59.0)
    assert (going, wait) == (0, 1.0)
    marks, going, wait = rates.admit_recipients(marks, 3, rate, 61.0)
    assert (going, wait) == (2, 9.0)


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=200),
)
def test_no_window_of_the_period_holds_more_than_a_recipients_rate(
    count: int, steps: list[tuple[float, int]]
) -> None:
    rate, marks, now, sent = Rate(count, 60.0), rates.Marks(), 0.0, list[float]()
    for pause, wanted in steps:
        now += pause
        marks, going, wait = rates.admit_recipients(
            rates.read_marks(rates.write_marks(marks)), wanted, rate, now
        )
        assert (wait == 0.0) == (going == wanted)
        sent += [now] * going
        assert sum(at > now - 60.0 for at in sent) <= count
        assert len(marks) <= rates.GRAINS + 1
