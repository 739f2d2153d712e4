"""Decide what follows an attempt: Outcome × history × policy × now × random number → Step.

delay = random between initialDelay/2 and min(maxDelay, 2 · initialDelay · 2^attempts)

That is exponential backoff with jitter, so that letters that failed together are not retried together. A
longer time that the relay's reply names ("try again in 5 minutes") is respected, up to an hour. Greylisting
(RFC 6647 §2.1, §4.2) waits from one minute up to half an hour; 454 to the content, which providers send when
the sending rate is exceeded, waits one minute, doubled up to ten.

Limits: replies about the letter count against `maxAttempts`. An unreachable relay, or a reply about the relay
itself, is limited only by `maxAge`, so that an outage fails no letter. A letter that an open circuit or a
rate postponed counts as not attempted.
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

MAX_NAMED_WAIT = 3600.0
GREYLISTED = (60.0, 300.0, 900.0, 1800.0)
THROTTLED, MAX_THROTTLED = 60.0, 600.0

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_NAMED = re.compile(
    r"\b(?:again|retry|wait|delayed?|in|after|for)\b[^\d.]{0,24}?\b(\d{1,5})\s*"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b",
    re.IGNORECASE,
)
_GREY = re.compile(r"gr[ae]y-?\s?list", re.IGNORECASE)


def named_wait(text: str) -> float:
    """Return the time that a reply names, in seconds; 0 if it names none."""
    found = _NAMED.search(text)
    return min(MAX_NAMED_WAIT, int(found[1]) * _UNITS[found[2][0].lower()]) if found else 0.0


def usual_wait(reply: Reply, attempts: int) -> float:
    """Return the usual duration of this kind of rejection, in seconds; 0 if unknown."""
    if _GREY.search(reply.text):
        return GREYLISTED[min(attempts, len(GREYLISTED) - 1)]
    if reply.code == 454 and reply.stage in (Stage.DATA, Stage.END_OF_DATA):
        return min(MAX_THROTTLED, THROTTLED * 2.0 ** min(attempts, 8))
    return 0.0


TEMPLATE_WAIT = timedelta(minutes=5)
"""How long an event waits for its template: kubectl apply and the first event race."""

TEMPLATE_RECHECK = timedelta(seconds=2), timedelta(seconds=15)
"""The first and the longest delay between checks for a template; a suspended one is checked at four times
the longest delay."""
NOT_ATTEMPTED_SPREAD_SECONDS = 1.0
"""Letters that were postponed by the same time are retried spread over this time."""
REQUESTED_DELAY_JITTER = 0.2
"""The jitter added to a delay that the relay requests, as a fraction."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retry settings of a profile; durations in seconds."""

    max_attempts: int
    initial_delay: float
    max_delay: float
    max_age: float
    on_in_doubt: Literal["Resend", "Park"]
    accepted_as: State
    """The state after a 250: accepted, or captured if the relay is a sandbox."""


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """The counters of a letter before this attempt's outcome."""

    since: datetime
    """When the letter could first be sent: received or scheduled. Its age counts from here."""
    replies: int
    attempts: int
    in_doubt_count: int = 0
    """Earlier attempts without a known reply."""


def next_step(
    outcome: Outcome, history: AttemptHistory, policy: RetryPolicy, now: datetime, chance: float
) -> Step:
    """Return the step that follows the outcome of one attempt."""
    match outcome:
        case Accepted() | RelayRefused() | Unrenderable() | Expired() | Suppressed():
            return _finish(outcome, policy)
        case Deferred(problem=problem, of_relay=False) if history.replies + 1 >= policy.max_attempts:
            return _exhausted(problem, f"{policy.max_attempts} attempts were answered (retry.maxAttempts)")
        case Deferred(problem=problem, reply=reply):
            wait = max(
                _delay(history.attempts, policy, chance),
                _requested_delay(reply, history.attempts, policy, chance),
            )
            return _retry_at(problem, history, policy, now + wait)
        case RelayUnreachable(problem=problem) | KeyUnavailable(problem=problem):
            return _retry_at(problem, history, policy, now + _delay(history.attempts, policy, chance))
        case InDoubt(problem=problem):
            return _in_doubt(problem, history, policy, now + _delay(history.in_doubt_count, policy, chance))
        case NotAttempted(problem=problem, seconds=seconds):
            spread = timedelta(seconds=seconds + chance * NOT_ATTEMPTED_SPREAD_SECONDS)
            return _retry_at(problem, history, policy, now + spread)
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


def _retry_at(problem: Problem, history: AttemptHistory, policy: RetryPolicy, at: datetime) -> Step:
    if at - history.since > timedelta(seconds=policy.max_age):
        return _exhausted(problem, f"it is older than {policy.max_age:.0f} s (retry.maxAge)")
    return TryAgain(at, problem)


def _in_doubt(problem: Problem, history: AttemptHistory, policy: RetryPolicy, at: datetime) -> Step:
    """Resend within the limits of retries, then park: each resend may be another copy in the inbox."""
    too_many = history.in_doubt_count + 1 >= policy.max_attempts
    too_late = at - history.since > timedelta(seconds=policy.max_age)
    if policy.on_in_doubt == "Park" or too_many or too_late:
        return Park(problem)
    return TryAgain(at, problem)


def _exhausted(last: Problem, reason: str) -> Finish:
    problem = Problem(Code.ATTEMPTS_EXHAUSTED, last.field, f"{reason}; the last answer: {last.message}")
    return Finish(State.FAILED, problem, dead_letter=True)


def _delay(attempts: int, policy: RetryPolicy, chance: float) -> timedelta:
    # the exponent is capped so that a long outage cannot overflow a float
    due = policy.initial_delay * 2.0 ** min(attempts, 32)
    least, most = policy.initial_delay / 2, min(policy.max_delay, 2 * due)
    return timedelta(seconds=least + chance * (most - least))


def _requested_delay(reply: Reply, attempts: int, policy: RetryPolicy, chance: float) -> timedelta:
    """Return the delay that a reply asks for; only a time that the relay names may exceed maxDelay."""
    seconds = max(named_wait(reply.text), min(policy.max_delay, usual_wait(reply, attempts)))
    return timedelta(seconds=seconds * (1 + REQUESTED_DELAY_JITTER * chance))


def _wait_for_template(problem: Problem, history: AttemptHistory, policy: RetryPolicy, now: datetime) -> Step:
    """Wait for as long as the letter has waited already, within limits.

    A letter that was attempted before had a template then: it waits until `maxAge`, so that a worker whose
    templates arrive late creates no dead letters.
    """
    age = now - history.since
    suspended = problem.code is Code.TEMPLATE_SUSPENDED
    max_wait = timedelta(seconds=policy.max_age)
    if not suspended and not history.attempts:
        max_wait = TEMPLATE_WAIT
    if age > max_wait:
        return Finish(State.RENDER_FAILED, problem, dead_letter=True)
    shortest, longest = TEMPLATE_RECHECK
    return TryAgain(now + max(shortest, min(longest * 4 if suspended else longest, age)), problem)
