"""Reports that came back, in the ledger: kept with their letter, and what they prove applied to it.

Each function runs inside one transaction. Nothing is locked before it is changed: a letter that changed hands
meanwhile is met as it was not expected, and its report waits for the next sweep.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore  # SQLite compiles it just as well
from sqlalchemy.engine import Connection

from postroom.adapters.ledger import identities, notices, suppressions
from postroom.adapters.ledger.fates import fate_of_row
from postroom.adapters.ledger.rows import legible, moment
from postroom.adapters.ledger.schema import attempt, identity, letter, report, worker
from postroom.letter.dsn import ReportEntry, ReportKind
from postroom.letter.identity import Identity, is_pseudonym
from postroom.letter.problems import Code, Problem
from postroom.letter.verp import hash_of_tag, tag_matches
from postroom.ports.notices import Herald
from postroom.ports.returns import IN_HAND, MOST_REPORTS, PROVES, House, Meaning, Returned, Taken
from postroom.ports.state import State
from postroom.ports.suppression import Reason, Suppression

LONGEST_CONTENT = 65_536
SWEPT = 250

_AT_SLOT = (
    select(letter)
    .join(identity, letter.c.row == identity.c.row)
    .where(identity.c.bucket.in_(bindparam("buckets", expanding=True)), identity.c.hash == bindparam("hash"))
)
_COUNT = select(func.count()).where(report.c.letter == bindparam("letter"))
_KEEP = (
    insert_or_ignore(report)
    .on_conflict_do_nothing(index_elements=["letter", "fingerprint"])
    .returning(report.c.row)
)
_AS_SAID = ("row", "kind", "status", "text", "mta")
_WAITING = (
    select(letter, report.c.proves, report.c.suppress)
    .add_columns(*(report.c[name].label(f"report_{name}") for name in _AS_SAID))
    .join(report, report.c.letter == letter.c.row)
    .where(report.c.pending)
    .order_by(report.c.row)
)
_SETTLED = _WAITING.where(letter.c.state.not_in([state.value for state in IN_HAND])).limit(SWEPT)
_OF_LETTERS = _WAITING.where(letter.c.row.in_(bindparam("rows", expanding=True)))
_MOVE = (
    update(letter)
    .where(
        letter.c.row == bindparam("r"),
        letter.c.state == bindparam("before"),
        letter.c.generation == bindparam("g"),
    )
    .values(
        state=bindparam("after"),
        code=bindparam("told"),
        reason=bindparam("why"),
        due=None,
        event=None,
        updated_at=bindparam("now", type_=letter.c.updated_at.type),
    )
)
_CAPTURED = select(attempt.c.id).where(
    attempt.c.row == bindparam("r"), attempt.c.result == State.CAPTURED.value
)
_APPLIED = update(report).where(report.c.row == bindparam("r")).values(pending=False)
_CARRIER = select(func.max(worker.c.generation)).where(worker.c.process.like(bindparam("kin")))


@dataclass(frozen=True, slots=True)
class Proof:
    """A report as it is applied to its letter."""

    row: int
    said: ReportEntry
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class Scene:
    """What the statements of one transaction share."""

    connection: Connection
    heralds: Callable[[str], Sequence[Herald]]
    """By profile."""
    at: float
    kin: str | None = None
    """The processes that carry the notices; None: those of the letter's profile."""

    def carrier(self, profile: str) -> int:
        """The worker that the notices of a profile are given to: its newest, or its kin when that one is
        dead.
        """
        kin = self.kin or f"{profile} %"
        return self.connection.execute(_CARRIER, {"kin": kin}).scalar() or 0


def take(scene: Scene, returned: Sequence[Returned], houses: Mapping[str, House]) -> list[Taken]:
    """Keep each report with its letter; see ports.returns."""
    buckets = sorted(identities.buckets(scene.connection))
    return [_take(scene, one, _find(scene.connection, one.tag, buckets), houses) for one in returned]


def _find(connection: Connection, tag: bytes, buckets: Sequence[int]) -> Any | None:
    """The letter's row. A foreign identity may have its slot: then it has the next."""
    slot = hash_of_tag(tag)
    while rows := connection.execute(_AT_SLOT, {"buckets": buckets, "hash": slot}).all():
        for row in rows:
            if tag_matches(tag, _identity(row)):
                return row
        slot = (slot + 1) % identities.HASH_SPACE
    return None


def _take(scene: Scene, one: Returned, row: Any | None, houses: Mapping[str, House]) -> Taken:
    if row is None or row.profile not in houses:
        return Taken()
    taken = Taken(profile=row.profile)
    if scene.connection.execute(_COUNT, {"letter": row.row}).scalar_one() >= MOST_REPORTS:
        return replace(taken, full=True)
    if is_pseudonym(row.recipient):  # words may name the person, who was erased
        one = replace(one, said=[replace(said, text="") for said in one.said], content=b"")
    kept: list[Proof] = []
    for number, said in enumerate(one.said):
        meaning = houses[row.profile].judge(said, row.recipient)
        values = _values(one, said, meaning) | {"letter": row.row, "at": scene.at}
        values |= {"fingerprint": f"{one.fingerprint}-{number}"}
        if (made := scene.connection.execute(_KEEP, values).scalar()) is not None:
            kept.append(Proof(made, said, meaning))
    if not kept:
        return replace(taken, known=True)
    return _apply_all(scene, taken, row, [proof for proof in kept if _means_something(proof.meaning)])


