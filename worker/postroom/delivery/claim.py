"""Letters → claims: who may send, who is on it already, and what was there before.

Fresh letters are claimed outright. A row that was there is decided on by the table in `decide.takeover`,
and taken over only on condition that nobody changed it in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from postroom.delivery.decide.takeover import Found, meet
from postroom.delivery.outcome import InDoubt, Malformed
from postroom.delivery.post import Post
from postroom.delivery.render import Verdicts
from postroom.failpoint import reach
from postroom.letter.event import Record
from postroom.letter.problems import Code, Problem
from postroom.ports.ledger import Claimed, ExistingRow, Letter, ReplayConsumed


@dataclass(slots=True)
class Claims:
    """What came of claiming a batch."""

    claimed: list[Claimed] = field(default_factory=list)
    known: list[Record] = field(default_factory=list)
    held: list[Record] = field(default_factory=list)
    mismatched: list[Malformed] = field(default_factory=list)
    taken_in_doubt: int = 0


async def claim(letters: Sequence[Letter], verdicts: Verdicts, post: Post) -> Claims:
    """Claim a batch in one commit (two, when dead claims are taken over).

    A claim that died in `sending` gets the verdict InDoubt under `onInDoubt: Park`; else it is sent again.
    """
    claims = Claims()
    if not letters:
        return claims
    takeovers: list[ExistingRow] = []
    for answer in await post.ledger.claim(letters, post.clock.now()):
        match answer:
            case Claimed():
                claims.claimed.append(answer)
            case ReplayConsumed():
                claims.known.append(answer.letter.record)
            case ExistingRow():
                _sort(answer, claims, takeovers)
    if takeovers:
        await _take_over(takeovers, claims, verdicts, post)
    reach("claimed")
    return claims


def _sort(row: ExistingRow, claims: Claims, takeovers: list[ExistingRow]) -> None:
    match meet(row.state, row.owner_alive, row.same_payload):
        case Found.SETTLED:
            claims.known.append(row.letter.record)
        case Found.HELD:
            claims.held.append(row.letter.record)
        case Found.MISMATCH:
            claims.mismatched.append(Malformed(row.letter.record, (_mismatch(row.letter),)))
        case Found.TAKE | Found.DOUBT:
            takeovers.append(row)


async def _take_over(rows: list[ExistingRow], claims: Claims, verdicts: Verdicts, post: Post) -> None:
    taken = await post.ledger.take_over(rows, post.clock.now())
    for row, claimed in zip(rows, taken, strict=True):
        if claimed is None:
            claims.held.append(row.letter.record)
            continue
        claims.claimed.append(claimed)
        if claimed.was_sending:
            claims.taken_in_doubt += 1
            if _parks(claimed, post):
                verdicts[claimed.letter] = InDoubt(_doubt(), counted=True)


def _parks(claimed: Claimed, post: Post) -> bool:
    """Whether a person decides: always under Park, and after as many doubts as there may be answers."""
    policy = post.house.policy
    return policy.on_in_doubt == "Park" or claimed.in_doubt_count >= policy.max_attempts


def _mismatch(letter: Letter) -> Problem:
    return Problem(
        Code.IDEMPOTENCY_MISMATCH,
        "message_id",
        f"{letter.identity.id} from {letter.identity.source} was published before with another payload; "
        "the first one stands. Give a new letter a new id",
    )


def _doubt() -> Problem:
    return Problem(
        Code.CONNECTION_LOST_AT_END_OF_DATA,
        "smtp.dot",
        "the worker died after the letter may have been handed over; one copy may have arrived",
    )
