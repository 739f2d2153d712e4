"""How long a relay's own words ask to wait at least: (reply, tries) → seconds.

A time that the relay names counts ("try again in 5 minutes", "retry after 300 seconds"), up to an hour.
Greylisting (RFC 6647 §2.1, §4.2) lets nobody through for minutes: waits begin with one minute and grow to
half an hour, so that few attempts last longer than the list does. 454 to the content is what a provider says
when its sending rate is used up: a minute, doubled up to ten.
"""

import re

from postroom.ports.relay import Reply, Stage

LONGEST_NAMED = 3600.0
GREYLISTED = (60.0, 300.0, 900.0, 1800.0)
THROTTLED, THROTTLED_LONGEST = 60.0, 600.0

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_NAMED = re.compile(
    r"\b(?:again|retry|wait|delayed?|in|after|for)\b[^\d.]{0,24}?\b(\d{1,5})\s*"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b",
    re.IGNORECASE,
)
_GREY = re.compile(r"gr[ae]y-?\s?list", re.IGNORECASE)


def named_wait(text: str) -> float:
    """The time that a reply names, in seconds; 0 where it names none."""
    found = _NAMED.search(text)
    return min(LONGEST_NAMED, int(found[1]) * _UNITS[found[2][0].lower()]) if found else 0.0


def usual_wait(reply: Reply, tries: int) -> float:
    """What this kind of reply takes to pass, in seconds; 0 where nothing is known of it."""
    if _GREY.search(reply.text):
        return GREYLISTED[min(tries, len(GREYLISTED) - 1)]
    if reply.code == 454 and reply.stage in (Stage.DATA, Stage.END_OF_DATA):
        return min(THROTTLED_LONGEST, THROTTLED * 2.0 ** min(tries, 8))
    return 0.0
