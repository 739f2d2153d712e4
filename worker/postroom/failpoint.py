"""Named places where a crash test may end the process, as etcd's failpoints do.

`POSTROOM_FAILPOINT=settled:3` ends the process with SIGKILL's force (no cleanup, nothing flushed) the
third time that `reach("settled")` is called. Unset, as in production, a call costs a comparison.
"""

import os
import signal

POINTS = (
    "received",
    "claimed",
    "fenced",
    "answered",
    "settled",
    "recalled",
    "dead_letter_published",
    "dead_letter_cleared",
)
"""Every transition of a letter, in order; the crash test walks through them."""


class Failpoint:
    """The one point that this process may end at, and how many passes it has left."""

    def __init__(self, spec: str) -> None:
        self._name, _, count = spec.partition(":")
        self._left = int(count or 1)

    def reach(self, point: str) -> None:
        """Say that the process is at `point`; it may not live to hear the answer."""
        if point != self._name:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


reach = Failpoint(os.environ.get("POSTROOM_FAILPOINT", "")).reach  # noqa: TID251 - a test's, not a setting
