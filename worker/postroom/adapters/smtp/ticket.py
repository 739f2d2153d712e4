"""A parcel on its way through the pool: what the fence said of it and whether its fate is decided."""

import math
from typing import Protocol

from postroom.ports.relay import Parcel, Report, Result


class Holder(Protocol):
    """A dialogue that has read 354 for a ticket and waits for the fence."""

    def resume(self) -> None: ...


class Ticket:
    """One parcel, from `deliver` to its one Result."""

    __slots__ = (
        "asked",
        "content",
        "counted",
        "done",
        "fencing",
        "holder",
        "parcel",
        "report",
        "result",
        "returned",
        "until",
    )

    def __init__(self, parcel: Parcel, report: Report) -> None:
        self.parcel = parcel
        self.report = report
        self.content = b""
        self.until = -math.inf
        """Content may leave before this monotonic second: the fence's grant; -inf without one."""
        self.asked = False
        """It waits for a call of the fence, or is part of the running one."""
        self.fencing = False
        """It is part of the running call: its Result is told only after that call has answered."""
        self.done = False
        """Its Result is decided; its content must not leave any more."""
        self.result: Result | None = None
        """A Result decided while the fence was at work on it."""
        self.holder: Holder | None = None
        self.counted = False
        """The rate counts it as under way."""
        self.returned = False
        """It was put back once because a kept connection turned out to be dead."""
