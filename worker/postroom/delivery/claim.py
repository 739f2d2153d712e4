"""Claim the letters of a batch: (letters, verdicts) → Claims.

A new identity is claimed outright. For an identity that has a row already, `resolve_claim` decides by the
row's state, by whether its owner is alive and by whether the payload is the same. A claim of a dead worker
is taken over with a conditional update, so that only one worker succeeds; if the row was in state `sending`,
the letter is in doubt. A row that a live worker holds keeps its record's offset open until it is settled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from postroom.delivery.context import DeliveryContext
from postroom.delivery.render import Verdicts
from postroom.failpoint import reach
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem
from postroom.policy.outcomes import InDoubt, Malformed
from postroom.ports.ledger import Claimed, ExistingRow, Letter, ReplayConsumed, State


class ClaimResolution(Enum):
    """What the claimer may do with an existing row."""

    SETTLED = "settled"
    """The row is final, or waits in the ledger: the record is a duplicate and its offset is finished."""
    HELD = "held"
    """A live worker holds the claim: the record is looked at again later."""
    TAKE = "take"
    """The claim was released or its worker is dead, and no content was sent: take it over."""
    DOUBT = "doubt"
    """The worker died in state `sending`, so the relay may have the letter: take it over, in doubt."""
    MISMATCH = "mismatch"
    """The row has another payload: the record is malformed and goes to the dead-letter topic."""


def resolve_claim(state: State, held_by_living: bool, same_payload: bool) -> ClaimResolution:
    """Decide what the claimer may do with an existing row."""
    if not same_payload:
        return ClaimResolution.MISMATCH
    if state not in (State.CLAIMED, State.SENDING):
        return ClaimResolution.SETTLED
    if held_by_living:
        return ClaimResolution.HELD
    return ClaimResolution.TAKE if state is State.CLAIMED else ClaimResolution.DOUBT


@dataclass(slots=True)
class Claims:
    """The result of claiming a batch: every record is in exactly one list."""

    claimed: list[Claimed] = field(default_factory=list)
    duplicates: list[Record] = field(default_factory=list)
    held: list[Record] = field(default_factory=list)
    mismatched: list[Malformed] = field(default_factory=list)
    taken_in_doubt: int = 0


async def claim(letters: Sequence[Letter], verdicts: Verdicts, context: DeliveryContext) -> Claims:
    """Claim a batch in one commit (two, when dead claims are taken over).

    A claim that died in `sending` gets the verdict InDoubt under `onInDoubt: Park`; else it is sent again.
    """
    claims = Claims()
    if not letters:
        return claims
    takeovers: list[ExistingRow] = []
    for result in await context.ledger.claim(letters, context.clock.now()):
        match result:
            case Claimed():
                claims.claimed.append(result)
            case ReplayConsumed():
                claims.duplicates.append(result.letter.record)
            case ExistingRow():
                _sort(result, claims, takeovers)
    if takeovers:
        await _take_over(takeovers, claims, verdicts, context)
    reach("claimed")
    return claims


def _sort(row: ExistingRow, claims: Claims, takeovers: list[ExistingRow]) -> None:
    match resolve_claim(row.state, row.owner_alive, row.same_payload):
        case ClaimResolution.SETTLED:
            claims.duplicates.append(row.letter.record)
        case ClaimResolution.HELD:
            claims.held.append(row.letter.record)
        case ClaimResolution.MISMATCH:
            claims.mismatched.append(Malformed(row.letter.record, (_mismatch_problem(row.letter),)))
        case ClaimResolution.TAKE | ClaimResolution.DOUBT:
            takeovers.append(row)


async def _take_over(
    rows: list[ExistingRow], claims: Claims, verdicts: Verdicts, context: DeliveryContext
) -> None:
    taken = await context.ledger.take_over(rows, context.clock.now())
    for row, claimed in zip(rows, taken, strict=True):
        if claimed is None:
            claims.held.append(row.letter.record)
            continue
        claims.claimed.append(claimed)
        if claimed.was_sending:
            claims.taken_in_doubt += 1
            if _parks(claimed, context):
                verdicts[claimed.letter] = InDoubt(_in_doubt_problem(), counted=True)


def _parks(claimed: Claimed, context: DeliveryContext) -> bool:
    """Whether the letter waits for a person: always under Park, and after `maxAttempts` doubtful attempts."""
    policy = context.policy.retry
    return policy.on_in_doubt == "Park" or claimed.in_doubt_count >= policy.max_attempts


def _mismatch_problem(letter: Letter) -> Problem:
    return Problem(
        Code.IDEMPOTENCY_MISMATCH,
        "message_id",
        f"{letter.identity.id} from {letter.identity.source} was published before with another payload; "
        "the first publication is kept. Give a new letter a new id",
    )


def _in_doubt_problem() -> Problem:
    return Problem(
        Code.CONNECTION_LOST_AT_END_OF_DATA,
        "smtp.end_of_data",
        "the worker died while it sent the letter; the relay may have accepted one copy",
    )
