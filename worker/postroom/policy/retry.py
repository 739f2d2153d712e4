"""How long a relay's own words ask to wait at least: (reply, tries) → seconds.

A time that the relay names counts ("try again in 5 minutes", "retry after 300 seconds"), up to an hour.
Greylisting (RFC 6647 §2.1, §4.2) lets nobody through for minutes: waits begin with one minute and grow to
half an hour, so that few attempts last longer than the list does. 454 to the content is what a provider says
when its sending rate is used up: a minute, doubled up to ten.

When to try again, and when to stop: Outcome × history × policy × now × chance → Step.

Exponential backoff with full jitter: a delay is drawn between half of `initialDelay` and twice the delay that
is due, within `maxDelay`, so that letters that failed together don't come back together. Where the relay's
own words ask for more, that is waited for. Answers about the letter use up `maxAttempts`; a relay that cannot
be reached, or speaks of itself, does not, it is bounded by `maxAge` alone: an outage must not fail letters.
A letter that was kept back by an open circuit or a rate was not tried at all.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, assert_never

from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import (
    Accepted,
    Deferred,
    Expired,
    Finish,
    InDoubt,
    KeyUnavailable,
    NotAttempted,
    NoTemplate,
    Outcome,
    Park,
    RelayRefused,
    RelayUnreachable,
    Release,
    Released,
    Scheduled,
    Step,
    Suppressed,
    TryAgain,
    Unrenderable,
)
from postroom.ports.ledger import State
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


TEMPLATE_WAIT = timedelta(minutes=5)
"""How long an event waits for its template: kubectl apply and the first event race."""

TEMPLATE_RECHECK = timedelta(seconds=2), timedelta(seconds=15)
"""The first and the longest wait for a template, four times that for one that is suspended."""
NOT_ATTEMPTED_SPREAD_SECONDS = 1.0
"""Letters that were kept back for the same time come again within so long."""
SPREAD = 0.2
"""How much longer than it asks, at most, a relay is left alone."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A profile's rules for what follows an attempt; durations in seconds."""

    max_attempts: int
    initial_delay: float
    max_delay: float
    max_age: float
    on_in_doubt: Literal["Resend", "Park"]
    accepted_as: State
    """What a 250 makes of a letter: accepted, or captured where a sandbox took it."""


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """What is known of a letter before this attempt's outcome."""

    since: datetime
    """When it could be sent first: received, or the time it was scheduled for. Ages count from here."""
    replies: int
    attempts: int
    in_doubt_count: int = 0
    """Earlier attempts whose answer is unknown."""


def next_step(
    outcome: Outcome, history: AttemptHistory, policy: RetryPolicy, now: datetime, chance: float
) -> Step:
    """Say what follows from the outcome of one attempt."""
    match outcome:
        case Accepted() | RelayRefused() | Unrenderable() | Expired() | Suppressed():
            return _finish(outcome, policy)
        case Deferred(problem=problem, of_relay=False) if history.replies + 1 >= policy.max_attempts:
            return _exhausted(problem, f"{policy.max_attempts} attempts were answered (retry.maxAttempts)")
        case Deferred(problem=problem, reply=reply):
            wait = max(
                _delay(history.attempts, policy, chance), _asked_for(reply, history.attempts, policy, chance)
            )
            return _again(problem, history, policy, now + wait)
        case RelayUnreachable(problem=problem) | KeyUnavailable(problem=problem):
            return _again(problem, history, policy, now + _delay(history.attempts, policy, chance))
        case InDoubt(problem=problem):
            return _in_doubt(problem, history, policy, now + _delay(history.in_doubt_count, policy, chance))
        case NotAttempted(problem=problem, seconds=seconds):
            spread = timedelta(seconds=seconds + chance * NOT_ATTEMPTED_SPREAD_SECONDS)
            return _again(problem, history, policy, now + spread)
        case NoTemplate(problem=problem):
            return _wait_for_template(problem, history, policy, now)
        case Scheduled(at=at):
            return TryAgain(at, None, State.SCHEDULED)
        case Released():
            return Release()
        case _:
            assert_never(outcome)


def _finish(
    outcome: Accepted | RelayRefused | Unrenderable | Expired | Suppressed, policy: RetryPolicy
) -> Finish:
    match outcome:
        case Accepted():
            return Finish(policy.accepted_as)
        case RelayRefused(problem=problem):
            return Finish(State.FAILED, problem, dead_letter=True)
        case Unrenderable(problem=problem):
            return Finish(State.RENDER_FAILED, problem, dead_letter=True)
        case Expired(problem=problem):
            return Finish(State.EXPIRED, problem, dead_letter=True)
        case Suppressed(problem=problem):
            return Finish(State.SUPPRESSED, problem)
        case _:
            assert_never(outcome)


def _again(problem: Problem, history: AttemptHistory, policy: RetryPolicy, at: datetime) -> Step:
    if at - history.since > timedelta(seconds=policy.max_age):
        return _exhausted(problem, f"it is older than {policy.max_age:.0f} s (retry.maxAge)")
    return TryAgain(at, problem)


def _in_doubt(problem: Problem, history: AttemptHistory, policy: RetryPolicy, at: datetime) -> Step:
    """A resend may be one more copy in the inbox: they are bounded as answers are, then a person decides."""
    too_often = history.in_doubt_count + 1 >= policy.max_attempts
    too_late = at - history.since > timedelta(seconds=policy.max_age)
    if policy.on_in_doubt == "Park" or too_often or too_late:
        return Park(problem)
    return TryAgain(at, problem)


def _exhausted(last: Problem, why: str) -> Finish:
    problem = Problem(Code.ATTEMPTS_EXHAUSTED, last.field, f"{why}; the last answer: {last.message}")
    return Finish(State.FAILED, problem, dead_letter=True)


def _delay(tries: int, policy: RetryPolicy, chance: float) -> timedelta:
    # the exponent is capped so that a long outage cannot overflow a float
    due = policy.initial_delay * 2.0 ** min(tries, 32)
    least, most = policy.initial_delay / 2, min(policy.max_delay, 2 * due)
    return timedelta(seconds=least + chance * (most - least))


def _asked_for(reply: Reply, tries: int, policy: RetryPolicy, chance: float) -> timedelta:
    """A time that the relay names is kept even beyond maxDelay; what is merely usual is not."""
    seconds = max(named_wait(reply.text), min(policy.max_delay, usual_wait(reply, tries)))
    return timedelta(seconds=seconds * (1 + SPREAD * chance))


def _wait_for_template(problem: Problem, history: AttemptHistory, policy: RetryPolicy, now: datetime) -> Step:
    """Wait as long as the letter has waited, within bounds.

    One that was tried before had its template once: it waits as long as retries do, so that a worker whose
    templates are late buries nothing.
    """
    age = now - history.since
    suspended = problem.code is Code.TEMPLATE_SUSPENDED
    patience = timedelta(seconds=policy.max_age)
    if not suspended and not history.attempts:
        patience = TEMPLATE_WAIT
    if age > patience:
        return Finish(State.RENDER_FAILED, problem, dead_letter=True)
    shortest, longest = TEMPLATE_RECHECK
    return TryAgain(now + max(shortest, min(longest * 4 if suspended else longest, age)), problem)
