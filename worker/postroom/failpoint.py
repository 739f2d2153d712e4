"""Named points in the code where a crash test ends the process, as etcd's failpoints do.

`POSTROOM_FAILPOINT=settled:3` kills the process (SIGKILL: no cleanup, nothing flushed) at the third call of
`reach("settled")`. In production the variable is unset, and a call costs a comparison.
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
"""Every transition of a letter, in order; the crash test stops at each of them."""


class Failpoint:
    """The point at which this process is killed, and the number of calls until then."""

    def __init__(self, spec: str) -> None:
        self._name, _, count = spec.partition(":")
        self._left = int(count or 1)

    def reach(self, point: str) -> None:
        """Kill the process if `point` is the configured point and its count is reached."""
        if point != self._name:
            return
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


reach = Failpoint(os.environ.get("POSTROOM_FAILPOINT", "")).reach  # noqa: TID251 - for tests, not a setting
