"""Outcomes → settled rows: one commit a group, with its dead letters in the outbox."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from postroom.delivery.context import DeliveryContext, DeliveryPolicy
from postroom.delivery.send import Decided
from postroom.letter.event import Record
from postroom.letter.problems import Problem
from postroom.policy.outcomes import (
    Accepted,
    Deferred,
    Finish,
    InDoubt,
    KeyUnavailable,
    Malformed,
    Outcome,
    Park,
    Progress,
    RelayRefused,
    RelayUnreachable,
    Release,
    Settled,
    Step,
    TryAgain,
)
from postroom.policy.retry import AttemptHistory, next_step
from postroom.policy.suppression import is_hard_bounce
from postroom.ports.ledger import (
    Attempt,
    Claimed,
    DeadLetter,
    Settlement,
    State,
    Suppression,
    SuppressionReason,
)
from postroom.ports.relay import Stage


async def settle(groups: AsyncIterator[Decided], context: DeliveryContext) -> AsyncIterator[Progress]:
    """Settle every group as soon as it is there.

    None waits for the commit of the one before: a letter's settlement goes into the very next commit after
    its answer, beside the fence of the letter that follows it, so that at most two letters a connection
    are in doubt if the process dies.
    """
    settling: asyncio.Queue[asyncio.Task[Progress] | None] = asyncio.Queue()

    async def begin_each() -> None:
        try:
            async for decided in groups:
                settling.put_nowait(asyncio.create_task(settle_group(decided, context)))
        finally:
            settling.put_nowait(None)

    beginning = asyncio.create_task(begin_each())
    while (task := await settling.get()) is not None:
        yield await task
    await beginning


async def settle_group(decided: Decided, context: DeliveryContext) -> Progress:
    """Put a group's outcomes on record and say what follows for each."""
    now = context.clock.now()
    progress = Progress()
    settlements: list[Settlement] = []
    returned: list[Claimed] = []
    for one, outcome in decided:
        history = AttemptHistory(_since(one), one.replies, one.attempts, one.in_doubt_count)
        step = next_step(outcome, history, context.policy.retry, now, context.clock.random())
        if isinstance(step, Release) and not one.from_topic:
            step = TryAgain(now, None)  # no offset brings it back: its row must
        if isinstance(step, Release):
            returned.append(one)
            progress.held.append(one.letter.record)
        else:
            ending = settlement(one, outcome, step, now)
            settlements.append(replace(ending, suppress=_entry(one, outcome, context.policy, now)))
        progress.settled.append(Settled(one, outcome, step))
    if settlements:
        await context.ledger.settle(settlements, now)
    for ended in settlements:
        ended.claimed.letter.content = b""  # a slow neighbour may keep the batch alive for minutes
    if returned:
        await context.ledger.release(returned)
    return progress


def _since(one: Claimed) -> datetime:
    scheduled = one.letter.event.not_before
    return max(one.received, scheduled) if scheduled else one.received


async def record_dead_letters(malformed: Sequence[Malformed], context: DeliveryContext) -> Progress:
    """Put records that never became letters of their own into the outbox."""
    now = context.clock.now()
    if malformed:
        await context.ledger.add_dead_letters(
            [dead_letter(one.record, one.problems, now) for one in malformed]
        )
    return Progress(malformed=list(malformed))


def settlement(one: Claimed, outcome: Outcome, step: Step, now: datetime) -> Settlement:
    """The row's next state, its history and its dead letter, if there is one."""
    heard = isinstance(outcome, Accepted | Deferred | RelayRefused)
    answered = heard and not (isinstance(outcome, Deferred) and outcome.of_relay)
    tried = heard or isinstance(outcome, RelayUnreachable | InDoubt | KeyUnavailable)
    doubted = isinstance(outcome, InDoubt) and not outcome.counted
    state, problem, due, buried = _ending(step)
    return Settlement(
        claimed=one,
        state=state,
        problem=problem,
        due=due,
        attempt=_attempt(outcome, state, one.via),
        replies=one.replies + answered,
        attempts=one.attempts + tried,
        in_doubt_count=one.in_doubt_count + doubted,
        dead_letter=dead_letter(one.letter.record, (problem,), now, one.attempts + tried)
        if buried and problem
        else None,
    )


def _entry(one: Claimed, outcome: Outcome, policy: DeliveryPolicy, now: datetime) -> Suppression | None:
    """What the answer puts on the suppression list."""
    if not (
        policy.suppresses_bounces and isinstance(outcome, RelayRefused) and is_hard_bounce(outcome.reply)
    ):
        return None
    said = f"{outcome.reply.code} {outcome.reply.text}"
    return Suppression(
        policy.profile, one.letter.identity.recipient, SuppressionReason.HARD_BOUNCE, now, said
    )


def _ending(step: Step) -> tuple[State, Problem | None, datetime | None, bool]:
    match step:
        case Finish():
            return step.state, step.problem, None, step.dead_letter
        case TryAgain():
            return step.state, step.problem, step.at, False
        case Park():
            return State.IN_DOUBT, step.problem, None, False
        case Release():
            raise ValueError("a letter that is given back has no settlement")
        case _:
            assert_never(step)


def _attempt(outcome: Outcome, state: State, relay: str) -> Attempt | None:
    match outcome:
        case Accepted(reply=reply):
            return Attempt(state.value, reply.stage, reply.code, reply.text, relay)
        case Deferred(reply=reply):
            return Attempt("deferred", reply.stage, reply.code, reply.text, relay)
        case RelayRefused(reply=reply):
            return Attempt("refused", reply.stage, reply.code, reply.text, relay)
        case RelayUnreachable(lost=lost):
            return Attempt("unreachable", lost.stage, 0, lost.reason, relay)
        case InDoubt(problem=problem):
            return Attempt("in_doubt", Stage.END_OF_DATA, 0, problem.message, relay)
        case _:
            return None


def dead_letter(
    record: Record, problems: tuple[Problem, ...], now: datetime, attempts: int = 0
) -> DeadLetter:
    """A record for the dead-letter topic, under an id that stays the same however often it is made."""
    return DeadLetter(f"{record.topic}/{record.partition}/{record.offset}", record, problems, now, attempts)
