"""When to try again, and when to stop: Outcome × history × policy × now × chance → Step.

Exponential backoff with full jitter: a delay is drawn between half of `initialDelay` and twice the delay that
is due, within `maxDelay`, so that letters that failed together don't come back together. Where the relay's
own words ask for more, that is waited for. Answers about the letter use up `maxAttempts`; a relay that cannot
be reached, or speaks of itself, does not, it is bounded by `maxAge` alone: an outage must not fail letters.
A letter that was kept back by an open circuit or a rate was not tried at all.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, assert_never

from postroom.delivery.decide.patience import named_wait, usual_wait
from postroom.delivery.outcome import (
    Accepted,
    Deferred,
    Expired,
    Finish,
    GiveBack,
    HandedBack,
    Hold,
    InDoubt,
    Kept,
    NoTemplate,
    Outcome,
    Refused,
    Step,
    Suppressed,
    TooEarly,
    TryAgain,
    Unreachable,
    Unrenderable,
    Unsigned,
)
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import State
from postroom.ports.relay import Reply

TEMPLATE_PATIENCE = timedelta(minutes=5)
"""How long an event waits for its template: kubectl apply and the first event race."""

TEMPLATE_RECHECK = timedelta(seconds=2), timedelta(seconds=15)
"""The first and the longest wait for a template, four times that for one that is suspended."""
KEPT_SPREAD_SECONDS = 1.0
"""Letters that were kept back for the same time come again within so long."""
SPREAD = 0.2
"""How much longer than it asks, at most, a relay is left alone."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A profile's rules for what follows an attempt; durations in seconds."""

    max_attempts: int
    initial_delay: float
    max_delay: float
    max_age: float
    on_in_doubt: Literal["Resend", "Park"]
    accepted_as: State
    """What a 250 makes of a letter: accepted, or captured where a sandbox took it."""


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a letter before this attempt's outcome."""

    since: datetime
    """When it could be sent first: received, or the time it was scheduled for. Ages count from here."""
    replies: int
    attempts: int
    in_doubt_count: int = 0
    """Earlier attempts whose answer is unknown."""


def follow(outcome: Outcome, history: History, policy: Policy, now: datetime, chance: float) -> Step:
    """Say what follows from the outcome of one attempt."""
    match outcome:
        case Accepted() | Refused() | Unrenderable() | Expired() | Suppressed():
            return _finish(outcome, policy)
        case Deferred(problem=problem, of_relay=False) if history.replies + 1 >= policy.max_attempts:
            return _exhausted(problem, f"{policy.max_attempts} attempts were answered (retry.maxAttempts)")
        case Deferred(problem=problem, reply=reply):
            wait = max(
                _delay(history.attempts, policy, chance), _asked_for(reply, history.attempts, policy, chance)
            )
            return _again(problem, history, policy, now + wait)
        case Unreachable(problem=problem) | Unsigned(problem=problem):
            return _again(problem, history, policy, now + _delay(history.attempts, policy, chance))
        case InDoubt(problem=problem):
            return _doubted(problem, history, policy, now + _delay(history.in_doubt_count, policy, chance))
        case Kept(problem=problem, seconds=seconds):
            spread = timedelta(seconds=seconds + chance * KEPT_SPREAD_SECONDS)
            return _again(problem, history, policy, now + spread)
        case NoTemplate(problem=problem):
            return _wait_for_template(problem, history, policy, now)
        case TooEarly(at=at):
            return TryAgain(at, None, State.SCHEDULED)
        case HandedBack():
            return GiveBack()
        case _:
            assert_never(outcome)


def _finish(outcome: Accepted | Refused | Unrenderable | Expired | Suppressed, policy: Policy) -> Finish:
    match outcome:
        case Accepted():
            return Finish(policy.accepted_as)
        case Refused(problem=problem):
            return Finish(State.FAILED, problem, bury=True)
        case Unrenderable(problem=problem):
            return Finish(State.RENDER_FAILED, problem, bury=True)
        case Expired(problem=problem):
            return Finish(State.EXPIRED, problem, bury=True)
        case Suppressed(problem=problem):
            return Finish(State.SUPPRESSED, problem)
        case _:
            assert_never(outcome)


def _again(problem: Problem, history: History, policy: Policy, at: datetime) -> Step:
    if at - history.since > timedelta(seconds=policy.max_age):
        return _exhausted(problem, f"it is older than {policy.max_age:.0f} s (retry.maxAge)")
    return TryAgain(at, problem)


def _doubted(problem: Problem, history: History, policy: Policy, at: datetime) -> Step:
    """A resend may be one more copy in the inbox: they are bounded as answers are, then a person decides."""
    too_often = history.in_doubt_count + 1 >= policy.max_attempts
    too_late = at - history.since > timedelta(seconds=policy.max_age)
    if policy.on_in_doubt == "Park" or too_often or too_late:
        return Hold(problem)
    return TryAgain(at, problem)


def _exhausted(last: Problem, why: str) -> Finish:
    problem = Problem(Code.ATTEMPTS_EXHAUSTED, last.field, f"{why}; the last answer: {last.message}")
    return Finish(State.FAILED, problem, bury=True)


def _delay(tries: int, policy: Policy, chance: float) -> timedelta:
    # the exponent is capped so that a long outage cannot overflow a float
    due = policy.initial_delay * 2.0 ** min(tries, 32)
    least, most = policy.initial_delay / 2, min(policy.max_delay, 2 * due)
    return timedelta(seconds=least + chance * (most - least))


def _asked_for(reply: Reply, tries: int, policy: Policy, chance: float) -> timedelta:
    """A time that the relay names is kept even beyond maxDelay; what is merely usual is not."""
    seconds = max(named_wait(reply.text), min(policy.max_delay, usual_wait(reply, tries)))
    return timedelta(seconds=seconds * (1 + SPREAD * chance))


def _wait_for_template(problem: Problem, history: History, policy: Policy, now: datetime) -> Step:
    """Wait as long as the letter has waited, within bounds.

    One that was tried before had its template once: it waits as long as retries do, so that a worker whose
    templates are late buries nothing.
    """
    age = now - history.since
    suspended = problem.code is Code.TEMPLATE_SUSPENDED
    patience = timedelta(seconds=policy.max_age)
    if not suspended and not history.attempts:
        patience = TEMPLATE_PATIENCE
    if age > patience:
        return Finish(State.RENDER_FAILED, problem, bury=True)
    shortest, longest = TEMPLATE_RECHECK
    return TryAgain(now + max(shortest, min(longest * 4 if suspended else longest, age)), problem)
