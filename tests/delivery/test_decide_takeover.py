"""What a claimer may do with a row that was there before: the whole table."""

import pytest

from postroom.delivery.decide.takeover import Found, meet
from postroom.ports.ledger import State

SAFE = [state for state in State if state not in (State.CLAIMED, State.SENDING)]


@pytest.mark.parametrize("living", [True, False])
@pytest.mark.parametrize("state", State)
def test_another_payload_is_a_mismatch_whatever_became_of_the_first(state: State, living: bool) -> None:
    assert meet(state, living, same_payload=False) is Found.MISMATCH


@pytest.mark.parametrize("living", [True, False])
@pytest.mark.parametrize("state", SAFE)
def test_a_letter_that_ended_or_waits_in_its_row_needs_nothing(state: State, living: bool) -> None:
    assert meet(state, living, same_payload=True) is Found.SETTLED


@pytest.mark.parametrize("state", [State.CLAIMED, State.SENDING])
def test_what_is_in_living_hands_holds_its_offset(state: State) -> None:
    assert meet(state, True, same_payload=True) is Found.HELD


def test_a_dead_claim_is_taken_and_a_death_after_the_fence_is_doubt() -> None:
    assert meet(State.CLAIMED, False, same_payload=True) is Found.TAKE
    assert meet(State.SENDING, False, same_payload=True) is Found.DOUBT
