"""How values are stored in rows: times as seconds, text as UTF-8, keys in time order.

Also the transitions that notification rules get, made from a settlement or from a row, and the filter for the
letters of one profile.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, literal, true

from postroom.adapters.ledger.schema import letter
from postroom.letter.identity import Identity
from postroom.ports.ledger import Settlement, State
from postroom.ports.notifications import LetterTransition

EPOCH_BITS = 10
SEQUENCE_BITS = 12


def stamp(moment_: datetime) -> float:
    """Aware time → seconds since 1970, UTC."""
    return moment_.timestamp()


def moment(seconds: float) -> datetime:
    """Seconds since 1970 → aware UTC time."""
    return datetime.fromtimestamp(seconds, UTC)


def storable(text: str) -> str:
    """Replace characters that UTF-8 or PostgreSQL cannot store with a question mark."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def first_key(at: float) -> int:
    """The lowest key that a letter received at this time can have."""
    return int(at * 1000) << (EPOCH_BITS + SEQUENCE_BITS)


class RowKeys:
    """Time-ordered 63-bit keys: 41 bits of milliseconds, 10 of the worker's epoch, 12 of sequence.

    Rows are inserted at the end of the table, whatever their identities are. Two processes never make the
    same key as long as fewer than 1,024 are alive at once.
    """

    def __init__(self, worker_epoch: int) -> None:
        self._worker_epoch = (worker_epoch % (1 << EPOCH_BITS)) << SEQUENCE_BITS
        self._last = 0
        self._sequence = 0

    def next(self, at: float) -> int:
        """The next key; when the clock goes back or a millisecond is full, the next millisecond is used."""
        millisecond = max(int(at * 1000), self._last)
        if millisecond == self._last:
            self._sequence += 1
            if self._sequence >> SEQUENCE_BITS:
                millisecond, self._sequence = millisecond + 1, 0
        else:
            self._sequence = 0
        self._last = millisecond
        return (millisecond << (EPOCH_BITS + SEQUENCE_BITS)) | self._worker_epoch | self._sequence


def is_notifiable(settlement: Settlement) -> bool:
    """Whether a settlement changes what is known: a recalled letter that is deferred untried does not."""
    return (
        settlement.state is not State.DEFERRED
        or settlement.attempt is not None
        or settlement.claimed.from_topic
    )


def transition_of_settlement(settlement: Settlement, now: datetime) -> LetterTransition:
    """The transition of a settled letter."""
    letter_ = settlement.claimed.letter
    event = letter_.event
    return LetterTransition(
        row=settlement.claimed.row,
        identity=letter_.identity,
        event_type=event.type,
        state=settlement.state,
        at=now,
        attempts=settlement.attempts,
        code=settlement.problem.code.value if settlement.problem else "",
        reply=f"{settlement.attempt.code} {settlement.attempt.text}"
        if settlement.attempt and settlement.attempt.code
        else "",
        due=settlement.due,
        template=letter_.template,
        revision=letter_.revision,
        message_id=letter_.message_id,
        user_id=event.user_id,
        request_id=event.request_id,
        metadata=event.metadata,
    )


def transition_of_row(row: Any, state: State, code: str, at: float) -> LetterTransition:
    """The transition of a letter whose worker died; `row` holds all columns as they were before."""
    return LetterTransition(
        row=row.row,
        identity=Identity(row.profile, row.source, row.event_id, row.recipient),
        event_type=row.event_type,
        state=state,
        at=moment(at),
        attempts=row.attempts,
        code=code,
        due=moment(at) if state is State.DEFERRED else None,
        template=row.template or "",
        revision=row.revision or "",
        message_id=row.message_id or "",
        user_id=row.user_id,
        request_id=row.request_id,
        metadata=json.loads(row.metadata) if row.metadata else {},
    )


def profile_filter(profile: Any) -> ColumnElement[bool]:
    """The condition for letters of this profile (a text or a parameter); None: of every profile."""
    if profile is None:
        return true()
    wanted = literal(profile) if isinstance(profile, str) else profile
    return wanted.is_(None) | (letter.c.profile == wanted)
