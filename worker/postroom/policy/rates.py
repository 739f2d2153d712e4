"""Rate limits, pure: the workers' shares of a relay's rate, the rate of each recipient, and admission.

`divide_rate`: (shares, total, ledger time) → shares. A rate is split evenly among the live workers, in whole
letters per period, and the shares never exceed it together. A new worker gets only what the others have
released, which they do at their next synchronization. A share that is not renewed expires.

`admit_recipients`: (recent letters, wanted, rate, time) → how many may be sent now. Letters are counted when
they are given to the relay, over all workers, in a sliding window of the rate's period. Times close to each
other are stored as the later one, so that the state stays small; a letter may wait a little longer for it,
but the rate is never exceeded.

`admission_limit`: (rate, waiting letters) → how many more may wait in memory. Recalled letters may use more
of the limit than new ones. While recalled letters are due they fill it, so that new letters go to the ledger
behind them; otherwise new letters would take every free place as long as the overload lasts.
"""

import json
from dataclasses import dataclass

from postroom.ports.ledger import LedgerTime
from postroom.ports.relay import Rate

TERM_SECONDS = 10.0
"""How long a share is valid without being renewed."""
RENEWED_SECONDS = 5.0
"""A share with less time left is renewed; renewing at every synchronization would write every second."""


@dataclass(frozen=True, slots=True)
class Share:
    """The letters per period of one worker, valid until a time of the ledger's clock."""

    count: int
    until: float


Shares = dict[int, Share]
"""By worker_epoch."""


def divide_rate(shares: Shares, total: int, at: LedgerTime) -> Shares:
    """Take or renew this worker's share, which may be 0 at first."""
    live = {epoch: share for epoch, share in shares.items() if share.until > at.now}
    others = sum(share.count for epoch, share in live.items() if epoch != at.worker_epoch)
    own_count = min(_fair({*live, at.worker_epoch}, total, at.worker_epoch), max(0, total - others))
    now = live.get(at.worker_epoch)
    if now is not None and now.count == own_count and now.until - at.now > RENEWED_SECONDS:
        return shares
    return live | {at.worker_epoch: Share(own_count, at.now + TERM_SECONDS)}


def leave_shares(shares: Shares, at: LedgerTime) -> Shares:
    """Remove this worker's share."""
    return {epoch: share for epoch, share in shares.items() if epoch != at.worker_epoch}


def write_shares(shares: Shares) -> str:
    """Encode shares as shared state."""
    return json.dumps({str(epoch): [share.count, share.until] for epoch, share in sorted(shares.items())})


def read_shares(text: str) -> Shares:
    """Decode shares from shared state."""
    found: dict[str, list[float]] = json.loads(text or "{}")
    return {int(epoch): Share(int(count), until) for epoch, (count, until) in found.items()}


def _fair(workers: set[int], total: int, own_epoch: int) -> int:
    """Return an even part; the remainder goes to the oldest workers."""
    share, more = divmod(total, len(workers))
    return share + (sorted(workers).index(own_epoch) < more)


GRAINS = 100
"""The number of distinct times that are stored for a period."""
SOON_SECONDS = 0.5
"""No letter is put off for less."""

Marks = list[tuple[float, int]]
"""(Ledger time, number of letters sent then), oldest first."""


def admit_recipients(marks: Marks, wanted: int, rate: Rate, now: float) -> tuple[Marks, int, float]:
    """Return the new marks, how many letters may be sent, and the seconds until the next may."""
    recent = [(at, count) for at, count in marks if at > now - rate.seconds]
    free = max(0, rate.count - sum(count for _, count in recent))
    admitted = min(wanted, free)
    if admitted:
        recent = _note(recent, admitted, rate, now)
    if admitted == wanted:
        return recent, admitted, 0.0
    return recent, admitted, max(SOON_SECONDS, _next(recent, rate) + rate.seconds - now)


def write_marks(marks: Marks) -> str:
    """Encode marks as shared state."""
    return json.dumps(marks) if marks else ""


def read_marks(text: str) -> Marks:
    """Decode marks from shared state."""
    return [(at, count) for at, count in json.loads(text or "[]")]


def _note(marks: Marks, count: int, rate: Rate, now: float) -> Marks:
    if marks and now - marks[-1][0] < rate.seconds / GRAINS:
        return [*marks[:-1], (now, marks[-1][1] + count)]
    return [*marks, (now, count)]


def _next(marks: Marks, rate: Rate) -> float:
    """Return the time that must leave the window before another letter may be sent."""
    left = sum(count for _, count in marks)
    for at, count in marks:
        left -= count
        if left < rate.count:
            return at
    return marks[-1][0]


NEW_SECONDS = 2.0
"""New letters may wait for this many seconds of the rate."""
RECALLED_SECONDS = 5.0
"""The same for recalled letters: more than NEW_SECONDS, and more than is sent between two recalls."""
RETRY_SECONDS = 1.0
"""A letter that is not admitted is due again after this time, before the waiting letters are sent."""


def admission_limit(rate: Rate, waiting: int, *, recalled: bool) -> int:
    """Return how many more letters are admitted; at least 1 if none waits and the rate is not 0."""
    new = max(int(rate.count * NEW_SECONDS / rate.seconds), min(1, rate.count))
    if not recalled:
        return max(0, new - waiting)
    soon = int(rate.count * RECALLED_SECONDS / rate.seconds)
    return max(0, max(soon, new + min(1, rate.count)) - waiting)
