"""What a ledger row says of its letter, and which states mean what to whom."""

from datetime import timedelta
from enum import StrEnum


class State(StrEnum):
    """What a ledger row says of its letter."""

    CLAIMED = "claimed"
    DOTTING = "dotting"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    SCHEDULED = "scheduled"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CAPTURED = "captured"
    RENDER_FAILED = "render_failed"
    DELIVERED = "delivered"
    BOUNCED = "bounced"


KEEPS_EVENT = frozenset({State.DEFERRED, State.SCHEDULED, State.IN_DOUBT})
REOPENS = frozenset({State.FAILED, State.RENDER_FAILED, State.EXPIRED})
"""States in which a letter surely never reached anybody: what a replay may open again."""
REPLAYS_KEPT = timedelta(days=366)
"""How long the id of a replay is remembered; a dead letter that is older is not replayed."""
FINAL = frozenset(State) - KEEPS_EVENT - {State.CLAIMED, State.DOTTING}
"""States that nothing is waiting to happen in; only such letters are ever forgotten."""
