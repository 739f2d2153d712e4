"""What a row found at claim time allows: (state, whose, payload) → Found.

A claim of a dead process is taken over; one that died in `sending` is in doubt; one in living hands
holds its record's offset open until it settles.

Letters → claims: who may send, who is on it already, and what was there before.

Fresh letters are claimed outright. A row that was there is decided on by the table in `decide.takeover`,
and taken over only on condition that nobody changed it in between.
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
    """What the claimer of an identity meets."""

    SETTLED = "settled"
    """The event is safe in a final or waiting row: nothing to do."""
    HELD = "held"
    """Somebody alive is on it."""
    TAKE = "take"
    """A dead or released claim whose content never left."""
    DOUBT = "doubt"
    """A dead claim whose dot may have left."""
    MISMATCH = "mismatch"
    """The identity is known with another payload."""


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
    """What came of claiming a batch."""

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
    for answer in await context.ledger.claim(letters, context.clock.now()):
        match answer:
            case Claimed():
                claims.claimed.append(answer)
            case ReplayConsumed():
                claims.duplicates.append(answer.letter.record)
            case ExistingRow():
                _sort(answer, claims, takeovers)
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
    """Whether a person decides: always under Park, and after as many doubts as there may be answers."""
    policy = context.policy.retry
    return policy.on_in_doubt == "Park" or claimed.in_doubt_count >= policy.max_attempts


def _mismatch_problem(letter: Letter) -> Problem:
    return Problem(
        Code.IDEMPOTENCY_MISMATCH,
        "message_id",
        f"{letter.identity.id} from {letter.identity.source} was published before with another payload; "
        "the first one stands. Give a new letter a new id",
    )


def _in_doubt_problem() -> Problem:
    return Problem(
        Code.CONNECTION_LOST_AT_END_OF_DATA,
        "smtp.dot",
        "the worker died after the letter may have been handed over; one copy may have arrived",
    )
