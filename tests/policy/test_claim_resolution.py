"""What a claimer may do with a row that was there before: the whole table."""

import pytest

from postroom.delivery.claim import ClaimResolution, resolve_claim
from postroom.ports.ledger import State

SAFE = [state for state in State if state not in (State.CLAIMED, State.SENDING)]


@pytest.mark.parametrize("living", [True, False])
@pytest.mark.parametrize("state", State)
def test_another_payload_is_a_mismatch_whatever_became_of_the_first(state: State, living: bool) -> None:
    assert resolve_claim(state, living, same_payload=False) is ClaimResolution.MISMATCH


@pytest.mark.parametrize("living", [True, False])
@pytest.mark.parametrize("state", SAFE)
def test_a_letter_that_ended_or_waits_in_its_row_needs_nothing(state: State, living: bool) -> None:
    assert resolve_claim(state, living, same_payload=True) is ClaimResolution.SETTLED


@pytest.mark.parametrize("state", [State.CLAIMED, State.SENDING])
def test_what_is_in_living_hands_holds_its_offset(state: State) -> None:
    assert resolve_claim(state, True, same_payload=True) is ClaimResolution.HELD


def test_a_dead_claim_is_taken_and_a_death_after_the_fence_is_doubt() -> None:
    assert resolve_claim(State.CLAIMED, False, same_payload=True) is ClaimResolution.TAKE
    assert resolve_claim(State.SENDING, False, same_payload=True) is ClaimResolution.DOUBT
