"""What a report means, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery.decide.bounce import NO_MAILBOX, weigh
from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.ports.returns import PROVES, Meaning
from postroom.ports.state import FINAL, State
from postroom.ports.suppression import Reason

MIRA = "Mira@example.net"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (ReportEntry(ReportKind.FAILED, "5.1.1"), Meaning(State.BOUNCED, Reason.HARD_BOUNCE)),
        (ReportEntry(ReportKind.FAILED, "5.1.3"), Meaning(State.BOUNCED, Reason.HARD_BOUNCE)),
        (ReportEntry(ReportKind.FAILED, "5.1.6"), Meaning(State.BOUNCED, Reason.HARD_BOUNCE)),
        (ReportEntry(ReportKind.FAILED, "5.1.10"), Meaning(State.BOUNCED, Reason.HARD_BOUNCE)),
        (ReportEntry(ReportKind.FAILED, "5.1.0"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.1.2"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.2.1"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.2.2"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.4.4"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "5.7.1"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "4.4.7"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, "4.1.1"), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.FAILED, ""), Meaning(State.BOUNCED)),
        (ReportEntry(ReportKind.DELAYED, "4.4.1"), Meaning(State.ACCEPTED)),
        (ReportEntry(ReportKind.DELAYED, "5.1.1"), Meaning(State.ACCEPTED)),
        (ReportEntry(ReportKind.RELAYED, "2.0.0"), Meaning(State.ACCEPTED)),
        (ReportEntry(ReportKind.EXPANDED, "2.0.0"), Meaning(State.ACCEPTED)),
        (ReportEntry(ReportKind.DELIVERED, "2.0.0"), Meaning(State.DELIVERED)),
        (ReportEntry(ReportKind.COMPLAINT), Meaning(State.ACCEPTED, Reason.COMPLAINT)),
        (ReportEntry(ReportKind.IGNORED), Meaning()),
        (ReportEntry(ReportKind.UNPARSED), Meaning()),
    ],
)
def test_a_report_means_what_the_table_says(said: ReportEntry, meaning: Meaning) -> None:
    assert weigh(said, MIRA, suppresses_bounces=True) == meaning


@pytest.mark.parametrize("status", sorted(NO_MAILBOX))
def test_an_address_that_the_letter_was_forwarded_to_says_nothing_of_the_letter_s_own(status: str) -> None:
    elsewhere = ReportEntry(ReportKind.FAILED, status, recipients=("elsewhere@example.org",))
    assert weigh(elsewhere, MIRA, suppresses_bounces=True) == Meaning(State.BOUNCED)
    both = ReportEntry(ReportKind.FAILED, status, recipients=("elsewhere@example.org", "mira@example.net"))
    assert weigh(both, MIRA, suppresses_bounces=True).suppress is Reason.HARD_BOUNCE


def test_a_profile_may_keep_bounces_off_its_list_and_complaints_stay_on_it() -> None:
    assert weigh(ReportEntry(ReportKind.FAILED, "5.1.1"), MIRA, suppresses_bounces=False) == Meaning(
        State.BOUNCED
    )
    assert (
        weigh(ReportEntry(ReportKind.COMPLAINT), MIRA, suppresses_bounces=False).suppress is Reason.COMPLAINT
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
    said: ReportEntry, recipient: str, suppresses: bool
) -> None:
    meaning = weigh(said, recipient, suppresses)
    assert meaning.proves is None or meaning.proves in PROVES


def test_what_a_report_proves_leads_nowhere_back() -> None:
    """However reports come, a letter ends: each step is one that no other undoes."""
    order = [State.DEFERRED, State.IN_DOUBT, State.CAPTURED, State.ACCEPTED, State.DELIVERED, State.BOUNCED]
    for after, before in PROVES.items():
        assert after in FINAL
        assert all(order.index(state) < order.index(after) for state in before)
