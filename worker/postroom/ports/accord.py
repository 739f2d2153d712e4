"""What the workers of a ledger agree on: small texts under a name, changed by pure functions.

A circuit that is open for all of them, each one's share of a rate. The ledger keeps the texts and gives its
own time, so that no worker's clock matters; what a text means and how it changes is decided elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Moment:
    """When an accord is looked at, and by whom."""

    now: float
    """Seconds since 1970 by the ledger's clock, the same for all workers."""
    me: int
    """The generation of the worker that asks."""


@dataclass(frozen=True, slots=True)
class Accord:
    """A text, and for how many seconds after this change it must be kept."""

    text: str
    keep: float = DAY_SECONDS


Change = Callable[[str, str, Moment], Accord]
"""Subject, the text as it is (empty where there is none), the moment → what it is from now on.

Pure: it may be asked more than once, and only the last answer counts.
"""
