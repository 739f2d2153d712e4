"""Records → letters that may be rendered. Malformed ones become dead letters, tombstones are passed over."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from postroom.delivery.context import DeliveryContext
from postroom.letter.event import Event, Record, parse_event, replay_id
from postroom.letter.identity import Identity, payload_digest
from postroom.letter.problems import Code, Problem, Rejected
from postroom.policy.outcomes import Malformed, Outcome, Unrenderable
from postroom.ports.ledger import Claimed, Letter, Recalled

MAX_CLOCK_SKEW = timedelta(days=1)
"""How far ahead a producer's clock may be."""


@dataclass(slots=True)
class ParsedBatch:
    """A batch after reading: what can become letters, what can't, and what is nothing at all."""

    letters: list[Letter] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    tombstones: list[Record] = field(default_factory=list)


def parse(records: Sequence[Record], context: DeliveryContext) -> ParsedBatch:
    """Read every record; one bad record never touches its neighbours."""
    batch = ParsedBatch()
    now = context.clock.now()
    oldest, newest = now - timedelta(seconds=context.policy.window), now + MAX_CLOCK_SKEW
    for record in records:
        if record.value is None:
            batch.tombstones.append(record)
        elif record.timestamp < oldest:
            batch.malformed.append(Malformed(record, (_too_old(record, context.policy.window),)))
        elif record.timestamp > newest:
            batch.malformed.append(Malformed(record, (_ahead(record),)))
        else:
            try:
                batch.letters.append(parse_record(record, context.policy.profile))
            except Rejected as rejected:
                batch.malformed.append(Malformed(record, rejected.problems))
    return batch


def parse_record(record: Record, profile: str) -> Letter:
    """One record as a letter with its identity; raises Rejected."""
    event = parse_event(record)
    identity = Identity(profile, event.source, event.id, event.recipient)
    return Letter(identity, payload_digest(event), record, event, replay=replay_id(record))


def _ahead(record: Record) -> Problem:
    return Problem(
        Code.DATED_AHEAD,
        "timestamp",
        f"the record is of {record.timestamp:%Y-%m-%d %H:%M:%S} UTC, more than a day ahead: it would pass "
        "for new long after its identity is forgotten; set the producer's clock right and publish it anew",
    )


def _too_old(record: Record, window: float) -> Problem:
    return Problem(
        Code.TOO_OLD_TO_DEDUPLICATE,
        "timestamp",
        f"the record is of {record.timestamp:%Y-%m-%d %H:%M:%S} UTC, older than the {window:.0f} s that "
        "identities are remembered (dedupe.window), so it might be a second copy; publish the event anew "
        "if it should still go out",
    )


def restore(
    recalled: Sequence[Recalled], context: DeliveryContext
) -> tuple[list[Claimed], dict[Letter, Outcome]]:
    """Letters from the ledger's own store; one that cannot be read any more gets that as its verdict."""
    claimed: list[Claimed] = []
    verdicts: dict[Letter, Outcome] = {}
    for row in recalled:
        try:
            letter = parse_record(row.record, context.policy.profile)
        except Rejected as rejected:
            letter = _unreadable(row)
            verdicts[letter] = Unrenderable(rejected.problems[0])
        claimed.append(
            Claimed(
                letter,
                row.row,
                row.received,
                row.replies,
                row.attempts,
                row.in_doubt_count,
                from_topic=False,
                worker_epoch=row.worker_epoch,
                suppressions=row.suppressions,
            )
        )
    return claimed, verdicts


def _unreadable(row: Recalled) -> Letter:
    """An event that an older release accepted and this one refuses: enough of it to settle its row."""
    identity = row.identity
    event = Event(identity.id, identity.source, row.event_type, identity.recipient, row.received, data={})
    return Letter(identity, b"", row.record, event)
