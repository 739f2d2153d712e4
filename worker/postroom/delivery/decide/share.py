"""Who of a profile's workers may send how much of its rate: (shares, who asks, moment) → shares.

A rate is split evenly among the workers that live, in whole letters a period, so that the shares together
never exceed it. Who joins gets only what the others have given up; they do so at their next look. A share
that is not renewed is over, and goes to those that are left.
"""

import json
from dataclasses import dataclass

from postroom.ports.ledger import LedgerTime

TERM_SECONDS = 10.0
"""How long a share is good for without being renewed."""
RENEWED_SECONDS = 5.0
"""A share with less than this left is renewed: not at every look, which would be a write a second."""


@dataclass(frozen=True, slots=True)
class Share:
    """Letters in a period that are one worker's, until a moment of the ledger's time."""

    count: int
    until: float


Shares = dict[int, Share]
"""By worker_epoch."""


def divide(shares: Shares, total: int, at: LedgerTime) -> Shares:
    """The shares after this worker has taken its own, which may be 0 for now."""
    living = {who: each for who, each in shares.items() if each.until > at.now}
    others = sum(each.count for who, each in living.items() if who != at.worker_epoch)
    mine = min(_fair({*living, at.worker_epoch}, total, at.worker_epoch), max(0, total - others))
    now = living.get(at.worker_epoch)
    if now is not None and now.count == mine and now.until - at.now > RENEWED_SECONDS:
        return shares
    return living | {at.worker_epoch: Share(mine, at.now + TERM_SECONDS)}


def leave(shares: Shares, at: LedgerTime) -> Shares:
    """The shares without this worker's."""
    return {who: each for who, each in shares.items() if who != at.worker_epoch}


def write(shares: Shares) -> str:
    """Shares as an accord's text."""
    return json.dumps({str(who): [each.count, each.until] for who, each in sorted(shares.items())})


def read(text: str) -> Shares:
    """The shares of an accord's text."""
    found: dict[str, list[float]] = json.loads(text or "{}")
    return {int(who): Share(int(count), until) for who, (count, until) in found.items()}


def _fair(workers: set[int], total: int, me: int) -> int:
    """An even part; what does not divide goes to the oldest."""
    each, more = divmod(total, len(workers))
    return each + (sorted(workers).index(me) < more)
