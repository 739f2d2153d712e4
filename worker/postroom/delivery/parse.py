"""Parse records into letters: Record → Letter, Malformed or tombstone; Recalled → Claimed.

A record that cannot be parsed becomes a dead letter and never affects its neighbours.
"""

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
"""How far in the future a record's timestamp may be."""


@dataclass(slots=True)
class ParsedBatch:
    """A parsed batch; every record is in exactly one list."""

    letters: list[Letter] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    tombstones: list[Record] = field(default_factory=list)


def parse(records: Sequence[Record], context: DeliveryContext) -> ParsedBatch:
    """Parse every record; a malformed record does not affect the others."""
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
    """Parse one record into a letter with its identity; raises Rejected."""
    event = parse_event(record)
    identity = Identity(profile, event.source, event.id, event.recipient)
    return Letter(identity, payload_digest(event), record, event, replay=replay_id(record))


def _ahead(record: Record) -> Problem:
    return Problem(
        Code.DATED_AHEAD,
        "timestamp",
        f"the record is of {record.timestamp:%Y-%m-%d %H:%M:%S} UTC, more than a day ahead: it would count "
        "as new long after its identity is deleted; correct the producer's clock and publish the event again",
    )


def _too_old(record: Record, window: float) -> Problem:
    return Problem(
        Code.TOO_OLD_TO_DEDUPLICATE,
        "timestamp",
        f"the record is of {record.timestamp:%Y-%m-%d %H:%M:%S} UTC, older than the {window:.0f} s for "
        "which identities are stored (dedupe.window), so it might be a second copy; publish the event again "
        "if it should still be sent",
    )


def restore(
    recalled: Sequence[Recalled], context: DeliveryContext
) -> tuple[list[Claimed], dict[Letter, Outcome]]:
    """Restore letters from their ledger rows; a row that cannot be parsed any more is Unrenderable."""
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
    """Build a minimal letter to settle the row of an event that only an older release accepted."""
    identity = row.identity
    event = Event(identity.id, identity.source, row.event_type, identity.recipient, row.received, data={})
    return Letter(identity, b"", row.record, event)
