"""What a report means, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.policy.bounces import NO_MAILBOX, interpret_report
from postroom.ports.bounces import PROVABLE_STATES, ReportEffect
from postroom.ports.ledger import FINAL_STATES, State, SuppressionReason

MIRA = "Mira@example.net"


@pytest.mark.parametrize(
    ("entry", "meaning"),
    [
        (ReportEntry(ReportKind.FAILED, "5.1.1"), ReportEffect(State.BOUNCED, SuppressionReason.HARD_BOUNCE)),
        (ReportEntry(ReportKind.FAILED, "5.1.3"), ReportEffect(State.BOUNCED, SuppressionReason.HARD_BOUNCE)),
        (ReportEntry(ReportKind.FAILED, "5.1.6"), ReportEffect(State.BOUNCED, SuppressionReason.HARD_BOUNCE)),
        (
            ReportEntry(ReportKind.FAILED, "5.1.10"),
            ReportEffect(State.BOUNCED, SuppressionReason.HARD_BOUNCE),
        ),
        (ReportEntry(ReportKind.FAILED, "5.1.0"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.1.2"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.2.1"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.2.2"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.4.4"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.7.1"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "4.4.7"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "4.1.1"), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, ""), ReportEffect(State.BOUNCED)),
        (ReportEntry(ReportKind.DELAYED, "4.4.1"), ReportEffect(State.ACCEPTED)),
        (ReportEntry(ReportKind.DELAYED, "5.1.1"), ReportEffect(State.ACCEPTED)),
        (ReportEntry(ReportKind.RELAYED, "2.0.0"), ReportEffect(State.ACCEPTED)),
        (ReportEntry(ReportKind.EXPANDED, "2.0.0"), ReportEffect(State.ACCEPTED)),
        (ReportEntry(ReportKind.DELIVERED, "2.0.0"), ReportEffect(State.DELIVERED)),
        (ReportEntry(ReportKind.COMPLAINT), ReportEffect(State.ACCEPTED, SuppressionReason.COMPLAINT)),
        (ReportEntry(ReportKind.IGNORED), ReportEffect()),
        (ReportEntry(ReportKind.UNPARSED), ReportEffect()),
    ],
)
def test_a_report_means_what_the_table_says(entry: ReportEntry, meaning: ReportEffect) -> None:
    assert interpret_report(entry, MIRA, suppresses_bounces=True) == meaning


@pytest.mark.parametrize("status", sorted(NO_MAILBOX))
def test_an_address_that_the_letter_was_forwarded_to_says_nothing_of_the_letter_s_own(status: str) -> None:
    elsewhere = ReportEntry(ReportKind.FAILED, status, recipients=("elsewhere@example.org",))
    assert interpret_report(elsewhere, MIRA, suppresses_bounces=True) == ReportEffect(State.BOUNCED)
    both = ReportEntry(ReportKind.FAILED, status, recipients=("elsewhere@example.org", "mira@example.net"))
    assert interpret_report(both, MIRA, suppresses_bounces=True).suppress is SuppressionReason.HARD_BOUNCE


def test_a_profile_may_keep_bounces_off_its_list_and_complaints_stay_on_it() -> None:
    assert interpret_report(
        ReportEntry(ReportKind.FAILED, "5.1.1"), MIRA, suppresses_bounces=False
    ) == ReportEffect(State.BOUNCED)
    assert (
        interpret_report(ReportEntry(ReportKind.COMPLAINT), MIRA, suppresses_bounces=False).suppress
        is SuppressionReason.COMPLAINT
    )


@given(
    st.builds(
        ReportEntry,
        st.sampled_from(ReportKind),
        st.text(),
        st.text(),
        st.text(),
        st.lists(st.text()).map(tuple),
    ),
    st.text(),
    st.booleans(),
)
def test_every_report_has_a_meaning_that_a_ledger_knows(
    entry: ReportEntry, recipient: str, suppresses: bool
) -> None:
    meaning = interpret_report(entry, recipient, suppresses)
    assert meaning.proves is None or meaning.proves in PROVABLE_STATES


def test_what_a_report_proves_leads_nowhere_back() -> None:
    """However reports come, a letter ends: each step is one that no other undoes."""
    order = [State.DEFERRED, State.IN_DOUBT, State.CAPTURED, State.ACCEPTED, State.DELIVERED, State.BOUNCED]
    for after, before in PROVABLE_STATES.items():
        assert after in FINAL_STATES
        assert all(order.index(state) < order.index(after) for state in before)
