"""What follows from the answer to a callback: Answer × tries × age × chance → when to come back, or never.

As Standard Webhooks has it: whatever is not 2xx is tried again, further and further apart, for a day. `410
Gone` ends nothing by itself, for a server that was set up wrongly for a minute says it as well: the callback
rests for an hour, and its condition says what to do.
"""

from postroom.ports.callbacks import Answer

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 4 * 3600.0
GIVEN_UP_SECONDS = 24 * 3600.0
GONE, GONE_SECONDS = 410, 3600.0
JITTER = 0.2
REST_AFTER, REST_MOST_SECONDS = 3, 60.0
"""Failures in a row after which a callback rests before the next is sent, and how long at most."""


def arrived(answer: Answer) -> bool:
    """Whether the receiver has it."""
    return 200 <= answer.status < 300


def again_in(answer: Answer, tries: int, age: float, chance: float) -> float | None:
    """Seconds until the next try; None: never. `tries` are those before this one, `age` is the notice's."""
    wait = min(LONGEST_SECONDS, FIRST_SECONDS * 4.0 ** min(tries, 16))
    if answer.status == GONE:
        wait = max(wait, GONE_SECONDS)
    wait = max(wait * (1 + JITTER * (2 * chance - 1)), min(answer.retry_after, LONGEST_SECONDS))
    return wait if age + wait <= GIVEN_UP_SECONDS else None


def rest(answer: Answer, failures: int) -> float:
    """Seconds for which nothing is sent to a callback that has just failed so many times in a row."""
    if answer.status == GONE:
        return GONE_SECONDS
    if failures < REST_AFTER:
        return 0.0
    return min(REST_MOST_SECONDS, 2.0 ** min(failures - REST_AFTER, 10))
