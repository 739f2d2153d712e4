"""What a row found at claim time allows: (state, whose, payload) → Found.

A claim of a dead process is taken over; one that died in `sending` is in doubt; one in living hands
holds its record's offset open until it settles.
"""

from enum import Enum

from postroom.ports.ledger import State


class Found(Enum):
    """What the claimer of an identity meets."""

    SETTLED = "settled"
    """The event is safe in a final or waiting row: nothing to do."""
    HELD = "held"
    """Somebody alive is on it."""
    TAKE = "take"
    """A dead or released claim whose content never left."""
    DOUBT = "doubt"
    """A dead claim whose dot may have left."""
    MISMATCH = "mismatch"
    """The identity is known with another payload."""


def meet(state: State, held_by_living: bool, same_payload: bool) -> Found:
    """Decide what the claimer may do with an existing row."""
    if not same_payload:
        return Found.MISMATCH
    if state not in (State.CLAIMED, State.SENDING):
        return Found.SETTLED
    if held_by_living:
        return Found.HELD
    return Found.TAKE if state is State.CLAIMED else Found.DOUBT
