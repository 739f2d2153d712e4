"""Settle outcomes: Outcome → Step → row, in one commit for each group, with the dead letters in the outbox.

`policy.retry.next_step` decides; this module writes the decision. A released letter keeps its offset open.
"""

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
    """Settle every group as soon as it arrives, without waiting for the commit of the previous group.

    A settlement is thus part of the next commit after the reply, together with the fence of the following
    letter, so that at most two letters of a connection are in doubt if the process dies.
    """
    settling: asyncio.Queue[asyncio.Task[Progress] | None] = asyncio.Queue()

    async def start_settlements() -> None:
        try:
            async for decided in groups:
                settling.put_nowait(asyncio.create_task(settle_group(decided, context)))
        finally:
            settling.put_nowait(None)

    starter = asyncio.create_task(start_settlements())
    while (task := await settling.get()) is not None:
        yield await task
    await starter


async def settle_group(decided: Decided, context: DeliveryContext) -> Progress:
    """Write the outcomes of a group to the ledger; returns the group's progress."""
    now = context.clock.now()
    progress = Progress()
    settlements: list[Settlement] = []
    released: list[Claimed] = []
    for claim, outcome in decided:
        history = AttemptHistory(_since(claim), claim.replies, claim.attempts, claim.in_doubt_count)
        step = next_step(outcome, history, context.policy.retry, now, context.clock.random())
        if isinstance(step, Release) and not claim.from_topic:
            step = TryAgain(
                now, None
            )  # it has no open offset that would bring it back, so its row must be due
        if isinstance(step, Release):
            released.append(claim)
            progress.held.append(claim.letter.record)
        else:
            entry = settlement(claim, outcome, step, now)
            settlements.append(replace(entry, suppress=_suppression(claim, outcome, context.policy, now)))
        progress.settled.append(Settled(claim, outcome, step))
    if settlements:
        await context.ledger.settle(settlements, now)
    for ended in settlements:
        ended.claimed.letter.content = b""  # frees memory: a slow letter may keep the batch alive for minutes
    if released:
        await context.ledger.release(released)
    return progress


def _since(claim: Claimed) -> datetime:
    scheduled = claim.letter.event.not_before
    return max(claim.received, scheduled) if scheduled else claim.received


async def record_dead_letters(malformed: Sequence[Malformed], context: DeliveryContext) -> Progress:
    """Put malformed records into the outbox as dead letters."""
    now = context.clock.now()
    if malformed:
        await context.ledger.add_dead_letters(
            [dead_letter(entry.record, entry.problems, now) for entry in malformed]
        )
    return Progress(malformed=list(malformed))


def settlement(claim: Claimed, outcome: Outcome, step: Step, now: datetime) -> Settlement:
    """Build the row's next state, its counters, its attempt and its dead letter, if there is one."""
    replied = isinstance(outcome, Accepted | Deferred | RelayRefused)
    counts_as_reply = replied and not (isinstance(outcome, Deferred) and outcome.of_relay)
    counts_as_attempt = replied or isinstance(outcome, RelayUnreachable | InDoubt | KeyUnavailable)
    newly_in_doubt = isinstance(outcome, InDoubt) and not outcome.counted
    state, problem, due, is_dead_letter = _ending(step)
    return Settlement(
        claimed=claim,
        state=state,
        problem=problem,
        due=due,
        attempt=_attempt(outcome, state, claim.via),
        replies=claim.replies + counts_as_reply,
        attempts=claim.attempts + counts_as_attempt,
        in_doubt_count=claim.in_doubt_count + newly_in_doubt,
        dead_letter=dead_letter(claim.letter.record, (problem,), now, claim.attempts + counts_as_attempt)
        if is_dead_letter and problem
        else None,
    )


def _suppression(
    claim: Claimed, outcome: Outcome, policy: DeliveryPolicy, now: datetime
) -> Suppression | None:
    """Return the suppression entry that a hard bounce reply creates, if any."""
    if not (
        policy.suppresses_bounces and isinstance(outcome, RelayRefused) and is_hard_bounce(outcome.reply)
    ):
        return None
    reply_text = f"{outcome.reply.code} {outcome.reply.text}"
    return Suppression(
        policy.profile, claim.letter.identity.recipient, SuppressionReason.HARD_BOUNCE, now, reply_text
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
            raise ValueError("a released letter has no settlement")
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
    """Build a record for the dead-letter topic; its id depends only on topic, partition and offset."""
    return DeadLetter(f"{record.topic}/{record.partition}/{record.offset}", record, problems, now, attempts)