def sweep(scene: Scene, whose: ColumnElement[bool]) -> list[Taken]:
    """Apply what waited for a worker that is done with its letter; of these letters."""
    rows = scene.connection.execute(_SETTLED.where(whose)).all()
    return [_apply_all(scene, Taken(row.profile), row, [_proof(row)]) for row in _as_they_are(rows)]


def resolve(scene: Scene, rows: Sequence[int], dead: Collection[int]) -> int:
    """Apply what waits for those of these letters whose worker has died; how many changed by it.

    Called before anybody takes one of them up: it was in the relay's hands, so that it is not sent again.
    """
    if not rows:
        return 0
    found = scene.connection.execute(_OF_LETTERS, {"rows": list(rows)}).all()
    changed = 0
    for row in _as_they_are([one for one in found if one.generation in dead]):
        changed += bool(_apply_all(scene, Taken(row.profile), row, [_proof(row)], of_the_dead=True).changes)
    return changed


def _as_they_are(rows: Sequence[Any]) -> list[Any]:
    """One report of a letter at a time, the oldest: it may change what the next one meets."""
    return list({row.row: row for row in reversed(rows)}.values())


def _apply_all(
    scene: Scene, taken: Taken, row: Any, proofs: Sequence[Proof], of_the_dead: bool = False
) -> Taken:
    state = State(row.state)
    if proofs and state in IN_HAND and not of_the_dead:
        return replace(taken, waits=True)
    changes: list[State] = []
    suppressed: list[Reason] = []
    for proof in proofs:
        after = proof.meaning.proves
        if after is not None and (state in PROVES[after] or (of_the_dead and state in IN_HAND)):
            if not _move(scene, row, state, proof):
                return replace(taken, waits=True)  # somebody has it in hand now
            state = after
            changes.append(after)
        if _suppress(scene, row, proof):
            assert proof.meaning.suppress is not None
            suppressed.append(proof.meaning.suppress)
        scene.connection.execute(_APPLIED, {"r": proof.row})
    return replace(taken, changes=tuple(changes), suppressed=tuple(suppressed))


def _move(scene: Scene, row: Any, before: State, proof: Proof) -> bool:
    after, said = proof.meaning.proves, proof.said
    assert after is not None
    bounced = after is State.BOUNCED
    values = {"r": row.row, "g": row.generation, "before": before.value, "after": after.value}
    values |= {"now": scene.at}
    values |= {"told": Code.BOUNCED.value if bounced else None, "why": _why(said) if bounced else None}
    if scene.connection.execute(_MOVE, values).rowcount != 1:
        return False
    if heralds := scene.heralds(row.profile):
        fate = fate_of_row(row, after, Code.BOUNCED.value if bounced else "", scene.at)
        told = {"kind": said.kind.value} | ({"status": said.status} if said.status else {})
        fate = replace(fate, report=told, reply=said.text if bounced else "")
        notices.tell(scene.connection, heralds, scene.carrier(row.profile), [fate])
    return True


def _suppress(scene: Scene, row: Any, proof: Proof) -> bool:
    """What is captured was sent to nobody: its reports are rehearsals, and fill no list."""
    reason = proof.meaning.suppress
    if (
        reason is None
        or is_pseudonym(row.recipient)
        or scene.connection.execute(_CAPTURED, {"r": row.row}).first()
    ):
        return False
    note = f"{proof.said.mta}: {proof.said.text}" if proof.said.mta else proof.said.text
    entry = Suppression(row.profile, row.recipient, reason, moment(scene.at), note)
    return suppressions.add(scene.connection, [entry]) == 1


def _why(said: ReportEntry) -> str:
    who, words = said.mta or "a mail system", said.text or said.status or "it gave no reason"
    return legible(str(Problem(Code.BOUNCED, "recipient", f"{who} could not deliver it: {words}")))


def _values(one: Returned, said: ReportEntry, meaning: Meaning) -> dict[str, Any]:
    unread = said.kind is ReportKind.UNPARSED
    return {
        "kind": said.kind.value,
        "status": said.status,
        "text": legible(said.text),
        "mta": legible(said.mta),
        "proves": meaning.proves.value if meaning.proves else None,
        "suppress": meaning.suppress.value if meaning.suppress else None,
        "pending": _means_something(meaning),
        "content": one.content[:LONGEST_CONTENT] if unread else None,
    }


def _means_something(meaning: Meaning) -> bool:
    return meaning.proves is not None or meaning.suppress is not None


def _proof(row: Any) -> Proof:
    meaning = Meaning(
        State(row.proves) if row.proves else None, Reason(row.suppress) if row.suppress else None
    )
    said = ReportEntry(
        ReportKind(row.report_kind), row.report_status, row.report_text or "", row.report_mta or ""
    )
    return Proof(row.report_row, said, meaning)


def _identity(row: Any) -> Identity:
    return Identity(row.profile, row.source, row.event_id, row.recipient)
