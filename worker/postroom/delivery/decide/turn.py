"""Who may wait in memory for a turn, where a rate keeps letters back: (rate, how many wait) → how many more.

Letters that waited in the ledger may fill more of the room than letters that come new. So while some are due
they keep the room so full that a new letter finds none, and waits in the ledger behind them; once none is due
the room empties to where new ones fit. Without that, letters that come all the time would take each place
that becomes free, and those before them would wait for as long as the overload lasts.
"""

from postroom.ports.relay import Rate

NEW_SECONDS = 2.0
"""So many seconds' worth of letters that come new may wait."""
RECALLED_SECONDS = 5.0
"""The same with those from the ledger. More than is sent between two looks for them, and NEW_SECONDS."""
AGAIN_SECONDS = 1.0
"""A letter without room is due again after so long: before the room is empty."""


def room(rate: Rate, waiting: int, *, recalled: bool) -> int:
    """How many more may come; one at least, while nobody waits and the rate is not nothing."""
    new = max(int(rate.count * NEW_SECONDS / rate.seconds), min(1, rate.count))
    if not recalled:
        return max(0, new - waiting)
    soon = int(rate.count * RECALLED_SECONDS / rate.seconds)
    return max(0, max(soon, new + min(1, rate.count)) - waiting)
