"""Who of a profile's workers may send how much of its rate: (shares, who asks, moment) → shares.

A rate is split evenly among the workers that live, in whole letters a period, so that the shares together
never exceed it. Who joins gets only what the others have given up; they do so at their next look. A share
that is not renewed is over, and goes to those that are left.

How often one recipient is written to: (letters of late, how many wish to go, rate, moment) → who may.

Letters are counted where they are handed to the relay, over all workers, in any window of the rate's period.
Moments close to each other are kept as one, the later one, so that the record stays small however high the
rate; that can only make a letter wait a little longer, never send one too many.

Who may wait in memory for a turn, where a rate keeps letters back: (rate, how many wait) → how many more.

Letters that waited in the ledger may fill more of the room than letters that come new. So while some are due
they keep the room so full that a new letter finds none, and waits in the ledger behind them; once none is due
the room empties to where new ones fit. Without that, letters that come all the time would take each place
that becomes free, and those before them would wait for as long as the overload lasts.
"""

import json
from dataclasses import dataclass

from postroom.ports.ledger import LedgerTime
from postroom.ports.relay import Rate

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


def divide_rate(shares: Shares, total: int, at: LedgerTime) -> Shares:
    """The shares after this worker has taken its own, which may be 0 for now."""
    living = {who: each for who, each in shares.items() if each.until > at.now}
    others = sum(each.count for who, each in living.items() if who != at.worker_epoch)
    mine = min(_fair({*living, at.worker_epoch}, total, at.worker_epoch), max(0, total - others))
    now = living.get(at.worker_epoch)
    if now is not None and now.count == mine and now.until - at.now > RENEWED_SECONDS:
        return shares
    return living | {at.worker_epoch: Share(mine, at.now + TERM_SECONDS)}


def leave_shares(shares: Shares, at: LedgerTime) -> Shares:
    """The shares without this worker's."""
    return {who: each for who, each in shares.items() if who != at.worker_epoch}


def write_shares(shares: Shares) -> str:
    """Shares as an accord's text."""
    return json.dumps({str(who): [each.count, each.until] for who, each in sorted(shares.items())})


def read_shares(text: str) -> Shares:
    """The shares of an accord's text."""
    found: dict[str, list[float]] = json.loads(text or "{}")
    return {int(who): Share(int(count), until) for who, (count, until) in found.items()}


def _fair(workers: set[int], total: int, me: int) -> int:
    """An even part; what does not divide goes to the oldest."""
    each, more = divmod(total, len(workers))
    return each + (sorted(workers).index(me) < more)


GRAINS = 100
"""So many moments a period are told apart."""
SOON_SECONDS = 0.5
"""No letter is put off for less."""

Marks = list[tuple[float, int]]
"""Moments of the ledger's time and how many letters went then, oldest first."""


def admit_recipients(marks: Marks, wanted: int, rate: Rate, now: float) -> tuple[Marks, int, float]:
    """The record afterwards, how many of the wanted may go, and seconds until the next may."""
    recent = [(at, count) for at, count in marks if at > now - rate.seconds]
    free = max(0, rate.count - sum(count for _, count in recent))
    going = min(wanted, free)
    if going:
        recent = _note(recent, going, rate, now)
    if going == wanted:
        return recent, going, 0.0
    return recent, going, max(SOON_SECONDS, _next(recent, rate) + rate.seconds - now)


def write_marks(marks: Marks) -> str:
    """The record as an accord's text."""
    return json.dumps(marks) if marks else ""


def read_marks(text: str) -> Marks:
    """The record of an accord's text."""
    return [(at, count) for at, count in json.loads(text or "[]")]


def _note(marks: Marks, count: int, rate: Rate, now: float) -> Marks:
    if marks and now - marks[-1][0] < rate.seconds / GRAINS:
        return [*marks[:-1], (now, marks[-1][1] + count)]
    return [*marks, (now, count)]


def _next(marks: Marks, rate: Rate) -> float:
    """The moment whose passing out of the window makes room for one more."""
    left = sum(count for _, count in marks)
    for at, count in marks:
        left -= count
        if left < rate.count:
            return at
    return marks[-1][0]


NEW_SECONDS = 2.0
"""So many seconds' worth of letters that come new may wait."""
RECALLED_SECONDS = 5.0
"""The same with those from the ledger. More than is sent between two looks for them, and NEW_SECONDS."""
AGAIN_SECONDS = 1.0
"""A letter without room is due again after so long: before the room is empty."""


def admission_limit(rate: Rate, waiting: int, *, recalled: bool) -> int:
    """How many more may come; one at least, while nobody waits and the rate is not nothing."""
    new = max(int(rate.count * NEW_SECONDS / rate.seconds), min(1, rate.count))
    if not recalled:
        return max(0, new - waiting)
    soon = int(rate.count * RECALLED_SECONDS / rate.seconds)
    return max(0, max(soon, new + min(1, rate.count)) - waiting)
